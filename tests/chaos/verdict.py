"""The verdict: six lines, each with what was counted, and a violation for each number that is wrong.

Violations carry the names that Jepsen uses: a lost write was acknowledged and is not there; a phantom is there and was
never written; a duplicate is there twice; an aborted read shows what was never committed; a stale read shows less than
what was committed.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from tests.chaos.ledger import Attempt
from tests.chaos.reference import WEBHOOK, Expected, Fold, Json, Raw

SHOWN_MAX = 3


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


def accepted_are_there(attempts: Sequence[Attempt], webhooks: Sequence[Raw]) -> Line:
    """1: every 2xx is in ``threecx.webhooks``, with the body that was sent."""
    line = Line("1 every 2xx is in threecx.webhooks")
    there = {record.header["ce_id"]: record for record in webhooks if record.header["ce_type"] == WEBHOOK}
    accepted = [one for one in attempts if one.id is not None]
    line.counts = {"accepted": len(accepted), "of attempts": len(attempts)}
    line.blame("lost-write", (one for one in accepted if one.id not in there))
    known = [one for one in accepted if one.id in there]
    line.blame("corrupt-write", (one for one in known if there[one.id or ""].value != one.body))
    line.blame("duplicate id", (one for one, count in Counter(one.id for one in accepted).items() if count > 1))
    odd = [one for one in attempts if one.status not in {None, 202, 422, 503}]
    line.blame("undeclared answer", odd)
    return line


def nothing_unsent(attempts: Sequence[Attempt], webhooks: Sequence[Raw]) -> Line:
    """2: nothing is there that was not sent, nor more often than it was; repeats of ingest's keep id and sequence."""
    line = Line("2 nothing is there that was not sent")
    sent = Counter((one.pbx, one.body) for one in attempts if one.status != 422)
    refused = {(one.pbx, one.body) for one in attempts if one.status == 422}
    ids: dict[tuple[str, str], Raw] = {}
    repeats = 0
    for record in webhooks:
        said = record.header
        if said["ce_type"] != WEBHOOK:
            continue
        first = ids.setdefault((said["ingest"], said["ingest_sequence"]), record)
        repeats += first is not record
        if first.header["ce_id"] != said["ce_id"] or first.value != record.value:
            line.blame("corrupt-write", [f"sequence {said['ingest_sequence']} has two meanings"])
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
    """3: `read_committed` sessions equal the model's, in order; and so do the dead letters."""
    line = Line("3 sessions equal the model's, in order")
    count = 0
    for partition, right in expected.items():
        mine = [orjson.loads(one.value or b"{}") for one in found.get(partition, ())]
        count += len(mine)
        if mine != right.session_events:
            _compare(line, partition, right.session_events, mine)
    letters = Counter(one.header["ce_id"] for one in dead if one.header["dead_letter_origin"] != "ingest")
    wanted = Counter(identity for right in expected.values() for identity in right.dead_letters)
    refused = sum(one.status == 422 for one in attempts)
    line.counts = {"session events": count, "dead letters": len(dead)}
    line.blame("lost-write (dead letter)", wanted - letters)
    if len(dead) < wanted.total() + refused:
        line.blame("lost-write (refused at the door)", [f"{refused} were refused, {len(dead)} dead letters in all"])
    if not count:
        line.blame("nothing was proven", ["no session event at all"])
    return line


def _compare(line: Line, partition: int, right: Sequence[Json], mine: Sequence[Json]) -> None:
    wanted, seen = Counter(one["id"] for one in right), Counter(one["id"] for one in mine)
    where = f"partition {partition}: "
    line.blame(f"{where}lost-write", wanted - seen)
    line.blame(f"{where}duplicate", (one for one in seen - wanted if one in wanted))
    line.blame(f"{where}phantom or aborted-read", (one for one in seen - wanted if one not in wanted))
    if wanted == seen:
        number = next(n for n, (one, other) in enumerate(zip(right, mine, strict=True)) if one != other)
        line.blame(f"{where}wrong value or order", [f"number {number}: {right[number]} but found {mine[number]}"])


def views_equal(
    name: str, fold: Fold, calls: Mapping[str, Json], agents: Sequence[Json], revisions: Mapping[str, int]
) -> Line:
    """4: the tables equal the fold."""
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
    on_call = {(one["pbx"], one["extension"]): set(one["calls"]) for one in agents if one["calls"]}
    for agent in on_call.keys() | fold.on_call.keys():
        if on_call.get(agent) != fold.on_call.get(agent):
            line.blame("wrong agent", [f"{agent} shows {on_call.get(agent)}, is on {fold.on_call.get(agent)}"])
    line.blame("wrong status", (one for one in agents if (one["status"] == "on_call") != bool(one["calls"])))
    return line


def stream_equals(name: str, held: Mapping[tuple[str, str], Json], agents: Sequence[Json], problems: list[str]) -> Line:
    """5: a client of the event stream that reconnected has the same state as one that asks now."""
    line = Line(f"5 a stream client of {name} that reconnected has the same state")
    now = {(one["pbx"], one["extension"]): one for one in agents}
    line.counts = {"agents": len(now)}
    line.blame("gap", problems)
    for agent in now.keys() | held.keys():
        mine, theirs = held.get(agent), now.get(agent)
        if mine is None or theirs is None or _state(mine) != _state(theirs):
            line.blame("stale-read", [f"{agent}: holds {mine and _state(mine)}, is {theirs and _state(theirs)}"])
    return line


def _state(agent: Json) -> Json:
    """All but the time as of which it is known, which goes on without an event."""
    return {name: value for name, value in agent.items() if name not in {"as_of", "today"}}


def counters_balance(sent: int, grown: Mapping[str, float]) -> Line:
    """6: of webhooks that came in peace each service counted each one, and each view each session event."""
    line = Line("6 counters balance to the unit")
    line.counts = {"webhooks in peace": sent, **{name: int(value) for name, value in grown.items()}}
    told = grown["session events by processors"]
    right = {name: told if name.startswith("folded") else sent for name in grown} | {
        "session events by processors": max(told, sent)
    }
    line.blame(
        "miscounted", (f"{name}: {grown[name]:g} for {right[name]:g}" for name in grown if grown[name] != right[name])
    )
    return line


def _twice(ids: Iterable[str]) -> list[str]:
    return [one for one, count in Counter(ids).items() if count > 1]
