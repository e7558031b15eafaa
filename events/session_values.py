"""Session events as JSON values, for who reads many: in half the time that the models take.

The types are those of `session_events` as their JSON has them, and strict: they take what stands just as `encode`
writes it. Everything else is read by the models, so what can be read, how, and what is said of what cannot, is theirs
alone. Both ways give equal values.
"""

from datetime import datetime
from functools import lru_cache, reduce
from operator import or_
from types import GenericAlias, UnionType
from typing import Annotated, Any, Final, Literal, Union, cast, get_args, get_origin

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from events import session_events, times
from events.session_events import CallCorrected, CallEnded, CallEndMissed, CallStarted, FeedProgress
from events.words import Word

Json = dict[str, Any]

_TIME: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}(\.[0-9]{6})?Z$"
_NO_FRACTION: Final = ".000000Z"
_TIMES_KNOWN: Final = 8_192


def read(value: bytes) -> Json | FeedProgress:
    """A call event as the JSON values that `encode` writes, or a progress; raises ValidationError as `decode` does."""
    written = as_encoded(value)
    if written is not None:
        return written
    event = session_events.decode(value)
    return event if isinstance(event, FeedProgress) else event.model_dump(mode="json")


def as_encoded(value: bytes) -> Json | FeedProgress | None:
    """The same of what stands just as it is written today; null: it does not."""
    try:
        event = _ADAPTER.validate_json(value)
    except ValidationError:
        return None
    return event if isinstance(event, FeedProgress) or _are_times(event) else None


def _are_times(event: Json) -> bool:
    """Whether all times are on the calendar and as they are written."""
    session = event["session"]
    between = session["ended_between"]
    return (
        _is_written(event["time"])
        and _is_written(session["first_received_at"])
        and _is_written(session["started_at"])
        and _is_written(session["ended_at"])
        and (between is None or all(map(_is_written, between.values())))
    )


@lru_cache(_TIMES_KNOWN)
def _is_written(text: str | None) -> bool:
    """Whether a text of the form of a time is one, with six digits or no fraction at all; or there is none."""
    if text is None:
        return True
    try:
        return moment(text) is not None and not text.endswith(_NO_FRACTION)
    except ValueError:
        return False


@lru_cache(_TIMES_KNOWN)
def moment(text: str) -> datetime:
    """The time that a text of an event says; the events of a call repeat each other's."""
    return times.from_text(text)


def _as_json(kind: Any) -> Any:
    """The strict type of the JSON of a field of this type."""
    match get_origin(kind) or kind:
        case origin if origin is Annotated or origin is AwareDatetime:  # the one annotated type is `Utc`
            return Annotated[str, Field(pattern=_TIME)]
        case origin if origin is Union or origin is UnionType:
            return reduce(or_, map(_as_json, get_args(kind)))
        case origin if origin is tuple or origin is dict:
            inner = tuple(_as_json(one) for one in get_args(kind) if one is not ...)
            return GenericAlias(list if origin is tuple else dict, inner)
        case type() as origin if issubclass(origin, Word):
            return Literal[tuple(word.value for word in origin)]
        case type() as origin if issubclass(origin, BaseModel):
            fields = {name: _as_json(field.annotation) for name, field in origin.model_fields.items()}
            values = cast("Any", TypedDict)(origin.__name__, fields)
            values.__pydantic_config__ = ConfigDict(strict=True, cache_strings="none")
            return values
        case _:
            return kind


_EVENTS: Final = reduce(or_, map(_as_json, (CallStarted, CallEnded, CallEndMissed, CallCorrected)))
_SAID: Final[Any] = Annotated[_EVENTS | FeedProgress, Field(discriminator="type")]
_ADAPTER: Final[TypeAdapter[Any]] = TypeAdapter(_SAID)
