"""What happened to a session: the values on ``threecx.call-sessions``, a union tagged by `type`.

A consumer needs one rule to converge: of all events of a `session_id`, the one with the highest `revision` holds.
Source: the design, section 2.4.
"""

import hashlib
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, JsonValue, TypeAdapter

from events.session import Session, Shape
from events.times import Utc
from events.words import Word


class Cause(Shape):
    """A record of ``threecx.webhooks`` that led to an event."""

    partition: int
    offset: int
    ce_id: str


class Reason(Word):
    """The rule that decided; the design's table in section 4 gives each its row."""

    STARTED = "started"
    END_MATCHED_BY_CALL_ID = "end_matched_by_call_id"
    END_MATCHED_BY_PARTY = "end_matched_by_party"
    END_MATCHED_WITHHELD = "end_matched_withheld"
    END_WITHOUT_START = "end_without_start"
    NOT_TAKEN = "not_taken"
    START_AFTER_END = "start_after_end"
    MORE_DETAIL = "more_detail"
    TRUE_END = "true_end"
    TIMEOUT = "timeout"
    SUPERSEDED = "superseded"
    MOVED = "moved"
    PARTY_LEFT = "party_left"
    ABSENT_FROM_PBX = "absent_from_pbx"
    END_FROM_HISTORY = "end_from_history"


class Change(Shape):
    """One field of the session before and after a correction, as JSON values."""

    before: JsonValue
    after: JsonValue


class _SessionEvent(Shape):
    """The fields of every session event; `time` is the received time of the last cause."""

    id: str
    time: Utc
    session_id: str
    revision: int
    reason: Reason
    session: Session
    causes: tuple[Cause, ...]


class CallStarted(_SessionEvent):
    """A call began, as far as is known now."""

    type: Literal["call.started"] = "call.started"


class CallEnded(_SessionEvent):
    """A call's end was reported."""

    type: Literal["call.ended"] = "call.ended"


class CallEndMissed(_SessionEvent):
    """A call cannot be open any more, and nobody reported its end: bounds, no duration."""

    type: Literal["call.end_missed"] = "call.end_missed"


class CallCorrected(_SessionEvent):
    """Later evidence changed what was said before; `changed` names the fields of the session, but for `revision`."""

    type: Literal["call.corrected"] = "call.corrected"
    changed: dict[str, Change]


class FeedProgress(Shape):
    """How far the processors have come in a partition; no session. Consumers of sessions skip it.

    `live_time_us`: microseconds during which ingest was there (the clock of all deadlines). `stream_time`: the latest
    `ce_time` seen on the partition that moved live time. `received_at`: per PBX the latest received time of a webhook.
    """

    type: Literal["threecx.feed.progress"] = "threecx.feed.progress"
    id: str
    time: Utc
    live_time_us: int
    stream_time: Utc
    received_at: dict[str, Utc]


CallEvent = CallStarted | CallEnded | CallEndMissed | CallCorrected
SessionTopicEvent = Annotated[CallEvent | FeedProgress, Field(discriminator="type")]

_ADAPTER: TypeAdapter[CallEvent | FeedProgress] = TypeAdapter(SessionTopicEvent)


def encode(event: CallEvent | FeedProgress) -> bytes:
    """The event as JSON: fields in declared order, no blanks, so that equal events are equal bytes."""
    return event.__pydantic_serializer__.to_json(event)


def decode(value: bytes) -> CallEvent | FeedProgress:
    """The event in a record's value; raises pydantic.ValidationError (a ValueError) with what is wrong."""
    return _ADAPTER.validate_json(value)


def session_id_of(first_cause: str) -> str:
    """The id of the session that the record with this ``ce_id`` opened: the same on every replay."""
    return hashlib.blake2b(first_cause.encode(), digest_size=12, person=b"session").hexdigest()


def event_id_of(session_id: str, revision: int, causes: Iterable[str]) -> str:
    """The ``ce_id`` of a session event: from its causes' ids, never from offsets, so that a repeat is recognisable."""
    text = "\n".join([session_id, str(revision), *causes])
    return hashlib.blake2b(text.encode(), digest_size=16, person=b"session-event").hexdigest()
