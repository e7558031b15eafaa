"""From the state's calls to what the world is told: sessions and session events. Pure."""

from dataclasses import replace
from datetime import datetime, timedelta

from events import session_events
from events.session import (
    Agent,
    Between,
    EndedAtSource,
    EndReason,
    Session,
    StartedAtSource,
    Status,
)
from events.session import Outcome as O  # noqa: N817 - one letter keeps the table below readable
from events.session_events import (
    CallCorrected,
    CallEnded,
    CallEndMissed,
    CallEvent,
    CallStarted,
    Cause,
    Change,
    Reason,
)
from processors.calls import Call, Ended, Inferred, Origin

_UNCHANGED_BY_NATURE = {"revision"}


def session_of(call: Call) -> Session:
    """The session as it stands; times and durations only as reported, everything else marked."""
    started_at, started_at_source = _started(call)
    reported = call.ended if isinstance(call.ended, Ended) else None
    inferred = call.ended if isinstance(call.ended, Inferred) else None
    span_s = None
    if reported is not None and reported.ended_at and started_at and started_at_source is StartedAtSource.REPORTED:
        span_s = _span_s(started_at, reported.ended_at)
    return Session(
        session_id=call.session_id,
        pbx=call.pbx,
        agent=Agent(extension=call.extension, email=call.email),
        direction=call.direction,
        caller=call.caller.text,
        caller_e164=call.caller.e164,
        callee=call.callee.text,
        callee_e164=call.callee.e164,
        status=Status.OPEN if call.ended is None else Status.ENDED if reported else Status.END_MISSED,
        outcome=reported.outcome if reported else O.UNKNOWN,
        started_at=started_at,
        started_at_source=started_at_source,
        ended_at=reported.moment if reported else None,
        ended_at_source=_ended_source(call),
        ended_between=Between(earliest=inferred.earliest, latest=inferred.latest) if inferred else None,
        end_reason=EndReason.RELEASED if reported else inferred.reason if inferred else None,
        duration_s=reported.duration_s if reported else None,
        span_s=span_s,
        recording_url=reported.recording_url if reported else None,
        call_id=call.call_id,
        linked_session_id=call.linked,
        first_received_at=call.first_received_at,
        revision=call.revision,
    )


def _started(call: Call) -> tuple[datetime | None, StartedAtSource]:
    """Reported wins over received, received over derived."""
    ended = call.ended if isinstance(call.ended, Ended) else None
    if call.began is not None and call.began.started_at is not None:
        return call.began.started_at, StartedAtSource.REPORTED
    if ended is not None and ended.started_at is not None:
        return ended.started_at, StartedAtSource.REPORTED
    if call.began is not None:
        return call.began.origin.received_at, StartedAtSource.RECEIVED
    if ended is not None and ended.duration_s is not None:
        try:
            return ended.moment - timedelta(seconds=ended.duration_s), StartedAtSource.DERIVED
        except OverflowError:  # an end in the first years of the calendar: nonsense, but no reason to stop
            return None, StartedAtSource.UNKNOWN
    return None, StartedAtSource.UNKNOWN


def _ended_source(call: Call) -> EndedAtSource | None:
    match call.ended:
        case None:
            return None
        case Inferred():
            return EndedAtSource.INFERRED
        case Ended(ended_at=None):
            return EndedAtSource.RECEIVED
        case Ended():
            return EndedAtSource.REPORTED


def _span_s(started_at: datetime, ended_at: datetime) -> int | None:
    span = ended_at - started_at
    return span // timedelta(seconds=1) if span >= timedelta(0) else None


def event_of(before: Call | None, after: Call, reason: Reason, *origins: Origin | None) -> tuple[Call, CallEvent]:
    """The next revision of `after` and the event that tells it; `origins` are the causes, put in order of arrival."""
    call = replace(after, revision=1 if before is None else before.revision + 1)
    known = sorted({one.offset: one for one in origins if one is not None}.values(), key=lambda one: one.offset)
    causes = tuple(_cause(origin) for origin in known)
    session = session_of(call)
    identity = session_events.event_id_of(call.session_id, call.revision, causes)
    said = {
        "id": identity,
        "time": known[-1].received_at,
        "session_id": call.session_id,
        "revision": call.revision,
        "reason": reason,
        "session": session,
        "causes": causes,
    }
    if before is not None and not before.is_open:
        return call, CallCorrected(**said, changed=_changes(session_of(before), session))
    match call.ended:
        case None:
            return call, CallStarted(**said) if before is None else CallCorrected(
                **said, changed=_changes(session_of(before), session)
            )
        case Ended():
            return call, CallEnded(**said)
        case Inferred():
            return call, CallEndMissed(**said)


def _cause(origin: Origin) -> Cause:
    return Cause(partition=origin.partition, offset=origin.offset, ce_id=origin.ce_id)


def _changes(before: Session, after: Session) -> dict[str, Change]:
    old, new = before.model_dump(mode="json"), after.model_dump(mode="json")
    return {
        name: Change(before=old[name], after=new[name])
        for name in new
        if old[name] != new[name] and name not in _UNCHANGED_BY_NATURE
    }
