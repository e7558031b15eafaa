"""``python -m tests.backlog``: Kafka away while 500,000 webhooks come, then a drain with 20 SIGKILLs.

1. Kafka is refused, then half-open (connections that are never answered), then slow, then refused again, while webhooks
   come over 32 connections as fast as they are answered: each is answered 202 within 5 s.
2. Kafka comes back and the journal drains; ingest is killed 20 times meanwhile, and the link is silent and slow once
   each. What is left after the last kill drains undisturbed: that is the speed.
3. Every webhook answered 202 is in the topic, as it was sent, and in order per instance.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.faults.arrivals import Arrivals, arrived
from tests.faults.broker import Neighbour, neighbour
from tests.faults.door import DoorProcess
from tests.faults.load import Load
from tests.faults.proxy import Link
from tests.waiting import eventually

BUSY_DAY_PER_S = 200
"""7.2 million webhooks in ten hours: "some hundreds a second" is what one partition is laid out for. 1,000 agents with
100 calls each on such a day are 200,000 webhooks, 6 a second, three times that in the busiest hour."""
CONNECTIONS = 32
MISBEHAVING_S = 10.0
LIFE_S = (0.3, 4.0)
REMAINDER = 0.3
"""The share that is drained after the last kill."""


@dataclass
class Report:
    """What was seen; `problems`: what must not be."""

    accepted: int = 0
    accepting_s: float = 0.0
    slowest_answer_s: float = 0.0
    kills: int = 0
    drained: int = 0
    draining_s: float = 0.0
    repeats: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def drain_per_s(self) -> float:
        """Records a second after the last kill."""
        return self.drained / self.draining_s if self.draining_s else 0.0


Say = Callable[[str], None]


def say_with_time(line: str) -> None:
    """Show progress."""
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


class Run:
    """One backlog, grown and drained."""

    def __init__(self, beside: Neighbour, scratch: Path, seed: int, misbehaving_s: float, say: Say) -> None:
        """Nothing is started yet."""
        self._beside = beside
        self._random = Random(seed)
        self._misbehaving_s = misbehaving_s
        self._say = say
        self._door = DoorProcess(beside.settings, scratch / "data", scratch / "ingest.log")
        self._load = Load(self._door.port, CONNECTIONS)
        self.report = Report()

    async def go(self, count: int, kills: int) -> Report:
        """Grow, drain, compare."""
        await self._beside.proxy.become(Link.AWAY)
        self._door.start()
        try:
            await self._door.accepting()
            await self._grow(count)
            await self._drain(count, kills)
        finally:
            self._door.kill()
        self._judge(await arrived(self._beside.settings), count)
        return self.report

    async def _grow(self, count: int) -> None:
        began_s = time.monotonic()
        posting = asyncio.create_task(self._load.until(asyncio.Event(), count))
        misbehaving = asyncio.create_task(self._misbehave())
        while not posting.done():
            await asyncio.wait({posting}, timeout=10)
            self._say(f"{self._load.number:,} posted, {self._load.told.statuses['202']:,} accepted")
        self.report.accepting_s = time.monotonic() - began_s
        await misbehaving
        await self._beside.proxy.become(Link.AWAY)

    async def _misbehave(self) -> None:
        for link in (Link.AWAY, Link.SILENT, Link.SLOW):
            await self._beside.proxy.become(link)
            await asyncio.sleep(self._misbehaving_s)
        await self._beside.proxy.become(Link.AWAY)

    async def _depth(self) -> int:
        told = await self._door.health()
        return -1 if told is None else int(told["journal"]["records"])

    async def _drain(self, count: int, kills: int) -> None:
        """Lives of random length; one of them with a silent link, one with a slow one."""
        await self._beside.proxy.become(Link.OPEN)
        links = {kills // 3: Link.SILENT, kills * 2 // 3: Link.SLOW}
        while self.report.kills < kills and await self._depth() > count * REMAINDER:
            link = links.get(self.report.kills, Link.OPEN)
            await self._beside.proxy.become(link)
            await asyncio.sleep(self._misbehaving_s if link is not Link.OPEN else self._random.uniform(*LIFE_S))
            self._door.kill()
            self.report.kills += 1
            await self._beside.proxy.become(Link.OPEN)
            self._door.start()
            told = await self._door.accepting()
            self._say(f"kill {self.report.kills}: {told['journal']['records']:,} records left")
        began = await eventually(self._depth, lambda depth: depth >= 0)
        began_s = time.monotonic()
        await self._door.drained(600)
        self.report.drained, self.report.draining_s = began, time.monotonic() - began_s

    def _judge(self, found: Arrivals, count: int) -> None:
        told, report = self._load.told, self.report
        report.accepted, report.slowest_answer_s, report.repeats = len(told.accepted), told.slowest_s, found.repeats
        if set(told.statuses) != {"202"} or told.broken or told.late or report.accepted != count:
            report.problems.append(f"answers {dict(told.statuses)}, {told.broken} broken, {told.late} after 5 s")
        if lost := found.lost(told.accepted):
            report.problems.append(f"{len(lost)} lost, {lost[:5]} …")
        if found.disordered:
            report.problems.append(f"{len(found.disordered)} out of order, {found.disordered[:3]} …")
        if len(found.instances) != 1:
            report.problems.append(f"{len(found.instances)} instances")


async def run(given: argparse.Namespace, scratch: Path) -> Report:
    """With a broker of its own."""
    async with neighbour(scratch / "kafka") as beside:
        return await Run(beside, scratch, given.seed, MISBEHAVING_S, say_with_time).go(given.count, given.kills)


def main() -> int:
    """0: green."""
    parser = argparse.ArgumentParser(prog="python -m tests.backlog")
    parser.add_argument("--count", type=int, default=500_000, help="webhooks")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=Random().randrange(10**6))
    given = parser.parse_args()
    say_with_time(f"seed {given.seed}")
    with tempfile.TemporaryDirectory(prefix="backlog-") as scratch:
        report = asyncio.run(run(given, Path(scratch)))
    if report.kills < given.kills:
        report.problems.append(f"drained before the last kill: {report.kills} of {given.kills}; give a higher --count")
    if report.drain_per_s < BUSY_DAY_PER_S * 10:
        report.problems.append(f"drained at {report.drain_per_s:,.0f}/s, wanted {BUSY_DAY_PER_S * 10:,}")
    times = report.drain_per_s / BUSY_DAY_PER_S
    print(
        f"{report.accepted:,} accepted with Kafka away at {report.accepted / report.accepting_s:,.0f}/s,"
        f" slowest answer {report.slowest_answer_s * 1e3:.0f} ms; {report.kills} kills, {report.repeats:,} repeats;"
        f" the last {report.drained:,} drained at {report.drain_per_s:,.0f}/s, {times:.0f} times a busy day's rate"
    )
    for problem in report.problems:
        print("PROBLEM", problem)
    print("RED" if report.problems else "GREEN: all arrived, in order")
    return bool(report.problems)


if __name__ == "__main__":
    sys.exit(main())
