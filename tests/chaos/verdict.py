"""The verdict: six lines, each with what was counted, and a violation for each number that is wrong.

Violations carry the names that Jepsen uses: a lost write was acknowledged and is not there; a phantom is there and was
never written; a duplicate is there twice; an aborted read shows what was never committed; a stale read shows less than
what was committed.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from http import HTTPStatus

import orjson

from tests.chaos.follower import Follower
from tests.chaos.ledger import Attempt
from tests.chaos.reference import PROGRESS, TICK, WEBHOOK, Expected, Fold, Json, Raw

Window = tuple[float, float]
"""From when to when, in the ledger's seconds."""
SHOWN_MAX = 3
ANSWER_S_MAX = 5.0
ANSWER_SLACK_S = 0.5
"""The harness shares its two cores with all that it watches."""
CLOCK_SLACK_S = 0.05
"""A time is cut to the microsecond, and the wall clock is slewed."""


@dataclass(slots=True)
class Line:
    """One of the six: what holds, the counts, the violations."""

    holds: str
    counts: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """As a person reads it."""
        counts = ", ".join(f"{count:,} {name}" for name, count in self.counts.items())
        return f"{'VIOLATED' if self.violations else 'holds   '}  {self.holds}: {counts}"

    def blame(self, name: str, ones: Iterable[object]) -> None:
        """Every one of `ones` violates; a few are shown."""
        found = list(ones)
        if found:
            shown = "; ".join(str(one)[:300] for one in found[:SHOWN_MAX])
            self.violations.append(f"{name} ({len(found)}): {shown}")


def accepted_are_there(attempts: Sequence[Attempt], webhooks: Sequence[Raw], wall_s: float | None) -> Line:
    """1: every 2xx is in ``threecx.webhooks``, with the body that was sent and the time at which it was.

    `wall_s`: what makes wall-clock seconds of the ledger's; null: ingest's clock was wrong, times are not looked at.
    """
    line = Line("1 every 2xx is in threecx.webhooks")
    there = {record.header["ce_id"]: record for record in webhooks if record.header["ce_type"] == WEBHOOK}
    accepted = [one for one in attempts if one.id is not None]
    line.counts = {"accepted": len(accepted), "of attempts": len(attempts)}
    line.blame("lost-write", (one for one in accepted if one.id not in there))
    known = [one for one in accepted if one.id in there]
    line.blame("corrupt-write", (one for one in known if there[one.id or ""].value != one.body))
    line.blame("duplicate id", _twice(one.id for one in accepted))
    if wall_s is not None:
        stamps = ((one, datetime.fromisoformat(there[one.id or ""].header["ce_time"]).timestamp()) for one in known)
        line.blame("wrong time", (one for one, at_s in stamps if not _was_under_way(one, at_s - wall_s)))
    odd = [one for one in attempts if one.status not in {None, 202, 422, 503}]
    line.blame("undeclared answer", odd)
    return line


def _was_under_way(attempt: Attempt, at_s: float) -> bool:
    answered_s = math.inf if attempt.answered_s is None else attempt.answered_s
    return attempt.sent_s - CLOCK_SLACK_S <= at_s <= answered_s + CLOCK_SLACK_S


def nothing_unsent(attempts: Sequence[Attempt], webhooks: Sequence[Raw], *, clock_was_right: bool) -> Line:
    """2: nothing is there that was not sent, nor more often than it was; repeats of ingest's keep id and sequence.

    And all is in order: in a partition an instance's sequences ascend where they are there for the first time, and, if
    its clock was right, no webhook comes after a younger tick of its instance. A PBX's webhooks bear its name as their
    key, and are in one partition.
    """
    line = Line("2 nothing is there that was not sent")
    sent = Counter((one.pbx, one.body) for one in attempts if one.status != 422)
    refused = {(one.pbx, one.body) for one in attempts if one.status == 422}
    ids: dict[tuple[str, str], Raw] = {}
    last: dict[tuple[int, str], int] = {}
    ticked: dict[tuple[int, str], str] = {}
    ambiguous, unordered, late, foreign, misplaced = [], [], [], [], []
    home: dict[str, int] = {}
    repeats = 0
    for record in webhooks:
        said = record.header
        if said["ce_type"] not in {WEBHOOK, TICK}:
            foreign.append(said["ce_type"])
            continue
        place = record.partition, said["ingest"]
        if said["ce_type"] != WEBHOOK:
            ticked[place] = max(said["ce_time"], ticked.get(place, ""))
            continue
        pbx = said["ce_source"].removeprefix("/pbx/")
        if record.key != pbx.encode() or home.setdefault(pbx, record.partition) != record.partition:
            misplaced.append(f"{pbx}: key {record.key!r} in partition {record.partition}")
        first = ids.setdefault((said["ingest"], said["ingest_sequence"]), record)
        if first is not record:
            repeats += 1
            if first.header["ce_id"] != said["ce_id"] or first.value != record.value:
                ambiguous.append(f"sequence {said['ingest_sequence']} has two meanings")
            continue
        sequence = int(said["ingest_sequence"])
        if sequence <= last.get(place, -1):
            unordered.append(f"partition {record.partition}: sequence {sequence} after {last[place]}")
        if clock_was_right and said["ce_time"] < ticked.get(place, ""):
            late.append(f"partition {record.partition}: {said['ce_time']} after a tick of {ticked[place]}")
        last[place] = sequence
    line.blame("corrupt-write", ambiguous)
    line.blame("wrong order", unordered)
    line.blame("a webhook after a younger tick", late)
    line.blame("phantom (neither webhook nor tick)", foreign)
    line.blame("wrong key or partition", misplaced)
    line.blame("lost-write (ticks of a partition)", {*home.values()} - {partition for partition, _ in ticked})
    there = Counter((one.header["ce_source"].removeprefix("/pbx/"), one.value or b"") for one in ids.values())
    line.counts = {"webhooks": len(ids), "forwarded again": repeats}
    line.blame("phantom", there - sent)
    line.blame("refused and kept all the same", (one for one in refused if one in there))
    line.blame("duplicate id", _twice(one.header["ce_id"] for one in ids.values()))
    return line


def sessions_equal(
    expected: Mapping[int, Expected],
    found: Mapping[int, Sequence[Raw]],
    dead: Sequence[Raw],
    attempts: Sequence[Attempt],
) -> Line:
    """3: `read_committed` sessions equal the model's byte for byte, in order; and so do the dead letters."""
    line = Line("3 sessions equal the model's, byte for byte, in order")
    count = 0
    for partition, right in expected.items():
        records = found.get(partition, ())
        count += len(records)
        if [one.value for one in records] != [orjson.dumps(one) for one in right.session_events]:
            _compare(line, partition, right.session_events, [orjson.loads(one.value or b"{}") for one in records])
        else:
            pairs = zip(records, right.session_events, strict=True)
            line.blame("wrong key or headers", (event["id"] for one, event in pairs if not _is_wrapped(one, event)))
    letters = Counter(one.header["ce_id"] for one in dead if one.header["dead_letter_origin"] != "ingest")
    wanted = Counter(identity for right in expected.values() for identity in right.dead_letters)
    line.blame("lost-write (dead letter)", wanted - letters)
    line.blame("duplicate or phantom (dead letter)", letters - wanted)
    # Ingest may deliver one twice, with the same id; and what it kept, but never came to answer, is there as well.
    ids = {one.header["ce_id"]: one for one in dead if one.header["dead_letter_origin"] == "ingest"}
    kept = Counter((one.header["ce_source"].removeprefix("/pbx/"), one.value or b"") for one in ids.values())
    refused = Counter((one.pbx, one.body) for one in attempts if one.status == 422)
    silent = Counter((one.pbx, one.body) for one in attempts if one.status is None)
    line.blame("lost-write (refused at the door)", refused - kept)
    line.blame("phantom (refused at the door)", kept - refused - silent)
    line.counts = {"session events": count, "dead letters": len(dead), "of which refused at the door": kept.total()}
    if not count:
        line.blame("nothing was proven", ["no session event at all"])
    return line


def _is_wrapped(record: Raw, event: Json) -> bool:
    """Whether key and headers say what the event says; a feed's progress is of no PBX.

    A header's time has six digits always, one in JSON a fraction only where there is one: once in a million events.
    """
    said = record.header
    pbx = said["ce_source"].removeprefix("/pbx/") if event["type"] == PROGRESS else event["session"]["pbx"]
    right = {
        "ce_specversion": "1.0",
        "ce_id": event["id"],
        "ce_source": f"/pbx/{pbx}",
        "ce_type": event["type"],
        "ce_time": event["time"] if "." in event["time"] else event["time"].replace("Z", ".000000Z"),
        "content-type": "application/json",
    }
    return said == right and (event["type"] == PROGRESS or record.key == pbx.encode())


def _compare(line: Line, partition: int, right: Sequence[Json], mine: Sequence[Json]) -> None:
    wanted, seen = Counter(one["id"] for one in right), Counter(one["id"] for one in mine)
    where = f"partition {partition}: "
    line.blame(f"{where}lost-write", wanted - seen)
    line.blame(f"{where}duplicate", (one for one in seen - wanted if one in wanted))
    line.blame(f"{where}phantom or aborted-read", (one for one in seen - wanted if one not in wanted))
    if wanted == seen:
        differing = (n for n, (one, other) in enumerate(zip(right, mine, strict=True)) if one != other)
        number = next(differing, None)
        at = "the same values in other bytes"
        if number is not None:
            at = f"number {number}: {right[number]} but found {mine[number]}"
        line.blame(f"{where}wrong value or order", [at])


def views_equal(
    name: str,
    fold: Fold,
    calls: Mapping[str, Json],
    agents: Sequence[Json],
    revisions: Mapping[str, int],
    zones: Mapping[str, tzinfo],
    asked: Sequence[datetime],
) -> Line:
    """4: the tables equal the fold; `zones`: of PBXs that are not at UTC; `asked`: about when the agents were."""
    line = Line(f"4 the views in {name} equal the fold")
    line.counts = {"calls": len(calls), "of which looked into": len(revisions), "agents": len(agents)}
    line.blame("lost-update", (one for one in fold.sessions if one not in calls))
    line.blame("phantom", (one for one in calls if one not in fold.sessions))
    for session_id, session in fold.sessions.items():
        shown = calls.get(session_id)
        if shown is not None:
            differing = {name: (value, shown.get(name)) for name, value in session.items() if shown.get(name) != value}
            line.blame("stale-read", [f"{session_id}: {differing}"] if differing else [])
    wrong = {one: count for one, count in revisions.items() if count != fold.revisions[one]}
    line.blame("lost-update (revisions)", (f"{one} has {n} of {fold.revisions[one]}" for one, n in wrong.items()))
    found = {(one["pbx"], one["extension"]): one for one in agents}
    right = fold.agents(zones, {key: one["today"]["day"] for key, one in found.items()})
    days = {pbx: {at.astimezone(zones.get(pbx, UTC)).date().isoformat() for at in asked} for pbx, _ in found}
    line.blame("another day (agent)", (key for key, one in found.items() if one["today"]["day"] not in days[key[0]]))
    line.blame("lost-update (agent)", right.keys() - found.keys())
    line.blame("phantom (agent)", found.keys() - right.keys())
    wrong_agents = ((key, _differing(right[key], found[key])) for key in right.keys() & found.keys())
    line.blame("wrong agent", (f"{key}: {differing}" for key, differing in wrong_agents if differing))
    return line


def _differing(right: Json, shown: Json) -> Json:
    """What is shown of an agent and is not so: what should be, and what is."""
    shown = {
        **shown,
        "calls": sorted(shown["calls"]),
        "since": shown["since"] and datetime.fromisoformat(shown["since"]),
        "today": {name: shown["today"][name] for name in right["today"]},
    }
    return {name: (value, shown[name]) for name, value in right.items() if shown[name] != value}


def stream_equals(name: str, held: Follower, calls: Mapping[str, Json], agents: Sequence[Json]) -> Line:
    """5: a client of the event stream that reconnected has the same state as one that asks now."""
    line = Line(f"5 a stream client of {name} that reconnected has the same state")
    now = {(one["pbx"], one["extension"]): one for one in agents}
    line.counts = {"agents": len(now), "calls": len(held.calls), "resumed": held.resumed, "begun anew": held.anew}
    line.blame("gap", held.problems)
    for agent in now.keys() | held.agents.keys():
        mine, theirs = held.agents.get(agent), now.get(agent)
        if mine is None or theirs is None or _state(mine) != _state(theirs):
            line.blame("stale-read", [f"{agent}: holds {mine and _state(mine)}, is {theirs and _state(theirs)}"])
    line.blame("stale-read (call)", (one for one, call in held.calls.items() if calls.get(one) != call))
    opened = {one for one, call in calls.items() if call["status"] == "open"}
    line.blame("stale-read (call not told)", opened - held.calls.keys())
    if not held.resumed:
        line.blame("nothing was proven", ["it never went on where it was"])
    return line


def _state(agent: Json) -> Json:
    """All but the time as of which it is known, which goes on without an event."""
    return {name: value for name, value in agent.items() if name not in {"as_of", "today"}}


def counters_balance(sent: int, grown: Mapping[str, float], ticks: float) -> Line:
    """6: of webhooks that came in peace each service counted each one, and each view each session event.

    `ticks`: how many there were meanwhile; not one, and no call would ever time out.
    """
    line = Line("6 counters balance to the unit")
    line.counts = {"webhooks in peace": sent, **{name: int(value) for name, value in grown.items()}}
    line.blame("lost-write (tick)", ["no tick"] if ticks < 1 else [])
    told = grown["session events by processors"]
    right = {name: told if name.startswith("folded") else sent for name in grown} | {
        "session events by processors": max(told, sent)
    }
    line.blame(
        "miscounted", (f"{name}: {grown[name]:g} for {right[name]:g}" for name in grown if grown[name] != right[name])
    )
    return line


def answers(
    attempts: Sequence[Attempt], down: Sequence[Window], refusing: Sequence[Window]
) -> tuple[list[float], list[str]]:
    """How long each answer took, and what is wrong: every webhook is answered within 5 s, and refused only for a disk.

    `down`: when the door was killed, frozen or cut off; `refusing`: when the journal's disk was not well.
    """
    took: list[float] = []
    wrong: list[str] = []
    for one in attempts:
        until_s = math.inf if one.answered_s is None else one.answered_s
        if _overlaps(down, one.sent_s, until_s):
            continue
        took.append(until_s - one.sent_s)
        if one.status is None or took[-1] > ANSWER_S_MAX + ANSWER_SLACK_S:
            wrong.append(f"attempt {one.number} was answered {one.status} after {took[-1]:.1f} s")
        if one.status == HTTPStatus.SERVICE_UNAVAILABLE and not _overlaps(refusing, one.sent_s, until_s):
            wrong.append(f"attempt {one.number} was refused though the journal's disk was well")
    return took, wrong


def _overlaps(windows: Iterable[Window], from_s: float, until_s: float) -> bool:
    return any(begin <= until_s and from_s <= end for begin, end in windows)


def _twice(ids: Iterable[str | None]) -> list[str | None]:
    return [one for one, count in Counter(ids).items() if count > 1]
