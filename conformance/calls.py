"""Invented calls, and the session events about them, as the processors write them. Pure, from a seeded chance."""

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Final

from events.session import (
    Agent,
    Between,
    Direction,
    EndedAtSource,
    EndReason,
    Outcome,
    Session,
    StartedAtSource,
    Status,
)
from events.session_events import (
    CallCorrected,
    CallEnded,
    CallEndMissed,
    CallEvent,
    CallStarted,
    Cause,
    Change,
    Reason,
    event_id_of,
    session_id_of,
)

BEGIN: Final = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)


def started(chance: Random, number: int, pbx: str, run: str) -> CallStarted:
    """The first event of the call with this number; `run` keeps the ids of two streams apart."""
    cause = Cause(partition=0, offset=10 * number, ce_id=f"conformance-{run}-{number}")
    began = BEGIN + timedelta(seconds=30 * number)
    caller = f"+4122555{chance.randrange(10_000):04}"
    session = Session(
        session_id=session_id_of(cause.ce_id),
        pbx=pbx,
        agent=Agent(extension=f"{chance.randrange(200, 220)}", email=None),
        direction=Direction.INBOUND,
        caller=caller,
        caller_e164=caller,
        callee="+41225555678",
        callee_e164="+41225555678",
        status=Status.OPEN,
        outcome=Outcome.UNKNOWN,
        started_at=began,
        started_at_source=StartedAtSource.REPORTED,
        ended_at=None,
        ended_at_source=None,
        ended_between=None,
        end_reason=None,
        duration_s=None,
        span_s=None,
        recording_url=None,
        call_id=None,
        linked_session_id=None,
        first_received_at=began + timedelta(seconds=1),
        revision=1,
    )
    return CallStarted(**_told(session, Reason.STARTED, session.first_received_at, (cause,)))


def of_any_kind(chance: Random, before: CallStarted) -> CallStarted:
    """The same call, of any direction, with null wherever the contract allows it and a chance wants it."""

    def perhaps(value: str | None) -> str | None:
        return value if chance.random() < 0.5 else None  # noqa: PLR2004 - half

    session = before.session
    caller, callee, begins = perhaps(session.caller), perhaps(session.callee), perhaps("known")
    agent = Agent(extension=perhaps(session.agent.extension), email=perhaps("agent@company.com"))
    shown = session.model_copy(
        update={
            "agent": agent,
            "direction": chance.choice(list(Direction)),
            "caller": caller,
            "caller_e164": caller and perhaps(session.caller_e164),
            "callee": callee,
            "callee_e164": callee and perhaps(session.callee_e164),
            "started_at": session.started_at if begins else None,
            "started_at_source": StartedAtSource.REPORTED if begins else StartedAtSource.UNKNOWN,
        }
    )
    return before.model_copy(update={"session": shown})


def ended(before: CallEvent, talked_s: int, revision: int | None = None) -> CallEnded:
    """The reported end; `revision`: another than the next."""
    session = _with_end(before, talked_s, revision)
    return CallEnded(**_told(session, Reason.END_MATCHED_BY_PARTY, _received(session), _causes(before, session)))


def untaken(before: CallEvent) -> CallEnded:
    """The reported end of a call that nobody took, or of one of which nobody said that it was taken."""
    outcomes = {Direction.INBOUND: Outcome.MISSED, Direction.OUTBOUND: Outcome.NOT_ANSWERED}
    outcome = outcomes.get(before.session.direction, Outcome.UNKNOWN)
    session = _with_end(before, 0, None).model_copy(update={"outcome": outcome, "duration_s": None})
    return CallEnded(**_told(session, Reason.END_MATCHED_BY_PARTY, _received(session), _causes(before, session)))


def end_missed(before: CallEvent) -> CallEndMissed:
    """The end that nobody reported."""
    session = before.session.model_copy(
        update={
            "status": Status.END_MISSED,
            "ended_at_source": EndedAtSource.INFERRED,
            "ended_between": Between(earliest=before.session.first_received_at, latest=None),
            "end_reason": EndReason.TIMEOUT,
            "revision": before.revision + 1,
        }
    )
    return CallEndMissed(**_told(session, Reason.TIMEOUT, before.time, before.causes))


def corrected(before: CallEvent, talked_s: int, revision: int | None = None) -> CallCorrected:
    """The true end after all."""
    session = _with_end(before, talked_s, revision)
    old, new = before.session.model_dump(mode="json"), session.model_dump(mode="json")
    changed = {
        name: Change(before=old[name], after=value)
        for name, value in new.items()
        if old[name] != value and name != "revision"
    }
    told = _told(session, Reason.TRUE_END, _received(session), _causes(before, session))
    return CallCorrected(**told, changed=changed)


def _with_end(before: CallEvent, talked_s: int, revision: int | None) -> Session:
    began = before.session.started_at
    ends = (began or before.session.first_received_at) + timedelta(seconds=talked_s + 5)
    return before.session.model_copy(
        update={
            "status": Status.ENDED,
            "outcome": Outcome.ANSWERED,
            "ended_at": ends,
            "ended_at_source": EndedAtSource.REPORTED,
            "ended_between": None,
            "end_reason": EndReason.RELEASED,
            "duration_s": talked_s,
            "span_s": None if began is None else talked_s + 5,
            "revision": revision or before.revision + 1,
        }
    )


def _received(session: Session) -> datetime:
    return (session.ended_at or session.first_received_at) + timedelta(seconds=1)


def _causes(before: CallEvent, session: Session) -> tuple[Cause, ...]:
    last = before.causes[-1]
    offset = last.offset + session.revision
    return *before.causes, Cause(partition=0, offset=offset, ce_id=f"{before.causes[0].ce_id}-{offset}")


def _told(session: Session, reason: Reason, time: datetime, causes: tuple[Cause, ...]) -> dict[str, object]:
    return {
        "id": event_id_of(session.session_id, session.revision, [one.ce_id for one in causes]),
        "time": time,
        "session_id": session.session_id,
        "revision": session.revision,
        "reason": reason,
        "session": session,
        "causes": causes,
    }
