"""What exactly-once costs: the same processors with a plain producer, whose offsets are committed after the records."""

import asyncio
from collections.abc import Iterable

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from events.kafka import committed_reader, discard, forwarder_producer
from processors.settings import ProcessorsSettings
from processors.task import Batch


class AtLeastOnce:
    """In place of `processors.transaction.Transactions`: after a crash between its two steps, records come again."""

    def __init__(self, settings: ProcessorsSettings, partition: int) -> None:
        """Nothing is connected yet."""
        self._settings = settings
        self.partition = partition
        self._producer = AIOKafkaProducer(**forwarder_producer(settings))
        self._offsets = AIOKafkaConsumer(
            **committed_reader(settings), group_id=f"{settings.processors_application}-alo"
        )

    async def start(self) -> None:
        """Connect."""
        await self._producer.start()
        await self._offsets.start()
        self._offsets.assign([TopicPartition(self._settings.topic_set.webhooks, self.partition)])

    async def commit(self, batch: Batch) -> None:
        """Write, await, and then commit the offset."""
        topics = self._settings.topic_set
        deliveries = [
            *await self._send(topics.call_sessions, batch.session_events),
            *await self._send(topics.changelog, ((key, value, []) for key, value in batch.changelog.items())),
            *await self._send(topics.dead_letters, batch.dead_letters),
        ]
        await asyncio.gather(*deliveries)
        await self._offsets.commit({TopicPartition(topics.webhooks, self.partition): batch.next_offset})

    async def _send(self, topic: str, records: Iterable[tuple[object, object, object]]) -> list[asyncio.Future[object]]:
        deliveries: list[asyncio.Future[object]] = []
        builder = self._producer.create_batch()
        for key, value, headers in records:
            if builder.append(key=key, value=value, timestamp=None, headers=headers) is None:
                deliveries.append(await self._producer.send_batch(builder, topic, partition=self.partition))
                builder = self._producer.create_batch()
                builder.append(key=key, value=value, timestamp=None, headers=headers)
        if builder.record_count():
            deliveries.append(await self._producer.send_batch(builder, topic, partition=self.partition))
        return deliveries

    async def discard(self) -> None:
        """Let go of both."""
        await discard(self._producer)
        await self._offsets.stop()
