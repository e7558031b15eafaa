"""Asking the broker what became of a partition's transactions: of their markers, and of their records."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from events.kafka import committed_reader
from processors.settings import ProcessorsSettings
from processors.torn import End, end_of

TAIL_RECORDS = 100
FETCH_TIMEOUT_MS = 500


class Span(NamedTuple):
    """Offsets from the last stable one to the end: an undecided transaction."""

    begin: int
    end: int


class Reader:
    """A consumer for one question, without a group unless one is named. Use: ``async with``."""

    def __init__(self, settings: ProcessorsSettings, isolation: str, group: str | None = None) -> None:
        """`isolation` is Kafka's name of a level."""
        options = {**committed_reader(settings), "isolation_level": isolation}
        self._consumer = AIOKafkaConsumer(**options, group_id=group)

    async def __aenter__(self) -> AIOKafkaConsumer:
        """Raises aiokafka's KafkaError when the broker is away."""
        await self._consumer.start()
        return self._consumer

    async def __aexit__(self, *_: object) -> None:
        """Let go of it."""
        await self._consumer.stop()


async def undecided(settings: ProcessorsSettings, partition: int) -> dict[str, Span]:
    """The topics whose last stable offset is not the end; while nothing of ours is under way, markers are missing."""
    topics = settings.topic_set
    wanted = [TopicPartition(name, partition) for name in (topics.changelog, topics.call_sessions, topics.dead_letters)]
    stable = await end_offsets(settings, wanted, "read_committed")
    ends = await end_offsets(settings, wanted, "read_uncommitted")
    return {one.topic: Span(stable[one], ends[one]) for one in wanted if stable[one] < ends[one]}


async def end_offsets(
    settings: ProcessorsSettings, partitions: Sequence[TopicPartition], isolation: str
) -> dict[TopicPartition, int]:
    """The last stable offsets, or the high watermarks, after the isolation level."""
    async with Reader(settings, isolation) as consumer:
        consumer.assign(partitions)  # or aiokafka would look for each topic's leaders in turn, 0.1 s each
        return dict(await consumer.end_offsets(partitions))


async def read(
    consumer: AIOKafkaConsumer, spans: Mapping[TopicPartition, Span]
) -> dict[TopicPartition, list[ConsumerRecord]]:
    """What the consumer may see of the records between these offsets; their ends must be no further than it sees."""
    found: dict[TopicPartition, list[ConsumerRecord]] = {at: [] for at in spans}
    consumer.assign(list(spans))
    begins = await consumer.beginning_offsets(list(spans))
    for at, span in spans.items():
        consumer.seek(at, max(span.begin, begins[at]))
    while waiting := [at for at, span in spans.items() if await consumer.position(at) < span.end]:
        fetched = await consumer.getmany(*waiting, timeout_ms=FETCH_TIMEOUT_MS)
        for at, records in fetched.items():
            found[at] += [record for record in records if record.offset < spans[at].end]
    return found


async def last_records(
    settings: ProcessorsSettings, wanted: Mapping[TopicPartition, Callable[[ConsumerRecord], bool]]
) -> dict[str, End]:
    """By topic the end of its partition, of the records that are `wanted`; nothing of them may be undecided."""
    found: dict[str, End] = {}
    left, tail = dict(wanted), TAIL_RECORDS
    async with Reader(settings, "read_uncommitted") as every, Reader(settings, "read_committed") as committed:
        while left:
            (begins, all_), (_, told) = await asyncio.gather(_tails(every, left, tail), _tails(committed, left, tail))
            for at, is_wanted in list(left.items()):
                end = end_of(list(filter(is_wanted, all_[at])), list(filter(is_wanted, told[at])))
                if end.committed is not None or not end.aborted or at in begins:
                    found[at.topic] = end
                    del left[at]
            tail *= 10
    return found


async def _tails(
    consumer: AIOKafkaConsumer, partitions: Collection[TopicPartition], count: int
) -> tuple[set[TopicPartition], dict[TopicPartition, list[ConsumerRecord]]]:
    """The last records, as many offsets as that; and of which partitions those are all that there are."""
    consumer.assign(list(partitions))
    ends = await consumer.end_offsets(list(partitions))
    spans = {at: Span(max(0, end - count), end) for at, end in ends.items()}
    return {at for at, span in spans.items() if span.begin == 0}, await read(consumer, spans)
