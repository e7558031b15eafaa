"""The session topic read at places of our own choice, outside the consumer group."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from events.kafka import committed_reader, stop_consumer
from projections.settings import ProjectionsSettings

FETCH_TIMEOUT_MS: Final = 500
PATIENCE_S: Final = 30.0
"""How long the broker may give nothing of what must be there."""


class Topic:
    """Open it with `open_topic`. Of each partition, `begins`: the first offset still there; `ends`: behind the last."""

    def __init__(self, consumer: AIOKafkaConsumer, name: str, batch: int) -> None:
        """`batch`: records at a time, at the most."""
        self.begins: Mapping[int, int] = {}
        self.ends: Mapping[int, int] = {}
        self.name = name
        self._consumer = consumer
        self._batch = batch

    async def look(self, partitions: int) -> None:
        """Read the offsets of all partitions' ends."""
        all_of_it = [TopicPartition(self.name, number) for number in range(partitions)]
        self.begins = {tp.partition: at for tp, at in (await self._consumer.beginning_offsets(all_of_it)).items()}
        self.ends = {tp.partition: at for tp, at in (await self._consumer.end_offsets(all_of_it)).items()}

    async def between(self, first: Mapping[int, int], end: Mapping[int, int]) -> AsyncIterator[list[ConsumerRecord]]:
        """The records from `first` to before `end`, in batches; raises TimeoutError when the broker gives nothing."""
        left = {TopicPartition(self.name, one): end[one] for one in end if first[one] < end[one]}
        self._consumer.assign(list(left))
        for tp in left:
            self._consumer.seek(tp, max(first[tp.partition], self.begins.get(tp.partition, 0)))
        while left:
            async with asyncio.timeout(PATIENCE_S):
                got: Mapping[TopicPartition, list[ConsumerRecord]] = {}
                while not got and left:
                    got = await self._consumer.getmany(timeout_ms=FETCH_TIMEOUT_MS, max_records=self._batch)
                    # The position moves past records that are not given out: markers, and what was aborted.
                    done = [tp for tp in left if await self._consumer.position(tp) >= left[tp]]
                    if done:
                        self._consumer.pause(*done)
                        ends = {tp: left.pop(tp) for tp in done}
                        got = {tp: [one for one in got[tp] if one.offset < ends.get(tp, one.offset + 1)] for tp in got}
            records = [record for some in got.values() for record in some]
            if records:
                yield records


@asynccontextmanager
async def open_topic(settings: ProjectionsSettings) -> AsyncIterator[Topic]:
    """The topic for the length of the block; raises aiokafka's KafkaError while the broker is away."""
    consumer = AIOKafkaConsumer(**committed_reader(settings), group_id=None)
    await consumer.start()
    try:
        topic = Topic(consumer, settings.topic_set.call_sessions, settings.projections_batch_records_max)
        await topic.look(settings.kafka_topic_partitions)
        yield topic
    finally:
        await stop_consumer(consumer)
