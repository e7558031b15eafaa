"""Which start an end belongs to, and which end a start: the design's "Matching an end to a start", and nothing else.

Same agent (the candidates are already that one's); the same call id when both have one; else the same external party
within the window; among several the nearest to `end - duration`, ties to the earlier. A contradicting party outranks
an equal call id, because ids restart. A withheld number matches if exactly one start is in the window. Pure.

What the design leaves open and is decided here:
- an equal call id needs no window, only a start that is not after the end;
- where only a withheld number could tell, a call that is still open comes before one that was inferred to have ended;
- a missed or not answered end takes a start without proof only if both are withheld: an agent who talks to a known
  party does so still when an unknown one was missed;
- a start without a time that comes after an end that says missed or not answered is the next call's, whatever
  duration is printed there (``00:00:00`` as often as none): nobody talked, so nothing lies between the two;
- a start that is reported later than the reported end is never its start: both times are the same clock's;
- a recording that comes alone, without times, belongs to the call of that party that ended last without, though the
  next one is open: a PBX that tells when calls end will tell it of that one. It ends a call of which no end was told,
  and then that end, when it comes within the window of repeats, is the same end with more in it.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple

from events.numbers import DIFFERENT, SAME, UNKNOWN, Comparison, compare
from events.session import Direction
from events.session_events import Reason
from events.webhook import Party
from processors.calls import NOT_TAKEN, Began, Call, Ended, external_of
from processors.rules import Rules

_ZERO = timedelta(0)
_NO_DIRECTION: Final = Direction.UNKNOWN
_DURATIONS_MAX: Final = 10_000
_new: Final = tuple.__new__


class Sides(NamedTuple):
    """What is compared of a call and of an event: who spoke to whom, which way, under which id."""

    direction: Direction
    caller: Party
    callee: Party
    call_id: str | None


Pair = tuple[Call, Began, Ended]
"""A kept call with the start and the end that would become one: one of the two is the event's."""


class Match(NamedTuple):
    """The call found and the rule that found it."""

    call: Call
    reason: Reason


def sides_of(call: Call) -> Sides:
    """The sides of a kept call."""
    return _new(Sides, (call.direction, call.caller, call.callee, call.call_id))


def compare_parties(one: Sides, other: Sides) -> Comparison:
    """Compare the external party where the direction is known; otherwise caller and callee, which must both agree.

    If the directions differ and one is unknown, the known one applies; if both are known, two external parties that
    differ are a contradiction.
    """
    direction = one.direction if one.direction is not _NO_DIRECTION else other.direction
    agreed = other.direction is direction or other.direction is _NO_DIRECTION
    mine = external_of(direction, one.caller, one.callee)
    theirs = external_of(direction if agreed else other.direction, other.caller, other.callee)
    external = compare(mine, theirs) if mine is not None and theirs is not None else UNKNOWN
    if mine is not None and theirs is not None and (agreed or external is DIFFERENT):
        return external
    callers, callees = compare(one.caller, other.caller), compare(one.callee, other.callee)
    if callers is DIFFERENT or callees is DIFFERENT:
        return DIFFERENT
    return SAME if callers is callees is SAME else UNKNOWN


def in_window(began: Began, ended: Ended, rules: Rules) -> bool:
    """Whether the start can be this end's: from ring_max before to the tolerance after `end - duration`.

    Without a duration: any start before the end. Without one, or where nobody took the call, a start after the end
    has the tolerance only if it was received first: else it is the next call's. Differences only: a sum of what a PBX
    may say (the year 9999) would leave the calendar.
    """
    if _is_backwards(began, ended):
        return False
    if ended.duration_s is None or ended.outcome in NOT_TAKEN:
        in_order = began.origin.received_at <= ended.origin.received_at
        if began.moment - ended.moment > (rules.tolerance if in_order else _ZERO):
            return False
    if ended.duration_s is None:
        return True
    return -rules.ring_max <= _after_answer(began, ended.moment, ended.duration_s) <= rules.tolerance


def _is_backwards(began: Began, ended: Ended) -> bool:
    """One clock reported the start later than the end."""
    return began.started_at is not None and ended.ended_at is not None and began.started_at > ended.ended_at


def _after_answer(began: Began, ended_at: datetime, duration_s: int) -> timedelta:
    """How long after `end - duration` the start lies; negative by the time of ringing."""
    return began.moment - ended_at + _seconds(duration_s)


@lru_cache(_DURATIONS_MAX)
def _seconds(count: int) -> timedelta:
    return timedelta(seconds=count)


def match(pairs: Iterable[Pair], sides: Sides, rules: Rules, *, taken: bool) -> Match | None:
    """The best of the candidate `pairs` (each a kept call with the start and the end that would become one).

    `sides` are the event's; `taken` is false for an end that says missed or not answered.
    """
    by_id: list[Pair] = []
    by_party: list[Pair] = []
    unproven: list[Pair] = []
    for pair in pairs:
        call, began, ended = pair
        theirs = sides_of(call)
        found = compare_parties(theirs, sides)
        if found is DIFFERENT:
            continue
        if call.call_id is not None and sides.call_id is not None:
            late = began.moment - ended.moment
            if call.call_id == sides.call_id and late <= rules.tolerance and not _is_backwards(began, ended):
                by_id.append(pair)
        elif not in_window(began, ended, rules):
            continue
        elif found is SAME:
            by_party.append(pair)
        elif taken or (_is_withheld(theirs) and _is_withheld(sides)):
            unproven.append(pair)
    if by_id:
        return Match(_nearest(by_id), Reason.END_MATCHED_BY_CALL_ID)
    if by_party:
        return Match(_nearest(by_party), Reason.END_MATCHED_BY_PARTY)
    only = [pair for pair in unproven if pair[0].is_open] or unproven
    return Match(only[0][0], Reason.END_MATCHED_WITHHELD) if len(only) == 1 else None


def _is_withheld(sides: Sides) -> bool:
    party = external_of(sides.direction, sides.caller, sides.callee)
    return sides.caller.withheld and sides.callee.withheld if party is None else party.withheld


def _nearest(pairs: list[Pair]) -> Call:
    if len(pairs) == 1:
        return pairs[0][0]

    def distance(pair: Pair) -> tuple[bool, timedelta, timedelta, datetime, str]:
        call, began, ended = pair
        if ended.duration_s is None:
            # The latest start before the end; one that seems to lie after it, by the tolerance, comes last.
            off = began.moment - ended.moment
            return off > _ZERO, abs(off), off, call.first_received_at, call.session_id
        off = _after_answer(began, ended.moment, ended.duration_s)
        return False, abs(off), off, call.first_received_at, call.session_id

    return min(pairs, key=distance)[0]


def is_same_start(call: Call, sides: Sides, began: Began, rules: Rules) -> bool:
    """Whether this start is a kept call's own start again."""
    if call.began is None or began.started_at != call.began.started_at:
        return False
    if call.began.origin.digest == began.origin.digest:  # whatever the call has learnt since
        return began.started_at is not None or _within(call.began, began, rules)
    return began.started_at is not None and call.call_id == sides.call_id and _compatible_sides(call, sides)


def is_same_end(call: Call, sides: Sides, ended: Ended, rules: Rules) -> bool:
    """Whether this end is a kept call's own end again, perhaps with more or less in it.

    With equal call ids a field may be missing on one side; what both sides say must agree.
    """
    kept = call.ended
    if not isinstance(kept, Ended):
        return False
    if kept.origin.digest == ended.origin.digest and kept.ended_at == ended.ended_at:  # whatever the call has learnt
        return kept.ended_at is not None or _within(kept, ended, rules)
    if not _compatible_sides(call, sides) or not _agree(kept.started_at, ended.started_at):
        return False
    same_id = call.call_id is not None and call.call_id == sides.call_id
    if kept.ended_at is None or ended.ended_at is None:
        return same_id and _agree(kept.duration_s, ended.duration_s)
    return kept.ended_at == ended.ended_at and _agree(kept.duration_s, ended.duration_s)


def is_recording_of(call: Call, sides: Sides, ended: Ended, rules: Rules) -> bool:
    """Whether a call that ended, and this end, are but a recording and what it is of, in either order.

    Plug-ins send the recording by itself, some without any time, and nothing keeps two requests in order.
    """
    kept = call.ended
    if not isinstance(kept, Ended):
        return False
    since = ended.origin.received_at - kept.origin.received_at
    if _is_bare(ended):
        is_in_time = _ZERO <= since <= rules.ring_max
    elif _is_bare(kept) and ended.outcome not in NOT_TAKEN:
        is_in_time = _ZERO <= since <= rules.repeat_window and (
            call.began is None or in_window(call.began, ended, rules)
        )
    else:
        return False
    return (
        is_in_time
        and _agree(kept.recording_url, ended.recording_url)
        and _agree(call.call_id, sides.call_id)
        and compare_parties(sides_of(call), sides) is SAME
    )


def is_more_likely(recorded: Call, found: Match) -> bool:
    """Whether a recording is rather of this call, whose end was told with its time, than the end of the one found.

    Not where nobody took this one: there was no talk to record.
    """
    told = recorded.ended
    return (
        isinstance(told, Ended)
        and told.ended_at is not None
        and told.outcome not in NOT_TAKEN
        and found.reason is not Reason.END_MATCHED_BY_CALL_ID
    )


def _is_bare(ended: Ended) -> bool:
    """A recording, and neither a time nor a duration."""
    return ended.recording_url is not None and ended.ended_at is None and ended.duration_s is None


def _compatible_sides(call: Call, sides: Sides) -> bool:
    mine = sides_of(call)
    if not _agree(mine.call_id, sides.call_id):
        return False
    found = compare_parties(mine, sides)
    if found is UNKNOWN:
        # Withheld or absent on either side: the texts must not contradict each other.
        return _agree(mine.caller.text, sides.caller.text) and _agree(mine.callee.text, sides.callee.text)
    return found is SAME


def _agree(one: object, other: object) -> bool:
    return one is None or other is None or one == other


def _within(kept: Began | Ended, again: Began | Ended, rules: Rules) -> bool:
    return abs(again.origin.received_at - kept.origin.received_at) <= rules.repeat_window
