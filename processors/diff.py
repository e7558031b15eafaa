"""``python -m processors diff``: the sessions of two topic sets compared, like diff(1): 0 equal, 1 different.

Both sets are read side by side, partition by partition, read_committed and to their ends as of the command's start.
Memory: one entry per session of each set (about 1.5 kB, shared where both say the same), and what was fetched ahead.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from events.kafka import KafkaSettings, committed_reader, partition_count, stop_consumer
from events.progress import Progress
from events.settings import ConfigurationError
from events.topics import TopicSet
from processors.difference import Comparison, Difference, Told, UnreadableError
from processors.difference_told import as_json, as_text

EQUAL: Final = 0
DIFFERENT: Final = 1
FETCH_TIMEOUT_MS: Final = 500
OPEN_TRANSACTION_S: Final = 30.0
"""Longer than any transaction may last before Kafka aborts it."""
FETCH_RECORDS_MAX: Final = 5_000


async def diff(
    settings: KafkaSettings, prefix_a: str, prefix_b: str, *, told_as: str, limit: int, common: bool = False
) -> int:
    """Print the difference as ``text`` or ``json``; returns the exit status. Raises ConfigurationError."""
    topics = {"a": TopicSet(prefix_a).call_sessions, "b": TopicSet(prefix_b).call_sessions}
    try:
        found = await _difference(settings, topics["a"], topics["b"], common=common)
    except UnreadableError as error:
        raise ConfigurationError(f"{topics[error.side]}, {error}; name a topic set of Callstream") from None
    except (KafkaError, OSError) as error:
        raise ConfigurationError(
            f"KAFKA_BOOTSTRAP_SERVERS: the broker at {settings.kafka_bootstrap_servers} cannot be read"
            f" ({type(error).__name__}); start it, or name another"
        ) from None
    sys.stdout.write((as_json if told_as == "json" else as_text)(found, prefix_a, prefix_b, limit))
    return EQUAL if found.same_sessions else DIFFERENT


async def _difference(settings: KafkaSettings, topic_a: str, topic_b: str, *, common: bool) -> Difference:
    comparison, progress = Comparison(common=common), Progress("diff")
    async with AsyncExitStack() as stack:
        a, b = [await _opened(settings, topic, stack) for topic in (topic_a, topic_b)]
        progress.total = a.total + b.total
        async with progress.shown():
            for partition in range(max(a.count, b.count)):
                await a.turn_to(partition)
                await b.turn_to(partition)
                await _compare(comparison, partition, a, b, progress)
    return comparison.told()


async def _compare(comparison: Comparison, partition: int, a: "_Reader", b: "_Reader", progress: Progress) -> None:
    """One partition of both, as far as both are fetched; the longer one's rest at last."""
    before = progress.done
    while True:
        await a.fill()
        await b.fill()
        size = min(len(a.fetched), len(b.fetched)) or max(len(a.fetched), len(b.fetched))
        comparison.take(partition, a.take(size), b.take(size))
        progress.done = before + a.passed + b.passed
        if not size:
            return


async def _opened(settings: KafkaSettings, topic: str, stack: AsyncExitStack) -> "_Reader":
    """The ends are those of what is written, committed or not: a commit is answered before its markers are there."""
    count = await partition_count(settings, topic)
    if count is None:
        raise ConfigurationError(f"there is no topic {topic}; name the prefix of a topic set, such as threecx")
    places = [TopicPartition(topic, number) for number in range(count)]
    everything = AIOKafkaConsumer(**committed_reader(settings) | {"isolation_level": "read_uncommitted"}, group_id=None)
    try:
        await everything.start()
        begins, ends = await everything.beginning_offsets(places), await everything.end_offsets(places)
    finally:
        await stop_consumer(everything)
    consumer = AIOKafkaConsumer(**committed_reader(settings), group_id=None)
    stack.push_async_callback(stop_consumer, consumer)
    await consumer.start()
    return _Reader(consumer, topic, begins, ends)


class _Reader:
    """One set's session topic, a partition at a time, up to its end as of the start."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        topic: str,
        begins: Mapping[TopicPartition, int],
        ends: Mapping[TopicPartition, int],
    ) -> None:
        """Call `turn_to` before anything else."""
        self._consumer = consumer
        self._topic = topic
        self._begins = begins
        self._ends = ends
        self._place = TopicPartition(topic, 0)
        self._end = 0
        self._position = 0
        self.count = len(ends)
        self.total = sum(ends[place] - begins[place] for place in ends)
        self.fetched: Sequence[Told] = ()

    @property
    def passed(self) -> int:
        """Offsets of this partition that lie behind, markers of transactions included."""
        return self._position - self._begins.get(self._place, 0)

    async def turn_to(self, partition: int) -> None:
        """Begin at the partition's beginning; one that is not there is empty."""
        self._place = TopicPartition(self._topic, partition)
        self._position, self._end = self._begins.get(self._place, 0), self._ends.get(self._place, 0)
        if self._position < self._end:
            self._consumer.assign([self._place])
            self._consumer.seek(self._place, self._position)

    async def fill(self) -> None:
        """Have something fetched, unless the partition is at its end; waits for a transaction that is still open."""
        began = time.monotonic()
        while not self.fetched and self._position < self._end:
            if time.monotonic() - began > OPEN_TRANSACTION_S:
                raise ConfigurationError(
                    f"{self._topic}, partition {self._place.partition}: a transaction stays open at offset"
                    f" {self._position}; when its processor is well or has ended, compare again"
                )
            records = await self._consumer.getmany(
                self._place, timeout_ms=FETCH_TIMEOUT_MS, max_records=FETCH_RECORDS_MAX
            )
            self.fetched = [
                Told(one.offset, one.value or b"") for one in records.get(self._place, ()) if one.offset < self._end
            ]
            self._position = min(self._end, await self._consumer.position(self._place))

    def take(self, size: int) -> Sequence[Told]:
        """The next `size` of what is fetched (fewer when it is not there)."""
        taken, self.fetched = self.fetched[:size], self.fetched[size:]
        return taken
