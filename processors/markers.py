"""Asking the broker whether the markers of a partition's transactions are all there."""

from collections.abc import Sequence
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from events.kafka import committed_reader
from processors.settings import ProcessorsSettings


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
