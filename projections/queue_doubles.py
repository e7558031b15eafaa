"""Polled calls that are the second row of another: at the queue, while that one is at the agent. Pure.

3CX may list one call twice, and a webhook tells of it once. Such a row has no session, the caller's text of a call that
has one, and is listed at the same time. But many may call from one number at once, and everybody who withholds it: so

1. a call has one such row at most, and a row is of one call: of those that it may be of, the first to end;
2. the row is at an extension where the call is not, and which is no agent's whom webhooks tell of;
3. where the text holds no number, that extension is a queue already known, by a row of a caller with one.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable
from operator import attrgetter

from events.numbers import SUFFIX_DIGITS_MIN
from projections.polled import PolledCall

Place = tuple[str, str]
"""A PBX and an extension of it."""
_last_seen_at = attrgetter("last_seen_at")


def queue_doubles(alone: Iterable[PolledCall], told: Iterable[PolledCall], agents: Collection[Place]) -> set[int]:
    """Which of those `alone` are, by `id`. `told`: the calls that have a session."""
    left: defaultdict[Place, list[PolledCall]] = defaultdict(list)
    for call in sorted(told, key=_last_seen_at):
        left[call.pbx, call.caller].append(call)
    queues: set[Place] = set()
    doubles: set[int] = set()
    for row in sorted(alone, key=lambda row: (not _has_number(row), row.last_seen_at)):
        calls = left.get((row.pbx, row.caller), [])
        for number in range(bisect_left(calls, row.first_seen_at, key=_last_seen_at), len(calls)):
            places = _elsewhere(row, calls[number])
            if places and places.isdisjoint(agents) and (_has_number(row) or places <= queues):
                del calls[number]
                queues |= places
                doubles.add(id(row))
                break
    return doubles


def _elsewhere(row: PolledCall, call: PolledCall) -> set[Place]:
    """Where the row is and the call is not, while both are listed; `call` was last seen after `row` first was."""
    if call.first_seen_at > row.last_seen_at:
        return set()
    return {(row.pbx, extension) for extension in row.extensions - call.extensions}


def _has_number(row: PolledCall) -> bool:
    """Whether there is an outside number after the first word of the caller's text, which is an extension."""
    name = row.caller.strip().partition(" ")[2]
    return sum(one.isdigit() for one in name) >= SUFFIX_DIGITS_MIN
