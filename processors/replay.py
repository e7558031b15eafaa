"""``python -m processors replay``: the webhooks from their start into a new set of output topics.

The live service's own parts, without its consumer group: one transactional producer per partition (a second process
on the same partition fences the first), the state and the next offset from the target's changelog, and a transaction
per batch. So it can be killed anywhere and go on. The group's offsets move along, for the service that goes on live.

Memory: the state of `PARTITIONS_AT_ONCE` partitions, and of each a batch and what the client fetched ahead.
"""

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from events import topics
from events.kafka import committed_reader, ensure_topics, partition_count, stop_consumer
from events.memory import collect_garbage_seldom, give_large_buffers_back
from events.pbx import Pbx, pbxs_of
from events.progress import Progress, span
from events.settings import ConfigurationError
from processors.settings import ProcessorsSettings
from processors.takeover import taken_over
from processors.task import Batch, InputRecord, Task
from processors.transaction import Fenced, TransactionFailed, Transactions
from processors.working import worked_out

PARTITIONS_AT_ONCE: Final = 4
FETCH_TIMEOUT_MS: Final = 500
PATIENCE_S: Final = 60.0
"""How long a partition is tried again without a single commit before the command gives up."""
BACKOFF_S: Final = 1.0

log = structlog.get_logger()


class StoppedError(Exception):
    """The replay cannot go on now; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Part:
    """A partition of the webhooks: offsets from `begin` to before `end`, as of the command's start."""

    partition: int
    begin: int
    end: int


@dataclass(slots=True)
class Written:
    """What this run wrote."""

    session_events: int = 0
    dead_letters: int = 0


def target_settings(settings: ProcessorsSettings, to_prefix: str) -> ProcessorsSettings:
    """The settings with which the live service goes on where the replay ends; raises ConfigurationError."""
    source = settings.topic_set
    if to_prefix in {source.prefix, source.webhooks_prefix}:
        raise ConfigurationError(
            f"--to-prefix: {to_prefix} is the set that is replayed; name another prefix, such as {to_prefix}-2"
        )
    fields = settings.model_dump() | {
        "kafka_topic_prefix": to_prefix,
        "kafka_webhooks_prefix": source.webhooks_prefix or source.prefix,
        # Another group and other transactional ids than the live service's, which must not be fenced.
        "processors_application": f"{settings.processors_application}-{to_prefix}",
    }
    try:
        return type(settings)(**fields)
    except ValueError:
        raise ConfigurationError(
            f"--to-prefix: {to_prefix} cannot be part of a topic's name; use letters, digits, '.', '_' and '-'"
        ) from None


async def replay(settings: ProcessorsSettings, to_prefix: str, wanted: frozenset[int] | None, *, resume: bool) -> None:
    """Replay the `wanted` partitions (null: all). Raises ConfigurationError, StoppedError or, cancelled, ends soon."""
    target = target_settings(settings, to_prefix)
    pbxs = pbxs_of(target)
    collect_garbage_seldom()
    give_large_buffers_back()
    began = time.monotonic()
    progress, written = Progress("replay"), Written()
    try:
        target, parts = await _prepared(target, wanted, resume=resume)
    except (KafkaError, OSError) as error:
        raise ConfigurationError(
            f"KAFKA_BOOTSTRAP_SERVERS: the broker at {target.kafka_bootstrap_servers} does not serve the replay"
            f" ({type(error).__name__}); start it, or name another"
        ) from None
    progress.total = sum(part.end - part.begin for part in parts)
    async with progress.shown():
        await _all([_PartReplay(target, pbxs, part, progress, written) for part in parts])
    count = f"{len(parts)} of {target.kafka_topic_partitions} partitions, {progress.total:,} records"
    sys.stdout.write(
        f"replayed {target.topic_set.webhooks} into {to_prefix}.*: {count}; this run wrote {written.session_events:,}"
        f" session events and {written.dead_letters:,} dead letters in {span(time.monotonic() - began)}\n"
        f"{_next_steps(settings, target)}"
    )


def _next_steps(settings: ProcessorsSettings, target: ProcessorsSettings) -> str:
    names = target.topic_set
    return (
        "when all partitions are replayed\n"
        f"  compare:    python -m processors diff --common {settings.kafka_topic_prefix} {names.prefix}\n"
        f"  go on live: KAFKA_TOPIC_PREFIX={names.prefix} KAFKA_WEBHOOKS_PREFIX={names.webhooks_prefix}"
        f" KAFKA_TOPIC_PARTITIONS={target.kafka_topic_partitions}"
        f" PROCESSORS_APPLICATION={target.processors_application} python -m processors\n"
    )


async def _prepared(
    target: ProcessorsSettings, wanted: frozenset[int] | None, *, resume: bool
) -> tuple[ProcessorsSettings, Sequence[Part]]:
    """The target's topics created, with the source's partition count, and found to be as they must be."""
    names = target.topic_set
    count = await partition_count(target, names.webhooks)
    if count is None:
        raise ConfigurationError(f"KAFKA_TOPIC_PREFIX: there is no topic {names.webhooks} to replay; correct it")
    if wanted is not None and max(wanted) >= count:
        raise ConfigurationError(
            f"--partitions: {names.webhooks} has the partitions 0-{count - 1}, and no {max(wanted)}"
        )
    target = target.model_copy(update={"kafka_topic_partitions": count})
    numbers = sorted(wanted) if wanted is not None else range(count)
    for name in map(names.name, topics.OUTPUTS):
        existing = await partition_count(target, name)
        if existing not in {None, count}:
            raise ConfigurationError(
                f"--to-prefix: {name} has {existing} partitions, and {names.webhooks} {count}; name a new prefix"
            )
    await ensure_topics(target, topics.OUTPUTS)
    if not resume:
        await _refuse_if_written(target, numbers)
    return target, await _parts(target, numbers)


async def _refuse_if_written(target: ProcessorsSettings, numbers: Sequence[int]) -> None:
    names = [target.topic_set.name(topic) for topic in topics.OUTPUTS]
    places = [TopicPartition(name, number) for name in names for number in numbers]
    # Uncommitted records count: somebody may be writing right now.
    consumer = AIOKafkaConsumer(**committed_reader(target) | {"isolation_level": "read_uncommitted"}, group_id=None)
    try:
        await consumer.start()
        ends = await consumer.end_offsets(places)
    finally:
        await stop_consumer(consumer)
    for place in places:
        if ends[place]:
            raise ConfigurationError(
                f"--to-prefix: {place.topic} is not empty (partition {place.partition}); name a new prefix,"
                " or go on with an interrupted replay by --resume"
            )


async def _parts(target: ProcessorsSettings, numbers: Sequence[int]) -> Sequence[Part]:
    places = [TopicPartition(target.topic_set.webhooks, number) for number in numbers]
    consumer = AIOKafkaConsumer(**committed_reader(target), group_id=None)
    try:
        await consumer.start()
        begins, ends = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
    finally:
        await stop_consumer(consumer)
    return [Part(place.partition, begins[place], ends[place]) for place in places]


async def _all(replays: "Sequence[_PartReplay]") -> None:
    """Run them, some at a time; the first failure ends all, each with its transaction at hand finished."""
    at_once = asyncio.Semaphore(PARTITIONS_AT_ONCE)

    async def one(part: "_PartReplay") -> None:
        async with at_once:
            await part.run()

    try:
        async with asyncio.TaskGroup() as group:
            for part in replays:
                group.create_task(one(part))
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None


class _PartReplay:
    """One partition's replay; operating faults are tried again as the live service does, but not for ever."""

    def __init__(
        self, target: ProcessorsSettings, pbxs: Mapping[str, Pbx], part: Part, progress: Progress, written: Written
    ) -> None:
        """Nothing happens before `run`."""
        self._target = target
        self._pbxs = pbxs
        self._part = part
        self._progress = progress
        self._written = written
        self._done = 0
        self._committed_at = time.monotonic()

    async def run(self) -> None:
        """To the part's end; raises StoppedError."""
        self._committed_at = time.monotonic()
        while True:
            transactions = Transactions(self._target, self._part.partition)
            try:
                # Fences and settles whatever an interrupted run left.
                task = await taken_over(self._target, self._pbxs, transactions)
                await self._replay(transactions, task)
            except Fenced:
                raise StoppedError(
                    f"another process writes partition {self._part.partition} of {self._target.kafka_topic_prefix}.*;"
                    " leave it to that one (--partitions shares the work out)"
                ) from None
            except (TransactionFailed, KafkaError, OSError, TimeoutError) as error:
                if time.monotonic() - self._committed_at > PATIENCE_S:
                    raise StoppedError(f"{error}; when Kafka is well, run the command again with --resume") from error
                log.warning("partition starts over", partition=self._part.partition, error=str(error))
            else:
                return
            finally:
                await transactions.discard()
            await asyncio.sleep(BACKOFF_S)

    async def _replay(self, transactions: Transactions, task: Task) -> None:
        part = self._part
        position = task.next_offset if task.next_offset is not None else part.begin
        self._progress.skip(self._advanced(min(position, part.end)))
        if position >= part.end:
            return
        if position < part.begin:
            raise StoppedError(
                f"the next webhook of partition {part.partition} is {position}, but retention has deleted all before"
                f" {part.begin}; replay into a new prefix"
            )
        self._committed_at = time.monotonic()  # restoring a large state takes its time
        source = TopicPartition(self._target.topic_set.webhooks, part.partition)
        consumer = AIOKafkaConsumer(**committed_reader(self._target), group_id=None)
        under_way: asyncio.Task[None] | None = None
        try:
            await consumer.start()
            consumer.assign([source])
            consumer.seek(source, position)
            while (position := await consumer.position(source)) < part.end:
                fetched = await consumer.getmany(
                    source, timeout_ms=FETCH_TIMEOUT_MS, max_records=self._target.processors_batch_records_max
                )
                records = [
                    InputRecord(one.partition, one.offset, one.key, one.value, one.headers)
                    for one in fetched.get(source, ())
                    if one.offset < part.end
                ]
                if records:  # they are worked out while the ones before are committed
                    batch = await worked_out(task, records)
                    if under_way is not None:
                        await asyncio.shield(under_way)
                    under_way = asyncio.create_task(self._commit(transactions, batch))
                elif time.monotonic() - self._committed_at > PATIENCE_S:
                    raise TimeoutError(f"no webhook of partition {part.partition} came for {PATIENCE_S:.0f} s")
            if under_way is not None:
                await asyncio.shield(under_way)
            self._progress.done += self._advanced(part.end)
        finally:
            if under_way is not None:  # also when cancelled: the transaction at hand is finished first
                await asyncio.wait({under_way})
            await stop_consumer(consumer)

    async def _commit(self, transactions: Transactions, batch: Batch) -> None:
        await transactions.commit(batch)
        self._committed_at = time.monotonic()
        self._written.session_events += len(batch.session_events)
        self._written.dead_letters += len(batch.dead_letters)
        self._progress.done += self._advanced(batch.next_offset)

    def _advanced(self, position: int) -> int:
        """How much further than before this is: a partition that starts over counts nothing twice."""
        before, self._done = self._done, max(0, position - self._part.begin)
        return self._done - before
