"""Asking the broker what became of a partition's transactions: of their markers, and of their records."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from events.kafka import committed_reader, stop_consumer
from processors.settings import ProcessorsSettings
from processors.torn import End, end_of

TAIL_RECORDS = 100
TAIL_RECORDS_MAX = 10_000
"""Nor is more of a topic's end read at a takeover: of our own records, that is several of the largest transactions."""
FETCH_TIMEOUT_MS = 500
PATIENCE_FETCHES = 20


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
        await stop_consumer(self._consumer)


async def undecided(settings: ProcessorsSettings, partition: int) -> dict[str, Span]:
    """The topics whose last stable offset is not the end; while nothing of ours is under way, markers are missing."""
    topics = settings.topic_set
    wanted = [TopicPartition(name, partition) for name in (topics.changelog, topics.call_sessions, topics.dead_letters)]
    # In this order: a dead letter of ingest's in between is no transaction.
    ends = await end_offsets(settings, wanted, "read_uncommitted")
    stable = await end_offsets(settings, wanted, "read_committed")
    return {one.topic: Span(stable[one], ends[one]) for one in wanted if stable[one] < ends[one]}


async def end_offsets(
    settings: ProcessorsSettings, partitions: Sequence[TopicPartition], isolation: str
) -> dict[TopicPartition, int]:
    """The last stable offsets, or the high watermarks, after the isolation level."""
    async with Reader(settings, isolation) as consumer:
        consumer.assign(partitions)  # or aiokafka would look for each topic's leaders in turn, 0.1 s each
        return dict(await consumer.end_offsets(partitions))


async def read(
    consumer: AIOKafkaConsumer,
    spans: Mapping[TopicPartition, Span],
    is_wanted: Mapping[TopicPartition, Callable[[ConsumerRecord], bool]],
) -> dict[TopicPartition, list[ConsumerRecord]]:
    """What the consumer may see of the records between these offsets; their ends must be no further than it sees.

    Raises TimeoutError when it comes no further.
    """
    found: dict[TopicPartition, list[ConsumerRecord]] = {at: [] for at in spans}
    consumer.assign(list(spans))
    consumer.pause(*spans)  # or it would begin to fetch from the beginning
    begins = await consumer.beginning_offsets(list(spans))
    for at, span in spans.items():
        consumer.seek(at, max(span.begin, begins[at]))
    consumer.resume(*spans)
    reached: list[int] = []
    patience = PATIENCE_FETCHES
    while waiting := [at for at, span in spans.items() if await consumer.position(at) < span.end]:
        fetched = await consumer.getmany(*waiting, timeout_ms=FETCH_TIMEOUT_MS)
        for at, records in fetched.items():
            inside = [one for one in records if spans[at].begin <= one.offset < spans[at].end]
            found[at] += filter(is_wanted[at], inside)
        positions = [await consumer.position(at) for at in spans]
        patience = PATIENCE_FETCHES if positions != reached else patience - 1
        reached = positions
        if not patience:
            raise TimeoutError(f"the end of {', '.join(at.topic for at in waiting)} is not reached")
    return found


async def last_records(
    settings: ProcessorsSettings, is_ours: Mapping[TopicPartition, Callable[[ConsumerRecord], bool]]
) -> dict[str, End]:
    """By topic the end of its partition, of our records; none of them may be undecided."""
    found: dict[str, End] = {}
    left, tail = list(is_ours), TAIL_RECORDS
    async with Reader(settings, "read_uncommitted") as every, Reader(settings, "read_committed") as committed:
        while left:
            (begun, all_), (_, told) = await asyncio.gather(
                _tails(every, left, tail, is_ours), _tails(committed, left, tail, is_ours)
            )
            for at in left:
                found[at.topic] = end_of(all_[at], told[at])
            left = [at for at in left if found[at.topic].committed is None and at not in begun]
            tail *= 10
            if tail > TAIL_RECORDS_MAX:
                break
    return found


async def _tails(
    consumer: AIOKafkaConsumer,
    partitions: Sequence[TopicPartition],
    count: int,
    is_wanted: Mapping[TopicPartition, Callable[[ConsumerRecord], bool]],
) -> tuple[set[TopicPartition], dict[TopicPartition, list[ConsumerRecord]]]:
    """The last records, of as many offsets; and of which partitions those are all that there are."""
    consumer.assign(list(partitions))
    consumer.pause(*partitions)
    ends = await consumer.end_offsets(list(partitions))
    spans = {at: Span(max(0, end - count), end) for at, end in ends.items()}
    return {at for at, span in spans.items() if span.begin == 0}, await read(consumer, spans, is_wanted)
