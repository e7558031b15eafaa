"""Single records of ``threecx.webhooks``, asked for from the log: it is the only place that keeps them."""

import asyncio
from collections.abc import Sequence
from typing import Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from events.kafka import KafkaSettings, committed_reader, stop_consumer
from projections.records import Place, Raw

READ_TIMEOUT_S: Final = 5.0
FETCH_TIMEOUT_MS: Final = 1_000


class UnreachableError(Exception):
    """Kafka did not give the records in time."""


class RawWebhooks:
    """Answers one question at a time."""

    def __init__(self, settings: KafkaSettings) -> None:
        """Nothing is connected before the first question."""
        self._settings = settings
        self._lock = asyncio.Lock()

    async def read(self, places: Sequence[Place]) -> list[Raw | None]:
        """What lies at each place; null where retention has taken it away.

        Raises UnreachableError after `READ_TIMEOUT_S`.
        """
        consumer = AIOKafkaConsumer(**committed_reader(self._settings), group_id=None)
        try:
            async with asyncio.timeout(READ_TIMEOUT_S), self._lock:
                await consumer.start()
                return await self._read(consumer, places)
        except (KafkaError, OSError, TimeoutError) as error:
            raise UnreachableError(type(error).__name__) from error
        finally:
            await stop_consumer(consumer)

    async def _read(self, consumer: AIOKafkaConsumer, places: Sequence[Place]) -> list[Raw | None]:
        topic = self._settings.topic_set.webhooks
        partitions = sorted({TopicPartition(topic, place.partition) for place in places})
        consumer.assign(partitions)
        begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        found: list[Raw | None] = []
        for place in places:
            at = TopicPartition(topic, place.partition)
            if not begins[at] <= place.offset < ends[at]:
                found.append(None)
                continue
            consumer.assign([at])
            consumer.seek(at, place.offset)
            fetched: Sequence[ConsumerRecord] = ()
            while not fetched:
                fetched = (await consumer.getmany(at, timeout_ms=FETCH_TIMEOUT_MS, max_records=1)).get(at, ())
            (record,) = fetched
            found.append(Raw(record.headers, record.value or b"") if record.offset == place.offset else None)
        return found
