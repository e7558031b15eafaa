"""The day through the real core, restored now and then, and what must hold of what it told."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from random import Random

from events import session_events
from events.session_events import CallEvent, FeedProgress, Reason
from tests.builders import T0, at, new_task
from tests.witness_days.day import RULES, TICK_S, WITHHELD, Day, Given, TrueCall, day_of

RESTORES = 0.0005
"""A record after which the processor is begun anew from its changelog: some each day."""
SLACK_S = 3 * TICK_S
"""A deadline is seen at the next tick, and live time begins anew after each silence."""


@dataclass(slots=True)
class Found:
    """What a day came to, and each thing that must not be."""

    seed: int
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def judged(seed: int, hours: float) -> Found:
    """Run the day of this seed and look."""
    day, found = day_of(seed, hours), Found(seed)
    told = list(_told(day, Random(seed)))
    truth = {(call.agent, call.party, _second(call.begin_s)): call for call in day.calls}
    closed: dict[int, tuple[float, CallEvent]] = {}
    last: dict[int, CallEvent] = {}
    for told_s, event in told:
        said = event.session
        call = truth.get((said.agent.extension or "", said.caller or "", said.started_at or T0))
        if call is None:
            continue  # of an end alone nothing is judged
        last[call.number] = event
        if event.type == "call.end_missed":
            closed[call.number] = (told_s, event)
            found.counts[event.reason] += 1
            found.wrong += _closed_wrongly(day, call, told_s, event)
    for call in day.calls:
        if call.started_log_s is not None and call.number in last:
            found.wrong += _left_open(day, call, closed.get(call.number), last[call.number], found.counts)
    return found


def _told(day: Day, random: Random) -> Iterator[tuple[float, CallEvent]]:
    """Each call event with the time of the record that led to it."""
    task, kept = new_task(RULES), dict[bytes, bytes | None]()
    for record in day.log.records:
        batch = task.process([record])
        kept |= batch.changelog
        now_s = _log_s(dict(record.headers)["ce_time"]) if batch.session_events else 0.0
        for out in batch.session_events:
            event = session_events.decode(out.value or b"")
            if not isinstance(event, FeedProgress):
                yield now_s, event
        if random.random() < RESTORES:
            task = new_task(RULES)
            for key, value in kept.items():
                task.restore(key, value)
            task.restored()


def _log_s(text: bytes) -> float:
    return (datetime.fromisoformat(text.decode()) - T0).total_seconds()


def _second(moment_s: float) -> datetime:
    """As a webhook prints it."""
    return at(int(moment_s))


def _closed_wrongly(day: Day, call: TrueCall, told_s: float, event: CallEvent) -> Iterator[str]:
    if call.end_s > told_s:
        yield f"{call} was closed at {told_s:.0f} by {event.reason} and ran until {call.end_s:.0f}"
    between = event.session.ended_between
    if event.reason is not Reason.ABSENT_FROM_PBX or between is None or between.latest is None:
        return
    known = not any(_may_be_taken_for(day, other, call, told_s) for other in day.calls)
    if between.earliest is None or (known and between.earliest > at(call.end_s)):
        yield f"{call} has ended before {between.earliest}"
    # Where a wrong list came just before the end, the PBX itself said the untruth.
    if between.latest < at(call.end_s) and not any(one.wrong and at(one.log_s) == between.latest for one in day.lists):
        yield f"{call} has ended after {between.latest}"


def _left_open(
    day: Day, call: TrueCall, closed: tuple[float, CallEvent] | None, last: CallEvent, counts: Counter[str]
) -> Iterator[str]:
    """An end that no webhook told is inferred in time; one that is told, early or late, is what counts in the end."""
    if call.ended_log_s is not None:
        counts["ends told"] += 1
        # Which of an agent's withheld calls an end means cannot always be told.
        if last.session.status != "ended" and call.party != WITHHELD:
            yield f"{call} was told to have ended and is {last.session.status}"
        return
    counts["ends dropped"] += 1
    due_s = _due_s(day, call)
    if not any(not one.wrong and one.as_of_s >= call.begin_s for one in _lists(day, call)):
        counts["ends dropped, never listed"] += 1
    elif any(_may_be_taken_for(day, other, call, due_s) for other in day.calls):
        counts["ends dropped, may be listed still"] += 1
    elif closed is None or closed[0] > due_s:
        yield f"{call} was to be closed by {due_s:.0f}: {'open' if closed is None else closed[0]}"


def _may_be_taken_for(day: Day, other: TrueCall, call: TrueCall, due_s: float) -> bool:
    """Whether the lists show another call of the agent that may be this one.

    Withheld; or a redial that began without a webhook, was listed in the second before its webhook came, or, after a
    restart of the PBX, has the same id.
    """
    if call.party == WITHHELD or (call.is_redial and _listed_early(day, call)):
        return True
    if other is call or other.agent != call.agent or not (other.begin_s < due_s and other.end_s > call.begin_s):
        return False
    if other.party == WITHHELD:
        return True
    is_alike = other.party == call.party
    return is_alike and (other.started_log_s is None or other.id == call.id or _listed_early(day, other))


def _listed_early(day: Day, call: TrueCall) -> bool:
    began_s, told_s = call.begin_s, call.started_log_s
    return told_s is not None and any(began_s <= one.as_of_s and one.log_s <= told_s for one in day.lists)


def _lists(day: Day, call: TrueCall) -> Iterator[Given]:
    """Those that may show the call after its start was told."""
    since_s = call.begin_s if call.started_log_s is None else call.started_log_s
    return (one for one in day.lists if since_s <= one.log_s and one.as_of_s < call.end_s)


def _due_s(day: Day, call: TrueCall) -> float:
    """Two lists that can show it, and the grace, without the time in which ingest was away.

    Three, and one for each redial: that may be listed before its start has come.
    """
    shown = [one for one in day.lists if one.as_of_s >= call.end_s]
    redials = sum(one.party == call.party and one.begin_s >= call.end_s for one in day.calls)
    two = list(islice(shown, 3 + min(redials, 3)))[-1]
    due_s = two.log_s + RULES.absence_grace_s + SLACK_S
    for begin_s, end_s in day.away:
        if begin_s < due_s and end_s > two.log_s - 2 * SLACK_S:
            due_s += end_s - begin_s + SLACK_S
    return due_s
