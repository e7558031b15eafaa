"""Bringing each kind of fault about, and healing it: when a method returns, its fault is over."""

import asyncio
import signal
import subprocess
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
from tests.chaos.site import Site

REACHED_TIMEOUT_S = 60.0


class Faults:
    """One method for each kind, named as the kind is."""

    def __init__(self, site: Site, done: Counter[str], problems: list[str]) -> None:
        """`done` and `problems` are added to."""
        self._site = site
        self._done = done
        self._problems = problems

    async def bring_about(self, fault: Fault) -> None:
        """And heal it."""
        doer: Callable[[Fault], Awaitable[None]] = getattr(self, "_" + fault.kind.replace(" ", "_").replace("-", "_"))
        await doer(fault)
        self._done[fault.kind] += 1

    async def _kill(self, fault: Fault) -> None:
        self._site.kill(fault.target)
        await asyncio.sleep(fault.seconds)
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
        self._done[f"at {point} of {name.split('-', maxsplit=1)[0]}"] += 1
        self._site.kill(name)
        self._site.launch(name)
        await self._site.answers(name)

    async def _freeze(self, fault: Fault) -> None:
        self._site.send(fault.target, signal.SIGSTOP)
        await asyncio.sleep(fault.seconds)
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
        await asyncio.sleep(seconds)
        for node in nodes:
            node.spawn()
        for node in nodes:
            await asyncio.to_thread(node.wait)

    async def _freeze_broker(self, fault: Fault) -> None:
        node = self._site.cluster.node(int(fault.target[-1]))
        node.signal(signal.SIGSTOP)
        await asyncio.sleep(fault.seconds)
        node.signal(signal.SIGCONT)

    async def _kill_database(self, fault: Fault) -> None:
        self._site.database.kill()
        await asyncio.sleep(fault.seconds)
        self._site.database.start()

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
        await asyncio.sleep(fault.seconds)
        way.heal()

    async def _reset(self, fault: Fault) -> None:
        for _ in range(5):
            self._site.ways[fault.target].reset()
            await asyncio.sleep(0.2)

    async def _stall(self, fault: Fault) -> None:
        self._site.ways[fault.target].stalled = True
        await asyncio.sleep(fault.seconds)
        self._site.ways[fault.target].heal()

    async def _stall_answers(self, fault: Fault) -> None:
        self._site.ways[fault.target].answers_stalled = True
        await asyncio.sleep(fault.seconds)
        self._site.ways[fault.target].heal()

    async def _slow(self, fault: Fault) -> None:
        self._site.ways[fault.target].bytes_per_s = 10_000
        await asyncio.sleep(fault.seconds)
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
        async with asyncio.timeout(30):
            while way.commits_touched < count:  # noqa: ASYNC110 - counted by the proxy
                await asyncio.sleep(0.05)
        self._done["commits touched"] += count

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

    async def _double(self, _fault: Fault) -> None:
        """A second projections process on the same database and group, for a while."""
        self._site.launch("projections-double")
        await self._site.answers("projections-double")
        await asyncio.sleep(2)
        self._site.kill("projections-double")

    # Disks: each store has one of its own, see disks.py.

    async def _power_cut(self, fault: Fault) -> None:
        store = fault.target
        await self._site.disks.cut(store, self._site.pids(store))
        await self._site.end(store)
        await asyncio.to_thread(self._site.disks.again, store)
        await asyncio.sleep(fault.seconds)
        await self._site.begin(store)

    async def _disk_full(self, fault: Fault) -> None:
        await self._site.disks.fill(fault.target, fault.seconds)
        await self._see_to(fault)

    async def _slow_disk(self, fault: Fault) -> None:
        async with disks.syncs(self._site.pids(fault.target), fail=False):
            await asyncio.sleep(fault.seconds)
        await self._see_to(fault)

    async def _failing_sync(self, fault: Fault) -> None:
        async with disks.syncs(self._site.pids(fault.target), fail=True):
            await asyncio.sleep(fault.seconds)
        await self._see_to(fault)

    async def _see_to(self, fault: Fault) -> None:
        """Kafka and PostgreSQL end when their disk refuses; an operator starts them again. Ours must not end."""
        if await self._site.has_ended(fault.target):
            self._done[f"{fault.target} ended by itself ({fault.kind})"] += 1
            await self._site.end(fault.target)
            await self._site.begin(fault.target)

    # The network below TCP, see network.py.

    async def _packets(self, fault: Fault) -> None:
        network.trouble(fault.kind, self._site.ports_between(fault.target), to_server=fault.seconds % 2 < 1)
        await asyncio.sleep(fault.seconds)
        network.heal()

    _one_way_cut = _two_way_cut = _resets = _loss = _narrow = _packets
