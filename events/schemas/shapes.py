"""JSON Schemas (2020-12) from the shapes. Pure.

They say what a consumer can rely on, not what today's code happens to write:

1. a field with a default (but a tag) came later: older messages lack it, so it is not required;
2. more fields may come, so nothing forbids them;
3. lists of rules grow, so their values are told by ``x-extensible-enum``, which is an annotation;
4. times are in UTC and say so by a ``Z``.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from pydantic import BaseModel

from events.envelope import Type
from events.schemas import headers
from events.session_events import CallCorrected, CallEnded, CallEndMissed, CallStarted, FeedProgress

Schema = dict[str, Any]

EVENTS: Final[Mapping[str, type[BaseModel]]] = MappingProxyType(
    {
        Type.CALL_STARTED.value: CallStarted,
        Type.CALL_ENDED.value: CallEnded,
        Type.CALL_END_MISSED.value: CallEndMissed,
        Type.CALL_CORRECTED.value: CallCorrected,
        Type.FEED_PROGRESS.value: FeedProgress,
    }
)
"""The value of a record on ``threecx.call-sessions``, by its ``ce_type``."""
HEADERS: Final[Mapping[str, type[BaseModel]]] = MappingProxyType(
    {
        "headers.session-event": headers.SessionEventHeaders,
        "headers.webhook": headers.WebhookHeaders,
        "headers.tick": headers.TickHeaders,
        "headers.poll": headers.PollHeaders,
        "headers.dead-letter": headers.DeadLetterHeaders,
    }
)
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
GROWING: Final = frozenset({"Reason", "EndReason"})
TIME: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z$"


def schemas() -> dict[str, Schema]:
    """Every schema by its name, each whole in itself."""
    return {
        name: {"$schema": DIALECT, "$id": f"urn:callstream:{name}", **schema_of(model)}
        for name, model in {**EVENTS, **HEADERS}.items()
    }


def schema_of(model: type[BaseModel]) -> Schema:
    """The schema of one shape as it is written."""
    schema: Schema = model.model_json_schema(mode="serialization")
    for one in schema.get("$defs", {}).values():
        _open(one)
    for one in _parts(schema):
        _settle(one)
    return schema


def _parts(schema: Any) -> Iterator[Schema]:
    """Each object in the schema, whatever its place; names of fields included, which do no harm."""
    if isinstance(schema, dict):
        yield schema
        schema = schema.values()
    elif not isinstance(schema, list):
        return
    for one in list(schema):
        yield from _parts(one)


def _open(definition: Schema) -> None:
    if definition.get("title") in GROWING:
        definition["x-extensible-enum"] = definition.pop("enum")


def _settle(part: Schema) -> None:
    if part.get("format") == "date-time":
        part["pattern"] = TIME
    if part.get("type") != "object" or "properties" not in part:
        return
    required = []
    for name, field in part["properties"].items():
        field.pop("title", None)
        came_later = field.pop("default", field) is not field and "const" not in field
        if not came_later:
            required.append(name)
    part["required"] = required
