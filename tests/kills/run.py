"""A run: a feed, processors, faults, healing, verdict."""

import asyncio
import contextlib
import signal
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from types import MappingProxyType

from aiokafka import AIOKafkaConsumer, TopicPartition

from events.kafka import committed_reader, ensure_topics
from events.pbx import pbxs_of
from events.topics import CHANGELOG, Topic
from processors.settings import ProcessorsSettings
from tests.kills.feed import RULES, Feed, Feeder
from tests.kills.group import POLL_S, Group, Processor, wake
from tests.kills.plan import Fault
from tests.kills.verdict import Verdict, judge
from tests.system import committed_offsets, kafka_environment
from tests.waiting import eventually

PARTITIONS = 12
SESSION_TIMEOUT_S = 2.0
REACH_TIMEOUT_S = 30.0
HEAL_TIMEOUT_S = 120.0
TRIES_MAX = 4

Say = Callable[[str], None]


@dataclass
class Report:
    """What was done, and what came of it; green when `problems` is empty."""

    done: Counter[str] = field(default_factory=Counter)
    at_points: Counter[str] = field(default_factory=Counter)
    verdict: Verdict = field(default_factory=Verdict)
    problems: list[str] = field(default_factory=list)
    faults_s: float = 0.0
    total_s: float = 0.0

    @property
    def kills(self) -> int:
        """SIGKILLs of processors that worked."""
        return self.done["kill"] + self.done["kill at"] + self.done["third killed"]

    @property
    def zombies(self) -> int:
        """Processes that slept until others had taken over everything, and then went on."""
        return self.done["zombie"] + self.done["zombie at"]


@dataclass
class _Slot:
    processor: Processor | None = None


class Run:
    """One run against a broker; use `go` once."""

    def __init__(self, settings: ProcessorsSettings, folder: Path, seed: int, rate: float, say: Say) -> None:
        """`folder` takes logs and, when it ends badly, the evidence; `rate` is records a second."""
        self._settings = settings
        self._folder = folder
        self._random = Random(seed)
        self._say = say
        self._group = Group(environment(settings), folder, self._random)
        self._feeder = Feeder(settings, Feed(seed, PARTITIONS), rate)
        self._todo: deque[tuple[Fault, int]] = deque()
        self._count = 0
        self.report = Report()

    async def go(self, faults: Sequence[Fault], workers: int, timeout_s: float) -> Report:
        """Apply the faults, `workers` at a time, each to a processor of its own; then heal and judge."""
        began = time.monotonic()
        await make_topics(self._settings)
        self._todo.extend((fault, 1) for fault in faults)
        async with self._feeding():
            try:
                async with asyncio.timeout(timeout_s):
                    await asyncio.gather(*(self._work(len(faults)) for _ in range(workers)))
            except TimeoutError:
                self.report.problems.append(f"not all faults were applied within {timeout_s:.0f} s")
            self.report.faults_s = time.monotonic() - began
        await self._heal()
        self.report.verdict = await judge(self._settings, self._settings.rules, pbxs_of(self._settings), self._folder)
        self._group.look()
        self.report.problems += self._group.problems + self.report.verdict.problems
        self.report.done["takeovers"] = len(self._group.takeovers)
        self.report.done["processes"] = self._group.started
        for event in ("partition starts over", "the changelog's offset holds"):
            self.report.done[event] = self._group.said[event]
        self.report.total_s = time.monotonic() - began
        return self.report

    @contextlib.asynccontextmanager
    async def _feeding(self) -> AsyncIterator[None]:
        feeding = asyncio.create_task(self._feeder.run())
        try:
            yield
        finally:
            self._feeder.stop()
            await feeding

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Follow the processes' logs for the length of the block, and leave none of them behind."""
        watching = asyncio.create_task(self._group.watch())
        try:
            yield
        finally:
            watching.cancel()
            self._group.kill_all()

    async def _work(self, total: int) -> None:
        slot = _Slot()
        while self._todo:
            fault, tries = self._todo.popleft()
            if not await self._apply(fault, slot):
                if tries == TRIES_MAX:
                    self.report.problems.append(f"could not be brought about: {fault}")
                else:
                    self._todo.append((fault, tries + 1))
                continue
            self._count += 1
            self.report.done[fault.kind] += 1
            self.report.at_points[fault.point] += fault.kind == "kill at"
            self._say(f"fault {self._count}/{total}: {fault}; {self._feeder.written} records so far")
            await asyncio.sleep(fault.away_s)
        if slot.processor is None and len(self._group.alive) < 2:
            self._group.start()

    async def _apply(self, fault: Fault, slot: _Slot) -> bool:
        """Whether the fault came about; false when the processor did not come to the point in time."""
        match fault.kind:
            case "third":
                return await self._third(fault)
            case "kill at" | "zombie at":
                if slot.processor is not None:
                    await self._group.stop(slot.processor)
                    self.report.done["hand-overs"] += 1
                slot.processor = self._group.start(fault)
                ended = partial(self._at_its_point, slot.processor)
            case _:
                slot.processor = slot.processor or self._group.start()
                ended = partial(self._group.taken, slot.processor)
        victim = slot.processor
        if not await _until(ended, REACH_TIMEOUT_S):
            victim.kill()
            slot.processor = None
            return False
        if not fault.point:
            await asyncio.sleep(fault.after_s)
        if fault.kind.startswith("kill"):
            victim.kill()
            slot.processor = None
            return True
        return await self._sleep_and_wake(victim, fault)

    def _at_its_point(self, victim: Processor) -> bool:
        return victim.point_reached and (victim.stopped or not victim.alive)

    async def _sleep_and_wake(self, zombie: Processor, fault: Fault) -> bool:
        """Hold it until others have every partition; then let it go on with what it was doing."""
        since = len(self._group.takeovers)
        zombie.service.send(signal.SIGSTOP)
        others = [one for one in self._group.alive if one is not zombie and not one.stopped]
        spare = None if others else self._group.start()
        everything = set(range(PARTITIONS))
        overtaken = await _until(lambda: self._group.taken_from(zombie, since) == everything, REACH_TIMEOUT_S)
        await asyncio.sleep(fault.after_s)
        awake = len(self._group.takeovers)
        wake(zombie)
        back = await _until(lambda: any(one is zombie for one, _ in self._group.takeovers[awake:]), REACH_TIMEOUT_S / 2)
        self.report.done["fenced partitions"] += await zombie.fences()
        self.report.done["zombies that came back"] += back
        if spare is not None:
            await self._group.stop(spare)
        return overtaken

    async def _third(self, fault: Fault) -> bool:
        """One more joins, works, and leaves: killed, or as it should."""
        third = self._group.start()
        worked = await _until(partial(self._group.taken, third), REACH_TIMEOUT_S)
        await asyncio.sleep(fault.after_s)
        if self._random.random() < 0.5:
            third.kill()
            self.report.done["third killed"] += worked
        else:
            await self._group.stop(third)
        return worked

    async def _heal(self) -> None:
        """Two processors at the least, no faults, until the group's offsets stand at the ends of the feed."""
        while len(self._group.alive) < 2:
            self._group.start()
        ends = await _ends(self._settings)

        async def offsets() -> Sequence[int]:
            topic = self._settings.topic_set.webhooks
            return await committed_offsets(self._settings, self._settings.processors_application, topic)

        try:
            await eventually(offsets, lambda seen: list(seen) == ends, HEAL_TIMEOUT_S)
        except AssertionError as error:
            self.report.problems.append(f"the group did not reach the ends {ends}: {error}")
        await self._group.stop_all()


def environment(settings: ProcessorsSettings) -> dict[str, str]:
    """The processors' variables: short rules, small transactions, logs that can be read by us."""
    return {
        **kafka_environment(settings),
        "PROCESSORS_APPLICATION": settings.processors_application,
        "PROCESSORS_SESSION_TIMEOUT_S": str(settings.processors_session_timeout_s),
        "PROCESSORS_BATCH_RECORDS_MAX": str(settings.processors_batch_records_max),
        "PROCESSORS_CALL_DURATION_MAX_S": str(RULES.call_duration_max_s),
        "PROCESSORS_SUPERSEDED_GRACE_S": str(RULES.superseded_grace_s),
        "PROCESSORS_RING_MAX_S": str(RULES.ring_max_s),
        "PROCESSORS_TOLERANCE_S": str(RULES.tolerance_s),
        "PROCESSORS_CLOSED_KEPT_S": str(RULES.closed_kept_s),
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "DEBUG",
    }


def settings_for(bootstrap_servers: str, prefix: str) -> ProcessorsSettings:
    """The run's settings, the same for the processors and for the pure task."""
    return ProcessorsSettings(
        kafka_bootstrap_servers=bootstrap_servers,
        kafka_topic_prefix=prefix,
        kafka_topic_partitions=PARTITIONS,
        processors_application=f"processors-{prefix}",
        processors_session_timeout_s=SESSION_TIMEOUT_S,
        processors_batch_records_max=25,
        processors_call_duration_max_s=RULES.call_duration_max_s,
        processors_superseded_grace_s=RULES.superseded_grace_s,
        processors_ring_max_s=RULES.ring_max_s,
        processors_tolerance_s=RULES.tolerance_s,
        processors_closed_kept_s=RULES.closed_kept_s,
    )


async def make_topics(settings: ProcessorsSettings) -> None:
    """The topics, with a changelog that the broker compacts while the run lasts."""
    often = {
        "segment.bytes": str(1024 * 1024),
        "segment.ms": "15000",
        "delete.retention.ms": "60000",
        "min.compaction.lag.ms": "0",
    }
    configs = MappingProxyType({**CHANGELOG.configs, **often})
    await ensure_topics(settings, (Topic(CHANGELOG.suffix, CHANGELOG.holds, configs),))
    await ensure_topics(settings)


async def _ends(settings: ProcessorsSettings) -> list[int]:
    consumer = AIOKafkaConsumer(**committed_reader(settings), group_id=None)
    await consumer.start()
    try:
        partitions = [TopicPartition(settings.topic_set.webhooks, number) for number in range(PARTITIONS)]
        ends = await consumer.end_offsets(partitions)
        return [ends[one] for one in partitions]
    finally:
        await consumer.stop()


async def _until(holds: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL_S)
    return True
