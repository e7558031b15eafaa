"""The model's calls: what is known of one, and the session that it makes in JSON."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tests.simulation.comparing import Sides, external
from tests.simulation.facts import Number

ZERO = timedelta(0)


@dataclass(frozen=True, slots=True)
class Origin:
    """The record that said it."""

    offset: int
    ce_id: str
    received_at: datetime
    body: bytes


@dataclass(frozen=True, slots=True)
class Start:
    """A start as reported."""

    origin: Origin
    started_at: datetime | None

    @property
    def moment(self) -> datetime:
        """As reported, else as received."""
        return self.started_at or self.origin.received_at


@dataclass(frozen=True, slots=True)
class End:
    """An end as reported."""

    origin: Origin
    started_at: datetime | None
    ended_at: datetime | None
    duration_s: int | None
    outcome: str
    recording_url: str | None

    @property
    def moment(self) -> datetime:
        """As reported, else as received."""
        return self.ended_at or self.origin.received_at


@dataclass(frozen=True, slots=True)
class Inference:
    """Why a call without a reported end is not open."""

    reason: str
    earliest: datetime
    latest: datetime | None
    contradiction: Origin | None


@dataclass(frozen=True, slots=True)
class Mark:
    """The grace runs since then, because of this newer start."""

    since_us: int
    start: Start


@dataclass(slots=True, eq=False)
class Leg:
    """One call of one agent; what was reported and what was inferred of it."""

    session_id: str
    key: str
    pbx: str
    extension: str | None
    email: str | None
    direction: str
    caller: Number
    callee: Number
    call_id: str | None
    opened_us: int
    first_received_at: datetime
    start: Start | None = None
    end: End | None = None
    inference: Inference | None = None
    mark: Mark | None = None
    closed_us: int | None = None
    linked: str | None = None
    revision: int = 0

    @property
    def is_open(self) -> bool:
        """No end, neither reported nor inferred."""
        return self.end is None and self.inference is None

    @property
    def started(self) -> Start:
        """The start of a call that has one."""
        assert self.start is not None
        return self.start

    @property
    def ended(self) -> End:
        """The end of a call of which it was reported."""
        assert self.end is not None
        return self.end

    @property
    def begun(self) -> datetime:
        """The moment of the start of a call that has one."""
        return self.started.moment

    @property
    def outcome(self) -> str:
        """What came of it, as reported."""
        return self.end.outcome if self.end is not None else "unknown"

    @property
    def mail(self) -> str | None:
        """The e-mail for comparison."""
        return None if self.email is None else self.email.lower()

    @property
    def sides(self) -> Sides:
        """Who spoke to whom, and which way."""
        return self.direction, self.caller, self.callee

    @property
    def party(self) -> Number | None:
        """The external one, where the direction tells."""
        return external(self.direction, self.caller, self.callee)

    def copy(self) -> Leg:
        """As it is now."""
        return copy.copy(self)

    def fill(self, event: Leg) -> None:
        """Take what was not known from the event; what was known stays."""
        self.extension = event.extension if self.extension is None else self.extension
        self.email = event.email if self.email is None else self.email
        self.direction = event.direction if self.direction == "unknown" else self.direction
        self.caller = event.caller if self.caller.text is None else self.caller
        self.callee = event.callee if self.callee.text is None else self.callee
        self.call_id = event.call_id if self.call_id is None else self.call_id


def when_begun(leg: Leg) -> tuple[datetime, datetime, str]:
    """The order of starts; of equal times the first come is the older."""
    return leg.begun, leg.first_received_at, leg.session_id


def rfc3339(at: datetime) -> str:
    """As JSON has it."""
    return at.isoformat()[:-6] + "Z"


def _text(at: datetime | None) -> str | None:
    return None if at is None else rfc3339(at)


def told_of(leg: Leg) -> dict[str, Any]:
    """The session as JSON values."""
    end, inference = leg.end, leg.inference
    started_at, source = _started(leg)
    span_s = None
    if source == "reported" and started_at is not None and end is not None and end.ended_at is not None:
        span_s = (end.ended_at - started_at) // timedelta(seconds=1) if end.ended_at >= started_at else None
    ended_source = None
    if end is not None:
        ended_source = "received" if end.ended_at is None else "reported"
    elif inference is not None:
        ended_source = "inferred"
    between = None if inference is None else {"earliest": _text(inference.earliest), "latest": _text(inference.latest)}
    return {
        "session_id": leg.session_id,
        "pbx": leg.pbx,
        "agent": {"extension": leg.extension, "email": leg.email},
        "direction": leg.direction,
        "caller": leg.caller.text,
        "caller_e164": leg.caller.e164,
        "callee": leg.callee.text,
        "callee_e164": leg.callee.e164,
        "status": "open" if leg.is_open else "ended" if end is not None else "end_missed",
        "outcome": leg.outcome,
        "started_at": _text(started_at),
        "started_at_source": source,
        "ended_at": None if end is None else rfc3339(end.moment),
        "ended_at_source": ended_source,
        "ended_between": between,
        "end_reason": "released" if end is not None else None if inference is None else inference.reason,
        "duration_s": None if end is None else end.duration_s,
        "span_s": span_s,
        "recording_url": None if end is None else end.recording_url,
        "call_id": leg.call_id,
        "linked_session_id": leg.linked,
        "first_received_at": rfc3339(leg.first_received_at),
        "revision": leg.revision,
    }


def _started(leg: Leg) -> tuple[datetime | None, str]:
    if leg.start is not None and leg.start.started_at is not None:
        return leg.start.started_at, "reported"
    if leg.end is not None and leg.end.started_at is not None:
        return leg.end.started_at, "reported"
    if leg.start is not None:
        return leg.start.origin.received_at, "received"
    if leg.end is not None and leg.end.duration_s is not None:
        return leg.end.moment - timedelta(seconds=leg.end.duration_s), "derived"
    return None, "unknown"


def changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """The fields that differ, before and after; the revision always does."""
    return {
        name: {"before": before[name], "after": value}
        for name, value in after.items()
        if before[name] != value and name != "revision"
    }
