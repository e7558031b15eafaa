"""From the state's calls to what the world is told: sessions and session events, as JSON. Pure.

The shapes are those of `events.session` and `events.session_events`. They are written here without their models, which
would take a third of the time of an event; that each value reads back by its model and is the very bytes that the
model would write is a test.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import orjson

from events import session_events
from events.envelope import Type
from events.session import EndedAtSource, EndReason, Outcome, StartedAtSource, Status
from events.session_events import Reason
from processors.calls import Call, Ended, Inferred, Origin, revised, told_end

_OPTIONS: Final = orjson.OPT_UTC_Z
_SECOND: Final = timedelta(seconds=1)
_OPEN: Final = Status.OPEN
_UNKNOWN: Final = Outcome.UNKNOWN
_REPORTED: Final = StartedAtSource.REPORTED
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
        session["status"] = Status.ENDED
        session["outcome"] = ended.outcome
        session["ended_at"] = ended.moment
        session["ended_at_source"] = EndedAtSource.RECEIVED if ended.ended_at is None else EndedAtSource.REPORTED
        session["end_reason"] = EndReason.RELEASED if ended is why else EndReason.HISTORY
        session["duration_s"] = ended.duration_s
        session["recording_url"] = ended.recording_url
        if ended.ended_at is not None and started_at is not None and started_at_source is _REPORTED:
            session["span_s"] = _span_s(started_at, ended.ended_at)
    else:
        session["status"] = Status.END_MISSED
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
    return (ended_at - started_at) // _SECOND if ended_at >= started_at else None


def event_of(before: Call | None, after: Call, reason: Reason, *origins: Origin | None) -> tuple[Call, Told]:
    """The next revision of `after` and the event that tells it; `origins` are the causes, put in order of arrival."""
    call = revised(after, 1 if before is None else before.revision + 1)
    known = [one for one in origins if one is not None]
    if len(known) > 1:
        known = sorted({one.offset: one for one in known}.values(), key=_offset)
    session_id, time = call.session_id, known[-1].received_at
    identity = session_events.event_id_of(session_id, call.revision, [one.ce_id for one in known])
    session = session_of(call)
    kind = _type_of(before, call)
    said: Json = {
        "id": identity,
        "time": time,
        "session_id": session_id,
        "revision": call.revision,
        "reason": reason,
        "session": session,
        "causes": [{"partition": one.partition, "offset": one.offset, "ce_id": one.ce_id} for one in known],
        "type": kind,
    }
    if before is not None and kind is Type.CALL_CORRECTED:
        said["changed"] = _changes(session_of(before), session)
    value = orjson.dumps(said, option=_OPTIONS)
    return call, Told(identity, kind, time, call.pbx, session_id, reason, value)


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


def _offset(origin: Origin) -> int:
    return origin.offset


def _type_of(before: Call | None, call: Call) -> Type:
    if before is not None and (not before.is_open or call.is_open):
        return Type.CALL_CORRECTED
    if call.ended is None:
        return Type.CALL_STARTED
    return Type.CALL_END_MISSED if told_end(call) is None else Type.CALL_ENDED


def _changes(before: Json, after: Json) -> Json:
    return {
        name: {"before": before[name], "after": value}
        for name, value in after.items()
        if before[name] != value and name != "revision"
    }
