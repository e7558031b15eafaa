"""The consumer group: which partitions this process owns, and records from the broker to their owners.

aiokafka swallows what a rebalance callback raises and sends no heartbeats while one runs: so the callbacks only pause
the partitions and start or stop the owners, and an owner that fails for good ends the process.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import KafkaError

from events.away import there
from events.kafka import committed_reader, give_up_place, patience, stop_consumer
from events.metrics import Metrics
from events.pbx import Pbx
from events.tracing import Tracing
from processors.owner import Owner
from processors.settings import ProcessorsSettings
from processors.task import InputRecord

FETCH_TIMEOUT_MS: Final = 200
STOP_TIMEOUT_S: Final = 5.0
"""A rebalance that others hold up must not hold up the end of this process."""

log = structlog.get_logger()


class Runner(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types
    """Owns what the group assigns, until cancelled."""

    def __init__(
        self,
        settings: ProcessorsSettings,
        pbxs: Mapping[str, Pbx],
        metrics: Metrics,
        tracing: Tracing | None = None,
    ) -> None:
        """Nothing is connected before `run`."""
        self._tracing = tracing
        self._settings = settings
        self._pbxs = pbxs
        self._metrics = metrics
        self._owners: dict[TopicPartition, tuple[Owner, asyncio.Task[None]]] = {}
        self._closing = False
        self._consumer = self._new_consumer()

    def _new_consumer(self) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            **committed_reader(self._settings) | patience(self._settings.processors_session_timeout_s),
            group_id=self._settings.processors_application,
            group_instance_id=self._settings.processors_instance or None,
            # Exactly one assignor, and not the sticky one: it has open bugs.
            partition_assignment_strategy=(RoundRobinPartitionAssignor,),
        )

    def is_consuming(self, partition: int) -> bool:
        """Whether this process owns the partition, with its state restored."""
        owned = self._owners.get(TopicPartition(self._settings.topic_set.webhooks, partition))
        return owned is not None and owned[0].state == "consuming"

    def next_offset(self, partition: int) -> int:
        """Up to where the partition's records are committed, exclusive; raises KeyError when it is not owned."""
        return self._owners[TopicPartition(self._settings.topic_set.webhooks, partition)][0].next_offset

    def observe_lags(self, now_s: float) -> None:
        """Bring the lag of each owned partition up to date."""
        for tp, (owner, _) in self._owners.items():
            if tp in self._consumer.assignment():
                owner.observe_lag(now_s)

    def health(self) -> dict[str, object]:
        """What this process owns, and where it stands."""
        partitions = {
            str(tp.partition): {"state": owner.state, "next_offset": owner.next_offset}
            for tp, (owner, _) in self._owners.items()
        }
        working = bool(partitions) and all(one["state"] == "consuming" for one in partitions.values())
        return {"status": "ok" if working else "taking over partitions", "partitions": partitions}

    async def run(self) -> None:
        """Join the group and work; on cancellation finish the transactions at hand and leave the group."""
        servers = self._settings.kafka_bootstrap_servers
        await there("Kafka", self._consumer.start, (KafkaError, OSError), servers=servers)
        try:
            self._consumer.subscribe([self._settings.topic_set.webhooks], listener=self)
            while True:
                self._raise_failures()
                fetched = await self._consumer.getmany(timeout_ms=FETCH_TIMEOUT_MS)
                for partition, records in fetched.items():
                    owned = self._owners.get(partition)
                    if owned is not None:
                        owned[0].take([_input(record) for record in records])
        finally:
            self._closing = True
            await self._release(list(self._owners))
            give_up_place(self._consumer)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await stop_consumer(self._consumer)
            await self._release(list(self._owners))

    async def close(self) -> None:
        """Let go of the consumer, whether it ever ran or not."""
        await stop_consumer(self._consumer)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Pause first: records of a partition must not come before its state is there."""
        partitions = list(assigned)
        self._consumer.pause(*partitions)
        if self._closing:
            return
        self._metrics.counter("rebalances_total").inc()
        for partition in partitions:
            owner = Owner(self._settings, self._pbxs, self._metrics, self._consumer, partition.partition, self._tracing)
            self._owners[partition] = owner, asyncio.create_task(owner.run())
        self._metrics.gauge("partitions_assigned").set(len(self._owners))

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Let the transactions at hand end, within a deadline below the group's patience."""
        await self._release([partition for partition in revoked if partition in self._owners])
        self._metrics.gauge("partitions_assigned").set(len(self._owners))

    async def _release(self, partitions: list[TopicPartition]) -> None:
        released = [self._owners.pop(partition) for partition in partitions]
        for owner, _ in released:
            await owner.stop()
        tasks = [task for _, task in released]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self._settings.processors_session_timeout_s / 3)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _raise_failures(self) -> None:
        for _, task in self._owners.values():
            if task.done():
                task.result()


def _input(record: ConsumerRecord) -> InputRecord:
    return InputRecord(record.partition, record.offset, record.key, record.value, record.headers)
