"""Records for Kafka in as few batches as fit: a batch costs about a twelfth per record of what single sends cost.

Records of one partition stay in their order: its next batch is handed over once Kafka has the one before. The client
sends one at a time in any case, but goes on behind one that Kafka refused. The choice of the partition is ours then,
and is Kafka's own (murmur2 of the key).
"""

import asyncio
import functools
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.producer.message_accumulator import BatchBuilder

Headers = Sequence[tuple[str, bytes]]


class Sent(NamedTuple):
    """A batch on its way: `sequences` are the journal's, of the records in it."""

    delivery: "asyncio.Future[object]"
    topic: str
    sequences: list[int]


class _Batch(NamedTuple):
    builder: BatchBuilder
    sequences: list[int]


class Batches:
    """Use: `add` for each record in order, then `hand_over` until it gives nothing, each time awaiting all it gave."""

    def __init__(self, producer: AIOKafkaProducer, partitions: int, batch_bytes_max: int) -> None:
        """`partitions`: of each topic. A record longer than `batch_bytes_max` goes alone."""
        self.sent: list[Sent] = []
        self._producer = producer
        self._partitions = partitions
        self._bytes_max = batch_bytes_max
        self._waiting: defaultdict[tuple[str, int], deque[_Batch]] = defaultdict(deque)

    def add(self, topic: str, key: bytes, value: bytes, headers: Headers, sequence: int) -> None:
        """Put a record into its partition's batch, or into a new one when it has no room in it."""
        place = topic, partition_of(key, self._partitions)
        waiting = self._waiting[place]
        batch = waiting[-1] if waiting else None
        if (
            batch is None
            or batch.builder.size() + len(value) + _BESIDE_VALUE_BYTES > self._bytes_max
            or batch.builder.append(key=key, value=value, timestamp=None, headers=headers) is None
        ):
            batch = _Batch(self._producer.create_batch(), [])
            waiting.append(batch)
            # An empty batch takes any record, and the broker decides on its size.
            batch.builder.append(key=key, value=value, timestamp=None, headers=headers)
        batch.sequences.append(sequence)

    async def hand_over(self) -> list[Sent]:
        """Give each partition's next batch to the client; what was given must be delivered before the next call."""
        handed_over = []
        for (topic, partition), waiting in self._waiting.items():
            if waiting:
                builder, sequences = waiting.popleft()
                delivery = await self._producer.send_batch(builder, topic, partition=partition)
                handed_over.append(Sent(delivery, topic, sequences))
        self.sent += handed_over
        return handed_over


@functools.lru_cache(4_096)
def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key, as every Kafka client chooses it."""
    return int(DefaultPartitioner()(key, list(range(partitions)), []))


_BESIDE_VALUE_BYTES: Final = 512
"""About what key and headers take."""
