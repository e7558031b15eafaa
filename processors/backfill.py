"""The PBX's own history of calls as evidence of ends that no webhook told. Pure.

It comes as a record of ``threecx.webhooks``, as a list does (`witness`). It closes or corrects only a call of which no
webhook reported the end: `end_missed`, or open and not listed as going on. It opens no call, and a webhook's end that
comes later still is the truth. Which call is meant: same agent, same number, and of those the start nearest to the
history's, within the tolerance; when that call's end was reported, the history has nothing new.

A row is a part of a call, and a call may have several: rung at an agent in vain, taken by the same one later. So

1. a row that nobody took closes no open call that no list had: it may be another part, while the call goes on;
2. of the rows that mean a call one that was taken wins over the others, then the nearest start, then the later end,
   in whatever order they come.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from events import numbers
from events.call_history import PastCall
from events.numbers import SUFFIX_DIGITS_MIN
from events.session import EndReason, Outcome
from events.session_events import Reason
from events.webhook import Party
from processors.calls import Call, Ended, Inferred, Origin, began_of, external_of, received, told_end
from processors.contradictions import keep
from processors.kept import Calls, names_of_agent
from processors.rules import Rules
from processors.sessions import Told, event_of, session_of

CALENDAR_BEGIN: Final = datetime.min.replace(tzinfo=UTC)
"""What a history says may lie at either end of the calendar: no sum may leave it."""


def on_recorded(
    calls: Calls, pbx: str, recorded: Iterable[PastCall], origin: Origin, live_us: int, rules: Rules
) -> Iterator[Told]:
    """The ends that the PBX's history tells."""
    for past in recorded:
        call = _meant(calls, pbx, past, rules)
        if call is None or isinstance(call.ended, Ended) or _may_go_on(call, past):
            continue
        outcome = Outcome.UNKNOWN if past.duration_s is None else Outcome.ANSWERED
        ended = Ended(origin, past.started_at, past.ended_at, past.duration_s, outcome, None)
        known = told_end(call)
        if known is not None and _worth(call, known) >= _worth(call, ended):
            continue
        earlier = call.ended or Inferred(EndReason.ABSENT_FROM_PBX, began_of(call).moment, None, None)
        closed_us = live_us if call.closed_us is None else call.closed_us
        after = call._replace(ended=earlier._replace(history=ended), superseded=None, closed_us=closed_us)
        if session_of(after) != session_of(call):
            causes = (began_of(call).origin, earlier.contradiction, origin)
            yield keep(calls, event_of(call, after, Reason.END_FROM_HISTORY, *causes))


def _may_go_on(call: Call, past: PastCall) -> bool:
    """Open, and the PBX's latest list has it; or no list ever had, and nobody took what the history tells."""
    if not call.is_open:
        return False
    return past.duration_s is None if call.listed is None else call.listed.absent is None


def _worth(call: Call, told: Ended) -> tuple[bool, timedelta, datetime]:
    """The greatest of the ends that the history tells of a call is its own; one of an older release says no start."""
    apart = timedelta.max if told.started_at is None else abs(began_of(call).moment - told.started_at)
    return told.outcome is Outcome.ANSWERED, -apart, told.moment


def _meant(calls: Calls, pbx: str, past: PastCall, rules: Rules) -> Call | None:
    agent, party = names_of_agent(past.extension, None), numbers.party(past.number, None)
    since = past.started_at - min(rules.tolerance, past.started_at - CALENDAR_BEGIN)
    found = [
        call
        for key in (pbx, f"{pbx}/{past.extension}")
        for call in calls.begun_since(key, agent, since)
        if call.pbx == pbx
        and began_of(call).moment - past.started_at <= rules.tolerance
        and began_of(call).moment <= past.ended_at
        and _is_with(call, party)
    ]
    return min(found, key=lambda call: (abs(began_of(call).moment - past.started_at), *received(call)), default=None)


def _is_with(call: Call, party: Party) -> bool:
    """The same number; of neither side one that is known."""
    external = external_of(call.direction, call.caller, call.callee)
    sides = (call.caller, call.callee) if external is None else (external,)
    known = [one for one in sides if len(one.digits) >= SUFFIX_DIGITS_MIN]
    if not known or len(party.digits) < SUFFIX_DIGITS_MIN:
        return not known and len(party.digits) < SUFFIX_DIGITS_MIN
    return any(numbers.same_number(one, party) for one in known)
