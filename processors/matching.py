"""Which start an end belongs to, and which end a start: the design's "Matching an end to a start", and nothing else.

Same agent (the candidates are already that one's); the same call id when both have one; else the same external party
within the window; among several the nearest to `end - duration`, ties to the earlier. A contradicting party outranks
an equal call id, because ids restart. A withheld number matches if exactly one start is in the window. Pure.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from events.numbers import Comparison, compare
from events.session import Direction
from events.session_events import Reason
from events.webhook import Party
from processors.calls import Began, Call, Ended, external_of
from processors.rules import Rules

_ZERO = timedelta(0)


@dataclass(frozen=True, slots=True)
class Sides:
    """What is compared of a call and of an event: who spoke to whom, which way, under which id."""

    direction: Direction
    caller: Party
    callee: Party
    call_id: str | None


@dataclass(frozen=True, slots=True)
class Match:
    """The call found and the rule that found it."""

    call: Call
    reason: Reason


def sides_of(call: Call) -> Sides:
    """The sides of a kept call."""
    return Sides(call.direction, call.caller, call.callee, call.call_id)


def compare_parties(one: Sides, other: Sides) -> Comparison:
    """Compare the external party where the direction is known; otherwise caller and callee, which must both agree.

    If the directions differ and one is unknown, the known one applies.
    """
    direction = one.direction if one.direction is not Direction.UNKNOWN else other.direction
    if other.direction in {direction, Direction.UNKNOWN}:
        mine, theirs = (external_of(direction, side.caller, side.callee) for side in (one, other))
        if mine is not None and theirs is not None:
            return compare(mine, theirs)
    both = {compare(one.caller, other.caller), compare(one.callee, other.callee)}
    if Comparison.DIFFERENT in both:
        return Comparison.DIFFERENT
    return Comparison.SAME if both == {Comparison.SAME} else Comparison.UNKNOWN


def in_window(began: Began, ended: Ended, rules: Rules) -> bool:
    """Whether the start can be this end's: from ring_max before to the tolerance after `end - duration`.

    Without a duration: any start not later than the end (with the tolerance). A start that was reported later than
    the reported end is never its start: both come from the same clock.
    """
    if began.started_at and ended.ended_at and began.started_at > ended.ended_at:
        return False
    if ended.duration_s is None:
        return began.moment <= ended.moment + rules.tolerance
    after_answer = began.moment - (ended.moment - timedelta(seconds=ended.duration_s))
    return -rules.ring_max <= after_answer <= rules.tolerance


def match(pairs: Iterable[tuple[Call, Began, Ended]], sides: Sides, rules: Rules, *, withheld: bool) -> Match | None:
    """The best of the candidate `pairs` (each a kept call with the start and the end that would become one).

    `sides` are the event's. `withheld`: whether a number that proves nothing may match at all.
    """
    by_id: list[tuple[Call, Began, Ended]] = []
    by_party: list[tuple[Call, Began, Ended]] = []
    unproven: list[tuple[Call, Began, Ended]] = []
    for pair in pairs:
        call, began, ended = pair
        found = compare_parties(sides_of(call), sides)
        if found is Comparison.DIFFERENT:
            continue
        if call.call_id is not None and sides.call_id is not None:
            if call.call_id == sides.call_id and began.moment <= ended.moment + rules.tolerance:
                by_id.append(pair)
        elif in_window(began, ended, rules):
            (by_party if found is Comparison.SAME else unproven).append(pair)
    if by_id:
        return Match(_nearest(by_id), Reason.END_MATCHED_BY_CALL_ID)
    if by_party:
        return Match(_nearest(by_party), Reason.END_MATCHED_BY_PARTY)
    if withheld and len(unproven) == 1:
        return Match(unproven[0][0], Reason.END_MATCHED_WITHHELD)
    return None


def _nearest(pairs: list[tuple[Call, Began, Ended]]) -> Call:
    def distance(pair: tuple[Call, Began, Ended]) -> tuple[timedelta, timedelta, str]:
        call, began, ended = pair
        if ended.duration_s is None:
            # The latest start before the end.
            return abs(ended.moment - began.moment), _ZERO, call.session_id
        off = began.moment - (ended.moment - timedelta(seconds=ended.duration_s))
        return abs(off), off, call.session_id

    return min(pairs, key=distance)[0]


def is_same_start(call: Call, sides: Sides, began: Began, rules: Rules) -> bool:
    """Whether this start is a kept call's own start again."""
    if call.began is None or not _same_sides(call, sides):
        return False
    if began.started_at is not None or call.began.started_at is not None:
        return began.started_at == call.began.started_at
    return call.began.origin.digest == began.origin.digest and _within(call.began, began, rules)


def is_same_end(call: Call, sides: Sides, ended: Ended, rules: Rules) -> bool:
    """Whether this end is a kept call's own end again, perhaps with more or less in it.

    With equal call ids a field may be missing on one side; what both sides say must agree.
    """
    kept = call.ended
    if not isinstance(kept, Ended) or not _compatible_sides(call, sides):
        return False
    if kept.origin.digest == ended.origin.digest and kept.ended_at == ended.ended_at:
        return kept.ended_at is not None or _within(kept, ended, rules)
    same_id = call.call_id is not None and call.call_id == sides.call_id
    if kept.ended_at is None or ended.ended_at is None:
        return same_id and _agree(kept.duration_s, ended.duration_s)
    return kept.ended_at == ended.ended_at and _agree(kept.duration_s, ended.duration_s)


def _same_sides(call: Call, sides: Sides) -> bool:
    return call.call_id == sides.call_id and _compatible_sides(call, sides)


def _compatible_sides(call: Call, sides: Sides) -> bool:
    mine = sides_of(call)
    if not _agree(mine.call_id, sides.call_id):
        return False
    found = compare_parties(mine, sides)
    if found is Comparison.UNKNOWN:
        # Withheld or absent on either side: the texts must not contradict each other.
        return _agree(mine.caller.text, sides.caller.text) and _agree(mine.callee.text, sides.callee.text)
    return found is Comparison.SAME


def _agree(one: object, other: object) -> bool:
    return one is None or other is None or one == other


def _within(kept: Began | Ended, again: Began | Ended, rules: Rules) -> bool:
    return abs(again.origin.received_at - kept.origin.received_at) <= rules.repeat_window
