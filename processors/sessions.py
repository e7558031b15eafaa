"""From the state's calls to what the world is told: sessions and session events, as JSON. Pure.

The shapes are those of `events.session` and `events.session_events`. They are written here without their models, which
would take a third of the time of an event; that each value reads back by its model and is the very bytes that the
model would write is a test.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, Final, NamedTuple

import orjson

from events import session_events
from events.envelope import Type
from events.session import EndedAtSource, EndReason, Outcome, StartedAtSource, Status
from events.session_events import Reason
from processors.calls import Call, Ended, Inferred, Origin, revised, told_end

_OPTIONS: Final = orjson.OPT_UTC_Z
_DAY_S: Final = 86_400
# An enumeration's member by its name takes as long as five other look-ups: these are asked for by every event.
_OPEN, _ENDED, _END_MISSED = Status.OPEN, Status.ENDED, Status.END_MISSED
_UNKNOWN: Final = Outcome.UNKNOWN
_REPORTED: Final = StartedAtSource.REPORTED
_END_REPORTED, _END_RECEIVED = EndedAtSource.REPORTED, EndedAtSource.RECEIVED
_RELEASED, _HISTORY = EndReason.RELEASED, EndReason.HISTORY
_STARTED, _CALL_ENDED, _MISSED = Type.CALL_STARTED, Type.CALL_ENDED, Type.CALL_END_MISSED
_CORRECTED: Final = Type.CALL_CORRECTED
_new: Final = tuple.__new__
_offset: Final = attrgetter("offset")
_ce_id: Final = attrgetter("ce_id")
Json = dict[str, Any]


class Told(NamedTuple):
    """A session event: what its envelope says, the rule that decided, and its value."""

    id: str
    type: Type
    time: datetime
    pbx: str
    session_id: str
    reason: Reason
    value: bytes


def session_of(call: Call) -> Json:
    """The session as it stands; times and durations only as reported, everything else marked."""
    started_at, started_at_source = _started(call)
    session_id, _, pbx, extension, email, direction, caller, callee, call_id, _, why, _, _, _, revision, *_ = call
    ended = why.history or why if isinstance(why, Inferred) else why
    session: Json = {
        "session_id": session_id,
        "pbx": pbx,
        "agent": {"extension": extension, "email": email},
        "direction": direction,
        "caller": caller.text,
        "caller_e164": caller.e164,
        "callee": callee.text,
        "callee_e164": callee.e164,
        "status": _OPEN,
        "outcome": _UNKNOWN,
        "started_at": started_at,
        "started_at_source": started_at_source,
        "ended_at": None,
        "ended_at_source": None,
        "ended_between": None,
        "end_reason": None,
        "duration_s": None,
        "span_s": None,
        "recording_url": None,
        "call_id": call_id,
        "linked_session_id": call.linked,
        "first_received_at": call.first_received_at,
        "revision": revision,
    }
    if ended is None:
        return session
    if isinstance(ended, Ended):
        session["status"] = _ENDED
        session["outcome"] = ended.outcome
        session["ended_at"] = ended.ended_at or ended.origin.received_at
        session["ended_at_source"] = _END_RECEIVED if ended.ended_at is None else _END_REPORTED
        session["end_reason"] = _RELEASED if ended is why else _HISTORY
        session["duration_s"] = ended.duration_s
        session["recording_url"] = ended.recording_url
        if ended.ended_at is not None and started_at is not None and started_at_source is _REPORTED:
            session["span_s"] = _span_s(started_at, ended.ended_at)
    else:
        session["status"] = _END_MISSED
        session["ended_at_source"] = EndedAtSource.INFERRED
        session["ended_between"] = {"earliest": ended.earliest, "latest": ended.latest}
        session["end_reason"] = ended.reason
    return session


def _started(call: Call) -> tuple[datetime | None, StartedAtSource]:
    """Reported wins over received, received over derived."""
    began = call.began
    if began is not None and began.started_at is not None:
        return began.started_at, _REPORTED
    ended = call.ended if isinstance(call.ended, Ended) else None
    if ended is not None and ended.started_at is not None:
        return ended.started_at, _REPORTED
    if began is not None:
        return began.origin.received_at, StartedAtSource.RECEIVED
    if ended is not None and ended.duration_s is not None:
        try:
            return ended.moment - timedelta(seconds=ended.duration_s), StartedAtSource.DERIVED
        except OverflowError:  # an end in the first years of the calendar: nonsense, but no reason to stop
            return None, StartedAtSource.UNKNOWN
    return None, StartedAtSource.UNKNOWN


def _span_s(started_at: datetime, ended_at: datetime) -> int | None:
    span = ended_at - started_at
    return span.days * _DAY_S + span.seconds if span.days >= 0 else None


def event_of(before: Call | None, after: Call, reason: Reason, *origins: Origin | None) -> tuple[Call, Told]:
    """The next revision of `after` and the event that tells it; `origins` are the causes, put in order of arrival."""
    call = revised(after, 1 if before is None else before.revision + 1)
    known = list(filter(None, origins))
    if len(known) > 1:
        known = sorted({one.offset: one for one in known}.values(), key=_offset)
    session_id, time = call.session_id, known[-1].received_at
    identity = session_events.event_id_of(session_id, call.revision, map(_ce_id, known))
    session = session_of(call)
    kind = _type_of(before, call)
    said: Json = {
        "id": identity,
        "time": time,
        "session_id": session_id,
        "revision": call.revision,
        "reason": reason,
        "session": session,
        "causes": [
            {"partition": partition, "offset": offset, "ce_id": ce_id} for partition, offset, ce_id, *_ in known
        ],
        "type": kind,
    }
    if before is not None and kind is _CORRECTED:
        said["changed"] = _changes(session_of(before), session)
    value = orjson.dumps(said, option=_OPTIONS)
    return call, _new(Told, (identity, kind, time, call.pbx, session_id, reason, value))


def progress_of(
    identity: str, time: datetime, live_time_us: int, stream_time: datetime, received_at: Mapping[str, datetime]
) -> bytes:
    """The value of a feed's progress; see `events.session_events.FeedProgress`."""
    said: Json = {
        "type": Type.FEED_PROGRESS,
        "id": identity,
        "time": time,
        "live_time_us": live_time_us,
        "stream_time": stream_time,
        "received_at": received_at,
    }
    return orjson.dumps(said, option=_OPTIONS)


def _type_of(before: Call | None, call: Call) -> Type:
    if before is not None and (before.ended is not None or call.ended is None):
        return _CORRECTED
    if call.ended is None:
        return _STARTED
    return _MISSED if told_end(call) is None else _CALL_ENDED


def _changes(before: Json, after: Json) -> Json:
    return {
        name: {"before": before[name], "after": value}
        for name, value in after.items()
        if before[name] != value and name != "revision"
    }
