"""Copies of topics, made while they are there: with retention the brokers do not keep everything for the verdict."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from events import topics
from events.kafka import KafkaSettings, committed_reader, position_now, stop_consumer
from tests.chaos.reference import Raw

COPIED_TIMEOUT_S = 300.0
SEGMENT_BYTES: Final = 1024 * 1024
"""The least that Kafka takes."""
BROKER_PROPERTIES: Final = {
    "log.retention.check.interval.ms": "5000",
    "log.segment.delete.delay.ms": "1000",
    "offsets.topic.segment.bytes": str(SEGMENT_BYTES),
    "transaction.state.log.segment.bytes": str(SEGMENT_BYTES),
}
"""Segments that end soon, so that minutes of retention, and compaction, show."""


def kept_for(seconds: float) -> tuple[topics.Topic, ...]:
    """The topics as they are made, but for how long they keep what is in them."""
    return tuple(_short(topic, int(seconds * 1000)) for topic in topics.ALL)


def _short(topic: topics.Topic, retention_ms: int) -> topics.Topic:
    configs = dict(topic.configs) | {"segment.bytes": str(SEGMENT_BYTES)}
    if configs["cleanup.policy"] == "delete":
        configs |= {"retention.ms": str(retention_ms), "segment.ms": str(retention_ms // 4)}
    return replace(topic, configs=MappingProxyType(configs))


class DeletedError(Exception):
    """A record was deleted before it was copied: there is nothing to be judged."""


class Copies:
    """Every committed record of some topics, as they come."""

    def __init__(self, kafka: KafkaSettings, names: Sequence[str]) -> None:
        """Nothing is connected before `run`."""
        self._kafka = kafka
        self._records: dict[str, list[Raw]] = {name: [] for name in names}
        self._next = {
            TopicPartition(name, number): 0 for name in names for number in range(kafka.kafka_topic_partitions)
        }

    async def run(self) -> None:
        """Until cancelled; raises DeletedError."""
        consumer = AIOKafkaConsumer(**(committed_reader(self._kafka) | {"auto_offset_reset": "none"}), group_id=None)
        await consumer.start()
        try:
            consumer.assign(list(self._next))
            for partition in self._next:
                consumer.seek(partition, 0)
            lost: Sequence[TopicPartition] = ()
            while True:
                try:
                    await self._go_on(consumer, lost)
                    lost = ()
                    await self._copy(consumer)
                except OffsetOutOfRangeError as error:
                    lost = list(error.args[0])
                except KafkaError:  # a broker has gone; `all_of` waits until all is there
                    await asyncio.sleep(0.2)
        finally:
            await stop_consumer(consumer)

    async def _copy(self, consumer: AIOKafkaConsumer) -> None:
        for partition, records in (await consumer.getmany(timeout_ms=200)).items():
            fresh = [one for one in records if one.offset >= self._next[partition]]
            self._records[partition.topic] += [
                Raw(one.partition, one.offset, one.key, one.value, tuple(one.headers)) for one in fresh
            ]
            if fresh:
                self._next[partition] = fresh[-1].offset + 1
        for partition, known in self._next.items():
            self._next[partition] = max(known, position_now(consumer, partition))

    async def _go_on(self, consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> None:
        """A broker that is not up to date may say so too."""
        for partition in partitions:
            first = (await consumer.beginning_offsets([partition]))[partition]
            if first > self._next[partition]:
                message = f"{partition} begins at {first}, and was copied up to {self._next[partition]}"
                raise DeletedError(message)
            consumer.seek(partition, self._next[partition])

    async def all_of(self, name: str, ends: Sequence[int]) -> list[Raw]:
        """Every committed record up to the partitions' `ends`, in order; raises TimeoutError when it does not come."""
        async with asyncio.timeout(COPIED_TIMEOUT_S):
            while any(self._next[TopicPartition(name, number)] < end for number, end in enumerate(ends)):  # noqa: ASYNC110 - another task
                await asyncio.sleep(0.1)
        return sorted(self._records[name], key=lambda one: (one.partition, one.offset))
