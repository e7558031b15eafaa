"""Pairing: starts and ends into calls, by the table of the design's section 4. Pure.

`(state, input) -> (state, [session events])`: the state is the task's `Calls`, updated in place, so that the cost of
an event does not grow with the calls that are open; the same state and input always give the same events.

| situation                                                 | where                     |
|-----------------------------------------------------------|---------------------------|
| start, then its end                                       | `on_start`, `on_end`      |
| end, no start ever                                        | `_end_alone`              |
| end first, start later                                    | `_start_of_ended`         |
| the same start or end again                               | `on_start`, `on_end`: nothing |
| an end again, with more in it                             | `_more_detail`            |
| start, no end by the ceiling; superseded after the grace  | `on_deadline`             |
| the PBX lists the call no longer, or still (see `witness`) | `on_deadline`            |
| a newer call of that agent begins; it was not taken       | `contradictions.mark_superseded`, `.withdraw_superseded` |
| the party starts with another agent                       | `contradictions.move`     |
| the party's end comes with another agent                  | `contradictions.party_left` |
| the true end after all                                    | `_true_end` (by `on_end`) |
| two calls at once; missed call while on another           | `on_end`: an end closes its own |

What the design leaves open and is decided here:
- every end of a party, a missed one too, shows that it left: 3CX reports a call once, when the external call has ended,
  so with ring-all the one end may name any of the agents, and may say missed;
- a late start is judged against what is known by then: a leg that is already contradicted is closed at once;
- "newer" and "earlier" are by the start's time, not by the order of arrival; of equal times the first come is older;
- a call that was not taken does not supersede another: the agent stays on that one;
- a list of active calls that has a call shows that it goes on: its ceiling counts from there, and no call that began
  before supersedes it.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from events.session import Direction, EndReason, Outcome
from events.session_events import Reason
from events.webhook import End, Start
from processors import contradictions, matching
from processors.calls import (
    NOT_TAKEN,
    Began,
    Call,
    Ended,
    Inferred,
    began_of,
    ended_by,
    ended_of,
    number_name,
    received,
    was_taken,
)
from processors.changelog import LastList
from processors.contradictions import Input, keep
from processors.kept import (
    NO_NUMBER_ALONE,
    NO_NUMBER_LACKING,
    Calls,
    Trait,
    evidence_of,
    is_vague,
    names_of_agent,
)
from processors.matching import Sides
from processors.rules import Rules
from processors.sessions import Told, event_of, session_of
from processors.timers import NEVER_US

SECOND_US = 1_000_000
NO_LISTS: Final[Mapping[str, LastList]] = MappingProxyType({})


def on_start(calls: Calls, start: Start, given: Input, rules: Rules) -> list[Told]:
    """A call began: again, or late for an end that is known, or a new one; the new and the late contradict others."""
    began = Began(given.origin, start.started_at)
    sides = Sides(start.direction, start.caller, start.callee, start.call_id)
    agent = names_of_agent(start.extension, start.email)
    session_id = given.session_id
    if session_id in calls or _is_known(calls, sides, agent, began, given, rules):
        return []
    alike = calls.like(given.key, agent, (NO_NUMBER_ALONE, *_traits(sides)))
    waiting = calls.alone(given.key, agent) if _is_vague(sides) else [call for call in alike if call.began is None]
    pairs = [(call, began, call.ended) for call in waiting if isinstance(call.ended, Ended)]
    late = matching.match(pairs, sides, rules, taken=True) if pairs else None
    if late is None:
        told = [_new_call(calls, session_id, start, began, given)]
    elif was_taken(late.call):
        told = [_start_of_ended(calls, late.call, start, began)]
    else:
        return [_start_of_ended(calls, late.call, start, began)]
    call = calls[told[0].session_id]
    contradictions.mark_superseded(calls, call, given)
    return told + list(contradictions.move(calls, calls[call.session_id], given))


def on_end(calls: Calls, end: End, given: Input, rules: Rules) -> list[Told]:
    """A call ended: again, or of a start that is known (whatever was inferred of it), or alone."""
    ended = Ended(given.origin, end.started_at, end.ended_at, end.duration_s, end.outcome, end.recording_url)
    sides = Sides(end.direction, end.caller, end.callee, end.call_id)
    agent = names_of_agent(end.extension, end.email)
    alike = calls.like(given.key, agent, (evidence_of(ended), NO_NUMBER_LACKING, *_traits(sides)))
    again = next((call for call in alike if matching.is_same_end(call, sides, ended, rules)), None)
    if again is not None:
        return _more_detail(calls, again, end, ended)
    lacking = calls.lacking_end(given.key, agent) if _is_vague(sides) else [call for call in alike if call.lacks_end]
    pairs = [(call, call.began, ended) for call in lacking if call.began is not None]
    found = matching.match(pairs, sides, rules, taken=end.outcome not in NOT_TAKEN)
    recorded = [call for call in alike if matching.is_recording_of(call, sides, ended, rules)]
    if found is not None:
        recorded = [call for call in recorded if matching.is_more_likely(call, found)]
    if recorded:
        return _more_detail(calls, _recorded(recorded), end, ended)
    if found is None and given.session_id in calls:
        return []
    told = _end_alone(calls, end, ended, given) if found is None else _true_end(calls, found, end, ended, given)
    call = calls[told.session_id]
    if not was_taken(call):
        contradictions.withdraw_superseded(calls, call, given)
    return [told, *contradictions.party_left(calls, call, ended, given)]


def _is_known(calls: Calls, sides: Sides, agent: Sequence[str], began: Began, given: Input, rules: Rules) -> bool:
    """Whether it is a kept call's own start again: of the same reported time, else received shortly before."""
    since = began.started_at or began.origin.received_at - rules.repeat_window
    begun = calls.begun_since(given.key, agent, since)
    return any(matching.is_same_start(call, sides, began, rules) for call in begun)


def _traits(sides: Sides) -> tuple[Trait, ...]:
    """What calls that may be this event's can be found by: either number, or the call id."""
    names = (number_name(sides.caller), number_name(sides.callee))
    return names if sides.call_id is None else (*names, (sides.call_id,))


def _is_vague(sides: Sides) -> bool:
    """Whether the event's number tells so little that every call of the agent may be meant."""
    return is_vague(sides.direction, sides.caller, sides.callee)


def on_deadline(
    calls: Calls, session_id: str, live_us: int, rules: Rules, lists: Mapping[str, LastList] = NO_LISTS
) -> list[Told]:
    """A deadline of this call is due: it is inferred to have ended, or, when it has, is kept no longer.

    `lists`: the last list of active calls of each PBX; one that has the call moves its deadline.
    """
    call = calls[session_id]
    if not call.is_open:
        calls.drop(session_id)
        return []
    listed = call.listed
    if listed is not None and listed.absent is None and (as_of_us := lists[call.pbx].live_us) > listed.as_of_us:
        calls.put(call._replace(listed=listed._replace(as_of_us=as_of_us)))
        return []
    return [contradictions.infer(calls, call, _inferred(call, rules), live_us)]


def _inferred(call: Call, rules: Rules) -> Inferred:
    """Why an open call that is due must have ended, and between when; of several reasons the one due first."""
    began, listed = began_of(call).moment, call.listed
    due_us = deadline_us(call, rules)
    if listed is not None and listed.absent is not None and _absence_us(call, rules) == due_us:
        earliest = max(began, listed.seen_at or began)
        latest = max(earliest, listed.absent.received_at)
        return Inferred(EndReason.ABSENT_FROM_PBX, earliest, latest, listed.absent)
    if call.superseded is not None and _grace_end_us(call, rules) == due_us:
        newer = call.superseded.began
        return Inferred(EndReason.SUPERSEDED, began, max(newer.moment, began), newer.origin)
    earliest = began if listed is None or listed.seen_at is None else max(began, listed.seen_at)
    return Inferred(EndReason.TIMEOUT, earliest, None, None)


def deadline_us(call: Call, rules: Rules) -> int:
    """When, in live time, something is due for this call; derived from the state, so timers need no storage."""
    if call.closed_us is not None:
        return call.closed_us + rules.closed_kept_s * SECOND_US
    if call.listed is None:
        ceiling_us = call.opened_us + rules.call_duration_max_s * SECOND_US
        return ceiling_us if call.superseded is None else min(ceiling_us, _grace_end_us(call, rules))
    ceiling_us = call.listed.as_of_us + rules.call_duration_max_s * SECOND_US
    return min(ceiling_us, _grace_end_us(call, rules), _absence_us(call, rules))


def _grace_end_us(call: Call, rules: Rules) -> int:
    """When the grace beside a newer call ends; never for a call that was listed since that began."""
    superseded, listed = call.superseded, call.listed
    if superseded is None or (listed is not None and listed.as_of_us >= superseded.since_us):
        return NEVER_US
    return superseded.since_us + rules.superseded_grace_s * SECOND_US


def _absence_us(call: Call, rules: Rules) -> int:
    """When the grace of a call that the PBX does not list any more ends."""
    if call.listed is None or call.listed.suspect_us is None:
        return NEVER_US
    return call.listed.suspect_us + rules.absence_grace_s * SECOND_US


def _new_call(calls: Calls, session_id: str, start: Start, began: Began, given: Input) -> Told:
    """`call.started`."""
    extension, email, direction, caller, callee, call_id, _ = start
    call = Call(
        session_id=session_id,
        key=given.key,
        pbx=given.pbx,
        extension=extension,
        email=email,
        direction=direction,
        caller=caller,
        callee=callee,
        call_id=call_id,
        began=began,
        ended=None,
        superseded=None,
        opened_us=given.live_us,
        closed_us=None,
        revision=0,
        first_received_at=given.origin.received_at,
    )
    return keep(calls, event_of(None, call, Reason.STARTED, given.origin))


def _start_of_ended(calls: Calls, call: Call, start: Start, began: Began) -> Told:
    """End first, start later: one call, corrected; never a call left open."""
    after = _filled(call, start)._replace(began=began)
    end_origin = call.ended.origin if isinstance(call.ended, Ended) else None
    return keep(calls, event_of(call, after, Reason.START_AFTER_END, end_origin, began.origin))


def _recorded(calls: Sequence[Call]) -> Call:
    """Of the calls that a recording may be of: the one that has it, else the one that ended last."""
    having = [call for call in calls if ended_of(call).recording_url is not None]
    return max(having or calls, key=lambda call: (ended_of(call).moment, *received(call)))


def _true_end(calls: Calls, found: matching.Match, end: End, ended: Ended, given: Input) -> Told:
    """The end of a known start; a correction when an end had been inferred."""
    call = found.call
    after = ended_by(_filled(call, end), ended, given.live_us)
    reason = found.reason if call.is_open else Reason.TRUE_END
    contradiction = call.ended.contradiction if isinstance(call.ended, Inferred) else None
    return keep(calls, event_of(call, after, reason, began_of(call).origin, contradiction, ended.origin))


def _end_alone(calls: Calls, end: End, ended: Ended, given: Input) -> Told:
    """An end without a start: the normal case for some PBXs, and for calls that nobody took."""
    call = Call(
        session_id=given.session_id,
        key=given.key,
        pbx=given.pbx,
        extension=end.extension,
        email=end.email,
        direction=end.direction,
        caller=end.caller,
        callee=end.callee,
        call_id=end.call_id,
        began=None,
        ended=ended,
        superseded=None,
        opened_us=given.live_us,
        closed_us=given.live_us,
        revision=0,
        first_received_at=given.origin.received_at,
    )
    reason = Reason.NOT_TAKEN if end.outcome in NOT_TAKEN else Reason.END_WITHOUT_START
    return keep(calls, event_of(None, call, reason, given.origin))


def _more_detail(calls: Calls, call: Call, end: End, again: Ended) -> list[Told]:
    """The same end again: nothing is told, unless it shows what was not known; what it says is kept in any case.

    Beside a start's time an end's own is not shown, and still tells this end from another one's.
    """
    kept = ended_of(call)
    fuller = kept._replace(
        started_at=kept.started_at or again.started_at,
        ended_at=kept.ended_at or again.ended_at,
        duration_s=again.duration_s if kept.duration_s is None else kept.duration_s,
        outcome=again.outcome if kept.outcome is Outcome.UNKNOWN else kept.outcome,
        recording_url=kept.recording_url or again.recording_url,
    )
    after = _filled(call, end)._replace(ended=fuller)
    if session_of(after) == session_of(call):
        if after != call:
            calls.put(after)
        return []
    start_origin = call.began.origin if call.began is not None else None
    return [keep(calls, event_of(call, after, Reason.MORE_DETAIL, start_origin, kept.origin, again.origin))]


def _filled(call: Call, event: Start | End) -> Call:
    """The call with what it did not know before; what it knew stays."""
    if not (
        call.extension is None
        or call.email is None
        or call.call_id is None
        or call.direction is Direction.UNKNOWN
        or call.caller.text is None
        or call.callee.text is None
    ):
        return call
    return call._replace(
        extension=event.extension if call.extension is None else call.extension,
        email=event.email if call.email is None else call.email,
        direction=event.direction if call.direction is Direction.UNKNOWN else call.direction,
        caller=event.caller if call.caller.text is None else call.caller,
        callee=event.callee if call.callee.text is None else call.callee,
        call_id=event.call_id if call.call_id is None else call.call_id,
    )
