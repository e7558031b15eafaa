"""The call log as a fold: of all events of a session, the one with the highest revision holds. Pure.

A row repeats from the session what is searched, ordered or counted by; the session itself stands in `document`.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, tzinfo
from typing import Any, Final, NamedTuple

import orjson

from events import numbers
from events.session import Status
from events.session_events import FeedProgress
from events.session_values import Json, moment, read

Row = dict[str, Any]
INTEGER_MAX: Final = 2**31 - 1
BIG_INTEGER_MAX: Final = 2**63 - 1
FIRST_TIME, END_OF_TIME = "0002", "9999"
"""As texts. Between them the local time is a time, too."""
ESCAPED_NUL: Final = rb"\u0000"


class Told(NamedTuple):
    """A call event, where it lay, its value byte for byte, and up to when its feed was known before it came."""

    partition: int
    event: Json
    value: bytes
    feed_at: datetime | None = None

    @property
    def session(self) -> Json:
        """The call after the event."""
        session: Json = self.event["session"]
        return session

    @property
    def key(self) -> tuple[str, int]:
        """Session and revision, as the event's own fields say."""
        return self.event["session_id"], self.event["revision"]

    @property
    def time(self) -> datetime:
        """The received time of the event's last cause."""
        return moment(self.event["time"])

    @property
    def first_received_at(self) -> datetime:
        """When the first evidence of the call was received."""
        return moment(self.event["session"]["first_received_at"])

    @property
    def known_at(self) -> datetime:
        """When the views could know: not before the feed had come as far, nor before the call's first receipt."""
        known = max(self.time, self.first_received_at)
        return known if self.feed_at is None or self.feed_at < known else self.feed_at


def told_in(partition: int, value: bytes, feed_at: datetime | None = None) -> Told:
    """The call event in a value; raises ValueError for what is none."""
    event = read(value)
    if isinstance(event, FeedProgress):
        raise ValueError("a progress is no call event")  # noqa: TRY004 - it is the value that is wrong
    return Told(partition, event, value, feed_at)


def is_storable(told: Told) -> bool:
    """Whether every database takes the event. The processors' values are bounded; another writer's need not be."""
    session = told.session
    between = session["ended_between"] or {}
    times = (told.event["time"], session["first_received_at"], session["started_at"], session["ended_at"])
    return (
        _is_within(told.event["revision"], INTEGER_MAX)
        and _is_within(session["revision"], INTEGER_MAX)
        and _is_within(session["duration_s"], BIG_INTEGER_MAX)
        and _is_within(session["span_s"], BIG_INTEGER_MAX)
        and all(one is None or FIRST_TIME <= one < END_OF_TIME for one in (*times, *between.values()))
        and not (ESCAPED_NUL in told.value and _holds_nul(told.event))
    )


def _is_within(number: int | None, limit: int) -> bool:
    return number is None or -limit <= number <= limit


def _holds_nul(value: Any) -> bool:
    match value:
        case str():
            return "\0" in value
        case dict():
            return any(map(_holds_nul, (*value, *value.values())))
        case list():
            return any(map(_holds_nul, value))
    return False


def folded(told: Iterable[Told]) -> dict[str, Told]:
    """The event with the highest revision of each session; any order and any repetition give the same."""
    last: dict[str, Told] = {}
    for one in told:
        session_id, revision = one.key
        held = last.get(session_id)
        if held is None or revision > held.event["revision"]:
            last[session_id] = one
    return last


def row_of(told: Told, zones: Mapping[str, tzinfo], default_zone: tzinfo) -> Row:
    """The row of a call; `day` is the PBX's local date of its beginning (else of its first receipt)."""
    session = told.session
    received = told.first_received_at
    began = received if session["started_at"] is None else moment(session["started_at"])
    return {
        "session_id": session["session_id"],
        "pbx": session["pbx"],
        "extension": session["agent"]["extension"],
        "email": session["agent"]["email"],
        "direction": session["direction"],
        "status": session["status"],
        "outcome": session["outcome"],
        "revision": session["revision"],
        "first_received_at": received,
        "began_at": began,
        "closed_at": closed_at(session, told.time),
        "duration_s": session["duration_s"],
        "day": began.astimezone(zones.get(session["pbx"], default_zone)).date().isoformat(),
        "linked_session_id": session["linked_session_id"],
        "partition": told.partition,
        **named_in(session),
    }


def named_in(session: Json) -> Row:
    """What a row says of the parties: the session itself, and what a number is searched by."""
    caller, callee = numbers.digits_of(session["caller"]), numbers.digits_of(session["callee"])
    return {
        "caller_digits": caller,
        "callee_digits": callee,
        "caller_key": caller[-numbers.SUFFIX_DIGITS_MIN :],
        "callee_key": callee[-numbers.SUFFIX_DIGITS_MIN :],
        "document": orjson.dumps(session).decode(),
    }


def closed_at(session: Json, known_at: datetime) -> datetime | None:
    """Since when the agent was free of this call, at the latest; null while it is open.

    The end as reported; of an inferred one the latest bound; without a bound, when it became known.
    """
    if session["status"] == Status.OPEN:
        return None
    bound = session["ended_at"] or (session["ended_between"] or {}).get("latest")
    return known_at if bound is None else moment(bound)
