"""A call session: one agent's part in one call, as far as the evidence goes. Nothing in it is invented.

Source: the design, sections 2.3 and 4. What was inferred says so by its ``*_source`` and carries bounds.
"""

from pydantic import BaseModel, ConfigDict

from events.times import Utc
from events.words import Word


class Shape(BaseModel):
    """Base of every shape on a topic: immutable; unknown fields are ignored, so that later versions can add some."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Direction(Word):
    """Seen from the PBX; `UNKNOWN` when the sender did not say or the word is not known."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"
    INTERNAL = "internal"
    UNKNOWN = "unknown"


class Status(Word):
    """Whether the call goes on (`OPEN`), its end was reported (`ENDED`), or only inferred (`END_MISSED`)."""

    OPEN = "open"
    ENDED = "ended"
    END_MISSED = "end_missed"


class Outcome(Word):
    """What came of the call: `MISSED` is an inbound call, `NOT_ANSWERED` an outbound one that nobody took."""

    ANSWERED = "answered"
    MISSED = "missed"
    NOT_ANSWERED = "not_answered"
    UNKNOWN = "unknown"


class StartedAtSource(Word):
    """Where `started_at` is from: the PBX, end minus duration, the time of receipt, or nowhere."""

    REPORTED = "reported"
    DERIVED = "derived"
    RECEIVED = "received"
    UNKNOWN = "unknown"


class EndedAtSource(Word):
    """Where `ended_at` is from: the PBX, start plus duration, the time of receipt, or inferred (then it is null)."""

    REPORTED = "reported"
    DERIVED = "derived"
    RECEIVED = "received"
    INFERRED = "inferred"


class EndReason(Word):
    """Why the call is not open any more; but for `RELEASED` (a webhook) and `HISTORY` (the PBX's own) inferences."""

    RELEASED = "released"
    TIMEOUT = "timeout"
    SUPERSEDED = "superseded"
    MOVED = "moved"
    PARTY_LEFT = "party_left"
    ABSENT_FROM_PBX = "absent_from_pbx"
    HISTORY = "history"


class Agent(Shape):
    """Who held the call at the PBX. The extension is text and keeps its leading zeros."""

    extension: str | None
    email: str | None


class Between(Shape):
    """Bounds of an inferred end; `latest` is null when nothing bounds it from above."""

    earliest: Utc | None
    latest: Utc | None


class Session(Shape):
    """One call of one agent after one event about it.

    `caller` and `callee` are as sent, the `*_e164` forms beside them where they could be had. `duration_s` is
    whole seconds from answer to end as reported; `span_s` whole seconds from start to end, when both were reported
    (ringing included). `linked_session_id` is set on a leg that moved or whose party left: the leg of the same external
    call, with another agent, that showed it. `first_received_at` is when ingest received the first evidence;
    corrections never change it.
    """

    session_id: str
    pbx: str
    agent: Agent
    direction: Direction
    caller: str | None
    caller_e164: str | None
    callee: str | None
    callee_e164: str | None
    status: Status
    outcome: Outcome
    started_at: Utc | None
    started_at_source: StartedAtSource
    ended_at: Utc | None
    ended_at_source: EndedAtSource | None
    ended_between: Between | None
    end_reason: EndReason | None
    duration_s: int | None
    span_s: int | None
    recording_url: str | None
    call_id: str | None
    linked_session_id: str | None = None
    first_received_at: Utc
    revision: int
