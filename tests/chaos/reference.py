"""What should be there: the raw topic, and what the sender meant by each body, through the independent model.

Nothing of the product is used: headers are read here, bodies are looked up, and the rules are the model's.
"""

import multiprocessing
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from tests.simulation.facts import Said, Step
from tests.simulation.model import Model
from tests.simulation.proving import Spans

Json = dict[str, Any]
Facts = Mapping[tuple[str, bytes], Said | None]
WEBHOOK = "threecx.webhook.received"
PROGRESS = "threecx.feed.progress"


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
    webhooks: int = 0
    repeats_of_ingest: int = 0


def expect(partition: int, records: Sequence[Raw], facts: Facts, spans: Spans, shared: frozenset[str]) -> Expected:
    """Run the model over one partition."""
    model = Model(spans, shared)
    expected = Expected()
    seen: set[tuple[str, int]] = set()
    for record in records:
        step = _step(record, facts)
        if step.sequence is not None:
            if (step.instance, step.sequence) in seen:
                expected.repeats_of_ingest += 1
            elif step.said is None:
                expected.dead_letters.append(step.ce_id)
            expected.webhooks += (step.instance, step.sequence) not in seen
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
    """The views: of each session the event with the highest revision; and which calls each agent is on."""

    sessions: dict[str, Json] = field(default_factory=dict)
    revisions: Counter[str] = field(default_factory=Counter)

    @property
    def on_call(self) -> dict[tuple[str, str], set[str]]:
        """The open calls of each agent that has any."""
        found: dict[tuple[str, str], set[str]] = {}
        for session in self.sessions.values():
            extension = session["agent"]["extension"]
            if session["status"] == "open" and extension is not None:
                found.setdefault((session["pbx"], extension), set()).add(session["session_id"])
        return found


def folded(expected: Mapping[int, Expected]) -> Fold:
    """The fold of all partitions."""
    fold = Fold()
    for partition in expected.values():
        for event in partition.session_events:
            if event["type"] != PROGRESS:
                fold.revisions[event["session_id"]] += 1
                fold.sessions[event["session_id"]] = event["session"]
    return fold
