"""The verdict: what the processors wrote under faults, against one run of the pure task over the same records."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka import ConsumerRecord

from events.kafka import KafkaSettings
from events.pbx import Pbx
from processors.rules import Rules
from processors.task import InputRecord, OutputRecord, Task
from tests.builders import cut, folded
from tests.system import read_committed

READ_TIMEOUT_S = 180.0
PURE_BATCH_RECORDS = 500

Line = tuple[bytes | None, bytes | None, tuple[tuple[str, bytes], ...]]
"""Key, value and headers of an output record."""


@dataclass
class Outputs:
    """What one partition's records led to: the two topics in order, the changelog as compaction leaves it."""

    session_events: list[Line] = field(default_factory=list)
    dead_letters: list[Line] = field(default_factory=list)
    changelog: dict[bytes, bytes] = field(default_factory=dict)


@dataclass
class Verdict:
    """Counts of what was compared, and a sentence per difference; none means exactly once, in order, byte for byte."""

    records: int = 0
    session_events: int = 0
    dead_letters: int = 0
    changelog_keys: int = 0
    problems: list[str] = field(default_factory=list)


async def judge(settings: KafkaSettings, rules: Rules, pbxs: Mapping[str, Pbx], evidence: Path) -> Verdict:
    """Read the topics back and compare; what differs is written to files in the folder `evidence`."""
    topics = settings.topic_set
    webhooks = await read_committed(settings, topics.webhooks, READ_TIMEOUT_S)
    found = await _found(settings)
    verdict = Verdict(records=len(webhooks))
    for partition in range(settings.kafka_topic_partitions):
        records = [
            InputRecord(one.partition, one.offset, one.key, one.value, one.headers)
            for one in webhooks
            if one.partition == partition
        ]
        right = _expected(Task(partition, rules, pbxs, topics.webhooks), records)
        problems = [f"partition {partition}: {problem}" for problem in differences(right, found[partition])]
        verdict.problems += problems
        verdict.session_events += len(right.session_events)
        verdict.dead_letters += len(right.dead_letters)
        verdict.changelog_keys += len(right.changelog)
        if problems:
            _keep(evidence, partition, records, right, found[partition])
    if not verdict.session_events or not verdict.dead_letters:
        verdict.problems.append("the feed led to no session events or no dead letters: nothing was proven")
    return verdict


def _expected(task: Task, records: Sequence[InputRecord]) -> Outputs:
    batches = [task.process(part) for part in cut(records, PURE_BATCH_RECORDS)]
    return Outputs(
        [_line(one) for batch in batches for one in batch.session_events],
        [_line(one) for batch in batches for one in batch.dead_letters],
        folded(batches),
    )


async def _found(settings: KafkaSettings) -> list[Outputs]:
    topics = settings.topic_set
    outputs = [Outputs() for _ in range(settings.kafka_topic_partitions)]
    for one in await read_committed(settings, topics.call_sessions, READ_TIMEOUT_S):
        outputs[one.partition].session_events.append(_line(one))
    for one in await read_committed(settings, topics.dead_letters, READ_TIMEOUT_S):
        outputs[one.partition].dead_letters.append(_line(one))
    for one in await read_committed(settings, topics.changelog, READ_TIMEOUT_S):
        if one.value is None:
            outputs[one.partition].changelog.pop(one.key, None)
        else:
            outputs[one.partition].changelog[one.key] = one.value
    return outputs


def _line(one: OutputRecord | ConsumerRecord) -> Line:
    return one.key, one.value, tuple(one.headers)


def differences(right: Outputs, found: Outputs) -> list[str]:
    """A sentence for each topic that is not what it should be."""
    problems = []
    for name, expected, seen in (
        ("session events", right.session_events, found.session_events),
        ("dead letters", right.dead_letters, found.dead_letters),
    ):
        if expected != seen:
            problems.append(f"{name}: {_difference(expected, seen)}")
    wrong = {key for key in right.changelog | found.changelog if right.changelog.get(key) != found.changelog.get(key)}
    if wrong:
        problems.append(
            f"changelog: {len(wrong)} of {len(right.changelog)} keys are missing, too many or of other value"
        )
    return problems


def _difference(expected: list[Line], seen: list[Line]) -> str:
    lost, added = Counter(expected) - Counter(seen), Counter(seen) - Counter(expected)
    twice = sum(count for line, count in added.items() if line in set(expected))
    first = next(
        (at for at, (one, other) in enumerate(zip(expected, seen, strict=False)) if one != other),
        min(len(expected), len(seen)),
    )
    return (
        f"{len(expected)} expected, {len(seen)} found; {lost.total()} lost, {twice} twice, {added.total() - twice}"
        f" never meant{'' if lost or added else ', the order differs'}; the first difference at number {first}"
    )


def _keep(folder: Path, partition: int, records: Sequence[InputRecord], right: Outputs, found: Outputs) -> None:
    inputs = ((one.key, one.value, tuple(one.headers)) for one in records)
    _write(folder / f"partition-{partition}.input.jsonl", inputs)
    for name, outputs in (("expected", right), ("found", found)):
        _write(folder / f"partition-{partition}.session-events.{name}.jsonl", outputs.session_events)
        _write(folder / f"partition-{partition}.dead-letters.{name}.jsonl", outputs.dead_letters)
        changelog = ((key, value, ()) for key, value in sorted(outputs.changelog.items()))
        _write(folder / f"partition-{partition}.changelog.{name}.jsonl", changelog)


def _write(path: Path, lines: Iterable[Line]) -> None:
    def text(raw: bytes | None) -> str | None:
        return None if raw is None else raw.decode("utf-8", "backslashreplace")

    with path.open("w") as file:
        for key, value, headers in lines:
            said = {"key": text(key), "value": text(value), "headers": [[name, text(one)] for name, one in headers]}
            file.write(json.dumps(said) + "\n")
