"""The call log as a fold: of all events of a session, the one with the highest revision holds. Pure.

A row repeats from the session what is searched, ordered or counted by; the session itself stands in `document`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any

from events import numbers
from events.session import Session, Status
from events.session_events import CallEvent

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Told:
    """A call event, where it lay, its value byte for byte, and up to when its feed was known before it came."""

    partition: int
    event: CallEvent
    value: bytes
    feed_at: datetime | None = None

    @property
    def known_at(self) -> datetime:
        """When the views could know: not before the feed had come as far, nor before the call's first receipt."""
        known = max(self.event.time, self.event.session.first_received_at)
        return known if self.feed_at is None or self.feed_at < known else self.feed_at


def folded(told: Iterable[Told]) -> dict[str, Told]:
    """The event with the highest revision of each session; any order and any repetition give the same."""
    last: dict[str, Told] = {}
    for one in told:
        held = last.get(one.event.session_id)
        if held is None or one.event.revision > held.event.revision:
            last[one.event.session_id] = one
    return last


def row_of(told: Told, zones: Mapping[str, tzinfo], default_zone: tzinfo) -> Row:
    """The row of a call; `day` is the PBX's local date of its beginning (else of its first receipt)."""
    session = told.event.session
    began = session.started_at or session.first_received_at
    caller, callee = (numbers.party(text, None).digits for text in (session.caller, session.callee))
    return {
        "session_id": session.session_id,
        "pbx": session.pbx,
        "extension": session.agent.extension,
        "email": session.agent.email,
        "direction": session.direction.value,
        "status": session.status.value,
        "outcome": session.outcome.value,
        "revision": session.revision,
        "first_received_at": session.first_received_at,
        "began_at": began,
        "closed_at": closed_at(session, told.event.time),
        "duration_s": session.duration_s,
        "day": began.astimezone(zones.get(session.pbx, default_zone)).date().isoformat(),
        "linked_session_id": session.linked_session_id,
        "caller_digits": caller,
        "callee_digits": callee,
        "caller_key": caller[-numbers.SUFFIX_DIGITS_MIN :],
        "callee_key": callee[-numbers.SUFFIX_DIGITS_MIN :],
        "partition": told.partition,
        "document": session.model_dump_json(),
    }


def closed_at(session: Session, known_at: datetime) -> datetime | None:
    """Since when the agent was free of this call, at the latest; null while it is open.

    The end as reported; of an inferred one the latest bound; without a bound, when it became known.
    """
    if session.status is Status.OPEN:
        return None
    if session.ended_at is not None:
        return session.ended_at
    bounds = session.ended_between
    return bounds.latest if bounds is not None and bounds.latest is not None else known_at
