"""What should be there: the raw topic, and what the sender meant by each body, through the independent model.

Nothing of the product is used: headers are read here, bodies are looked up, and the rules are the model's.
"""

import multiprocessing
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Any, NamedTuple

from tests.simulation.facts import Said, Step
from tests.simulation.model import Model
from tests.simulation.proving import Spans

Json = dict[str, Any]
AgentKey = tuple[str, str]
Facts = Mapping[tuple[str, bytes], Said | None]
WEBHOOK = "threecx.webhook.received"
TICK = "threecx.clock.tick"
PROGRESS = "threecx.feed.progress"
OUTCOMES = ("answered", "missed", "not_answered")
DIRECTIONS = ("inbound", "outbound", "internal")


class Raw(NamedTuple):
    """A record as it lies in a topic."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]

    @property
    def header(self) -> dict[str, str]:
        """The headers by name."""
        return {name: value.decode() for name, value in self.headers}


@dataclass(slots=True)
class Expected:
    """What one partition's records lead to: session events in order, dead letters by the id of their record."""

    session_events: list[Json] = field(default_factory=list)
    dead_letters: list[str] = field(default_factory=list)


def expect(partition: int, records: Sequence[Raw], facts: Facts, spans: Spans, shared: frozenset[str]) -> Expected:
    """Run the model over one partition."""
    model = Model(spans, shared)
    expected = Expected()
    seen: set[tuple[str, int]] = set()
    for record in records:
        step = _step(record, facts)
        if step.sequence is not None:
            if step.said is None and (step.instance, step.sequence) not in seen:
                expected.dead_letters.append(step.ce_id)
            seen.add((step.instance, step.sequence))
        model.take(step)
    expected.session_events = model.told
    for event in expected.session_events:
        for cause in event.get("causes", ()):
            cause["partition"] = partition
    return expected


def _step(record: Raw, facts: Facts) -> Step:
    said = record.header
    is_webhook = said["ce_type"] == WEBHOOK
    pbx = said["ce_source"].removeprefix("/pbx/")
    return Step(
        offset=record.offset,
        ce_id=said["ce_id"],
        key=(record.key or b"").decode(),
        pbx=pbx,
        received_at=datetime.fromisoformat(said["ce_time"]),
        instance=said["ingest"],
        sequence=int(said["ingest_sequence"]) if is_webhook else None,
        body=record.value or b"",
        said=facts[pbx, record.value or b""] if is_webhook else None,
    )


def expect_all(
    partitions: Mapping[int, Sequence[Raw]], facts: Facts, spans: Spans, shared: frozenset[str]
) -> dict[int, Expected]:
    """Every partition, on every core."""
    with multiprocessing.get_context("forkserver").Pool(2) as pool:
        work = [(number, records, dict(facts), spans, shared) for number, records in partitions.items()]
        return dict(zip(partitions, pool.starmap(expect, work, chunksize=1), strict=True))


@dataclass(slots=True)
class Fold:
    """The views: of each session the event with the highest revision and when that became known; and each agent."""

    sessions: dict[str, Json] = field(default_factory=dict)
    known_at: dict[str, str] = field(default_factory=dict)
    revisions: Counter[str] = field(default_factory=Counter)

    def agents(self, zones: Mapping[str, tzinfo], days: Mapping[AgentKey, str]) -> dict[AgentKey, Json]:
        """Every agent that had a call, with the figures of its day; `zones`: of PBXs that are not at UTC."""
        mine: dict[AgentKey, list[Json]] = {}
        for session in self.sessions.values():
            if session["agent"]["extension"] is not None:
                mine.setdefault((session["pbx"], session["agent"]["extension"]), []).append(session)
        return {key: self._agent(calls, zones.get(key[0], UTC), days.get(key)) for key, calls in mine.items()}

    def _agent(self, calls: list[Json], zone: tzinfo, day: str | None) -> Json:
        calls.sort(key=lambda call: (call["first_received_at"], call["session_id"]))
        opened = [call for call in calls if call["status"] == "open"]
        closed = [call for call in calls if call["status"] != "open"]
        todays = [call for call in calls if _began(call).astimezone(zone).date().isoformat() == day]
        since = min(map(_began, opened)) if opened else max(map(self._closed, closed))
        return {
            "status": "on_call" if opened else "available",
            "calls": sorted(call["session_id"] for call in opened),
            "since": since,
            "last_call": calls[-1]["session_id"],
            "email": next((call["agent"]["email"] for call in reversed(calls) if call["agent"]["email"]), None),
            "today": {
                "calls": len(todays),
                "open": sum(call["status"] == "open" for call in todays),
                "inferred_ends": sum(call["status"] == "end_missed" for call in todays),
                "talk_s": sum(call["duration_s"] or 0 for call in todays),
                **{one: sum(call["outcome"] == one for call in todays) for one in OUTCOMES},
                **{one: sum(call["direction"] == one for call in todays) for one in DIRECTIONS},
            },
        }

    def _closed(self, call: Json) -> datetime:
        latest = (call["ended_between"] or {}).get("latest")
        return datetime.fromisoformat(call["ended_at"] or latest or self.known_at[call["session_id"]])


def _began(call: Json) -> datetime:
    return datetime.fromisoformat(call["started_at"] or call["first_received_at"])


def folded(expected: Mapping[int, Expected]) -> Fold:
    """The fold of all partitions."""
    fold = Fold()
    for partition in expected.values():
        for event in partition.session_events:
            if event["type"] != PROGRESS:
                fold.revisions[event["session_id"]] += 1
                fold.sessions[event["session_id"]] = event["session"]
                fold.known_at[event["session_id"]] = event["time"]
    return fold
