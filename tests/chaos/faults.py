"""Bringing each kind of fault about, and healing it: when a method returns, its fault is over."""

import asyncio
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from deploy.local.broker import resolve_jars
from events.kafka import discard, transactional_producer
from tests.chaos import disks, network
from tests.chaos.brokers import Node
from tests.chaos.plan import AND, PARTITIONS, Fault
from tests.chaos.site import Site, second_of

REACHED_TIMEOUT_S = 60.0
MET_TIMEOUT_S = 20.0
"""A fault of a disk or of the network stays until somebody has felt it, so much longer at the most."""


class NotMetError(Exception):
    """The fault was there, and nobody did what it would have befallen: it does not count."""


class Faults:
    """One method for each kind, named as the kind is."""

    def __init__(self, site: Site, done: Counter[str], problems: list[str]) -> None:
        """`done` and `problems` are added to."""
        self._site = site
        self._done = done
        self._problems = problems
        self._over_s: float | None = None

    async def bring_about(self, fault: Fault) -> float:
        """And heal it; when its spell was over, and whoever was killed was about to be started again.

        Raises NotMetError when nobody came to feel it.
        """
        doer: Callable[[Fault], Awaitable[None]] = getattr(self, "_" + fault.kind.replace(" ", "_").replace("-", "_"))
        self._over_s = None
        await doer(fault)
        self._done[fault.kind] += 1
        return time.monotonic() if self._over_s is None else self._over_s

    async def _spell(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._over_s = time.monotonic()

    async def _kill(self, fault: Fault) -> None:
        self._site.kill(fault.target)
        await self._spell(fault.seconds)
        self._site.launch(fault.target)
        await self._site.answers(fault.target)

    async def _kill_at(self, fault: Fault) -> None:
        async with asyncio.TaskGroup() as group:
            for one in fault.target.split(AND):
                group.create_task(self._kill_one_at(*one.split(" ")))

    async def _kill_three(self, fault: Fault) -> None:
        await self._at_once(self._kill, fault)

    async def _freeze_three(self, fault: Fault) -> None:
        await self._at_once(self._freeze, fault)

    async def _blackout(self, fault: Fault) -> None:
        await self._at_once(self._power_cut, fault)

    async def _at_once(self, doer: Callable[[Fault], Coroutine[Any, Any, None]], fault: Fault) -> None:
        async with asyncio.TaskGroup() as group:
            for one in fault.target.split(AND):
                group.create_task(doer(replace(fault, target=one)))

    async def _kill_one_at(self, name: str, point: str, nth: str) -> None:
        await self._site.stop(name)
        service = self._site.arm(name, point, int(nth))
        try:
            async with asyncio.timeout(REACHED_TIMEOUT_S):
                while service.returncode is None:  # noqa: ASYNC110 - a process
                    await asyncio.sleep(0.02)
        except TimeoutError:
            self._problems.append(f"{name} never came to {point} for the {nth}. time")
        if service.returncode not in {None, -signal.SIGKILL}:
            self._problems.append(f"{name} ended with status {service.returncode} on its way to {point}")
        if service.returncode == -signal.SIGKILL:
            self._done[f"at {point} of {name.split('-', maxsplit=1)[0]}"] += 1
        await self._spell(0)
        self._site.kill(name)
        self._site.launch(name)
        await self._site.answers(name)

    async def _freeze(self, fault: Fault) -> None:
        self._site.send(fault.target, signal.SIGSTOP)
        await self._spell(fault.seconds)
        self._site.send(fault.target, signal.SIGCONT)

    async def _kill_broker(self, fault: Fault) -> None:
        await self._kill_nodes([self._site.cluster.node(int(fault.target[-1]))], fault.seconds)

    async def _kill_leaders(self, fault: Fault) -> None:
        await self._kill_nodes([self._site.cluster.node(await self._site.leader())], fault.seconds)

    async def _kill_coordinator(self, fault: Fault) -> None:
        await self._kill_nodes([self._site.cluster.node(await self._site.coordinator())], fault.seconds)

    async def _kill_all_brokers(self, fault: Fault) -> None:
        await self._kill_nodes(self._site.cluster.nodes, fault.seconds)

    async def _kill_nodes(self, nodes: Sequence[Node], seconds: float) -> None:
        for node in nodes:
            node.kill()
        await self._spell(seconds)
        for node in nodes:
            node.spawn()
        for node in nodes:
            await asyncio.to_thread(node.wait)

    async def _freeze_broker(self, fault: Fault) -> None:
        node = self._site.cluster.node(int(fault.target[-1]))
        node.signal(signal.SIGSTOP)
        await self._spell(fault.seconds)
        node.signal(signal.SIGCONT)

    async def _kill_database(self, fault: Fault) -> None:
        self._site.database.kill()
        await self._spell(fault.seconds)
        await self._site.begin("postgres")

    _database_away = _kill_database

    async def _reassign(self, fault: Fault) -> None:
        """The same partition of each topic goes to other nodes and comes back, with another leader."""
        topics = self._site.kafka.topic_set
        moved = await asyncio.create_subprocess_exec(
            *("java", "-cp", f"{resolve_jars(lambda _: None)}/*", str(Path(__file__).parent / "Reassign.java")),
            *(self._site.cluster.bootstrap_servers, fault.target),
            *(topics.webhooks, topics.call_sessions, topics.changelog),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        said, _ = await moved.communicate()
        if moved.returncode:
            self._problems.append(f"partition {fault.target} could not be moved: {said.decode()[-500:]}")

    async def _cut(self, fault: Fault) -> None:
        way = self._site.ways[fault.target]
        way.cut = True
        way.reset()
        await self._spell(fault.seconds)
        way.heal()

    async def _reset(self, fault: Fault) -> None:
        for _ in range(5):
            self._site.ways[fault.target].reset()
            await asyncio.sleep(0.2)

    async def _stall(self, fault: Fault) -> None:
        self._site.ways[fault.target].stalled = True
        await self._spell(fault.seconds)
        self._site.ways[fault.target].heal()

    async def _stall_answers(self, fault: Fault) -> None:
        self._site.ways[fault.target].answers_stalled = True
        await self._spell(fault.seconds)
        self._site.ways[fault.target].heal()

    async def _slow(self, fault: Fault) -> None:
        self._site.ways[fault.target].bytes_per_s = 10_000
        await self._spell(fault.seconds)
        self._site.ways[fault.target].heal()

    async def _lose_commit_answers(self, _fault: Fault) -> None:
        way = self._site.ways["processors"]
        way.commit_answers_lost, way.commits_touched = 4, 0
        await self._touched(4)
        way.heal()

    async def _hold_commits(self, fault: Fault) -> None:
        way = self._site.ways["processors"]
        way.commits_held_s, way.commits_to_hold, way.commits_touched = fault.seconds, 4, 0
        await self._touched(4)
        way.heal()

    async def _touched(self, count: int) -> None:
        way = self._site.ways["processors"]

        async def all_came() -> bool:
            return way.commits_touched >= count

        if not await _within(30, all_came):
            self._problems.append(f"only {way.commits_touched} commits came by")
        self._done["commits touched"] += way.commits_touched

    async def _clock(self, fault: Fault) -> None:
        self._site.set_clock(fault.seconds)
        await asyncio.sleep(3)
        self._site.set_clock(0.0)

    async def _steal_transactional_ids(self, _fault: Fault) -> None:
        """Somebody else starts producers with the ids of some partitions: their owners are fenced."""
        topic = self._site.kafka.topic_set.webhooks
        for partition in range(0, PARTITIONS, 3):
            producer = AIOKafkaProducer(**transactional_producer(self._site.kafka, f"processors-{topic}-{partition}"))
            try:
                async with asyncio.timeout(10):
                    await producer.start()
            except (KafkaError, TimeoutError) as error:
                self._problems.append(f"no id could be stolen: {error}")
            finally:
                await discard(producer)

    async def _scale(self, _fault: Fault) -> None:
        """1, 3, 1 processors, and back to two."""
        await self._site.stop("processors-2")
        self._site.launch("processors-2")
        self._site.launch("processors-3")
        await self._site.answers("processors-3")
        await asyncio.sleep(2)
        await self._site.stop("processors-2")
        self._site.kill("processors-3")
        self._site.launch("processors-2")
        await self._site.answers("processors-2")

    async def _rolling_restart(self, _fault: Fault) -> None:
        for name in list(self._site.services):
            await self._site.stop(name)
            self._site.launch(name)
            await self._site.answers(name)

    async def _double(self, fault: Fault) -> None:
        """A second projections process on the same database and group, until it has folded something, and a while."""
        second = second_of(fault.target)
        self._site.launch(second)
        await self._site.answers(second)
        if not await _within(REACHED_TIMEOUT_S, lambda: self._site.has_folded(second)):
            self._problems.append(f"{second} folded nothing")
        await self._spell(1)
        self._site.kill(second)

    # Disks: each store has one of its own, see disks.py.

    async def _power_cut(self, fault: Fault) -> None:
        store = fault.target
        await self._site.disks.cut(store, self._site.pids(store))
        await self._site.end(store)
        await asyncio.to_thread(self._site.disks.again, store)
        await self._spell(fault.seconds)
        await self._site.begin(store)

    async def _disk_full(self, fault: Fault) -> None:
        await self._site.disks.fill(fault.target, fault.seconds)
        await self._see_to(fault)

    async def _slow_disk(self, fault: Fault) -> None:
        await self._syncs(fault, fail=False)

    async def _failing_sync(self, fault: Fault) -> None:
        await self._syncs(fault, fail=True)

    async def _syncs(self, fault: Fault, *, fail: bool) -> None:
        async with disks.syncs(self._site.pids(fault.target), self._site.folder / "syncs", fail=fail) as met:
            await self._spell(fault.seconds)
            is_met = await _within(MET_TIMEOUT_S, met)
            await self._spell(0)
        await self._see_to(fault)
        if not is_met:
            raise NotMetError(f"no sync of {fault.target}'s")

    async def _see_to(self, fault: Fault) -> None:
        """Kafka and PostgreSQL end when their disk refuses; an operator starts them again. Ours must not end."""
        if await self._site.has_ended(fault.target):
            self._done[f"{fault.target} ended by itself ({fault.kind})"] += 1
            await self._site.end(fault.target)
            await self._site.begin(fault.target)

    # The network below TCP, see network.py.

    async def _packets(self, fault: Fault) -> None:
        network.trouble(fault.kind, self._site.ports_between(fault.target), to_server=fault.seconds % 2 < 1)
        await self._spell(fault.seconds)
        is_met = await _within(MET_TIMEOUT_S, network.has_met_a_packet)
        await self._spell(0)
        network.heal()
        if not is_met:
            raise NotMetError(f"no packet between {fault.target}")

    _one_way_cut = _two_way_cut = _resets = _loss = _narrow = _packets


async def _within(seconds: float, holds: Callable[[], Awaitable[bool]]) -> bool:
    """Whether it came to hold in that time."""
    try:
        async with asyncio.timeout(seconds):
            while not await holds():  # noqa: ASYNC110 - many conditions, of other processes
                await asyncio.sleep(0.1)
    except TimeoutError:
        return False
    return True
