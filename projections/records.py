"""What is shown of the webhooks behind a call: each byte for byte, or why it cannot be. Pure."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from events import bodies, envelope, times
from events.envelope import EnvelopeError, Headers, Type
from events.words import Word
from projections.forgetting import Forgotten

RECORDS_MAX: Final = 100
"""Of one call, the first ones; two or three are usual."""
Json = dict[str, Any]


class Missing(Word):
    """Why a record has no body: retention took it, somebody in it was forgotten, or it tells of other calls, too."""

    EXPIRED = "expired"
    FORGOTTEN = "forgotten"
    OF_OTHERS = "of_others"


class Place(NamedTuple):
    """Where a record lay when it led to an event, and its ``ce_id``."""

    partition: int
    offset: int
    ce_id: str


class Raw(NamedTuple):
    """What lies there now."""

    headers: Headers
    value: bytes


def places_of(revisions: Sequence[Mapping[str, Any]]) -> list[Place]:
    """The records behind a call's revisions, each once, in the order of the log."""
    found = {Place(**cause) for event in revisions for cause in event["causes"]}
    return sorted(found)[:RECORDS_MAX]


def shown_of(place: Place, raw: Raw | None, forgotten: Forgotten, first_received_at: datetime) -> Json:
    """One record for an answer; `first_received_at` is the call's, by which it counts as forgotten."""
    shown: Json = {**place._asdict(), "type": None, "received_at": None, "content_type": None}
    shown |= {"body": None, "body_base64": None, "missing": None}
    try:
        said = None if raw is None else envelope.decode(raw.headers)
    except EnvelopeError:
        said = None
    if raw is None or said is None or said.id != place.ce_id:  # another topic in its place has other records
        return shown | {"missing": Missing.EXPIRED}
    shown |= {"type": said.type, "received_at": times.to_text(said.time), "content_type": said.content_type}
    if said.type is not Type.WEBHOOK_RECEIVED:
        return shown | {"missing": Missing.OF_OTHERS}
    fields = bodies.fields_of(raw.value, said.content_type) or {}
    if any(forgotten.covers(text, first_received_at) for text in _texts(fields)):
        return shown | {"missing": Missing.FORGOTTEN}
    try:
        return shown | {"body": raw.value.decode()}
    except UnicodeDecodeError:
        return shown | {"body_base64": base64.b64encode(raw.value).decode()}


def _texts(value: object) -> Iterator[str]:
    """Whatever stands in a body, under any name: a number may stand anywhere."""
    if isinstance(value, Mapping):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)
    elif value is not None:
        yield str(value)
