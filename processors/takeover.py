"""Taking a partition over: restore the state, and end a transaction that hangs without its markers (see `hanging`)."""

import asyncio
import time
from collections.abc import Callable, Mapping

import structlog
from aiokafka import ConsumerRecord, TopicPartition

from events import dead_letters
from events.metrics import Metrics
from events.pbx import Pbx
from processors import changelog
from processors.changelog import Position
from processors.hanging import Tail, was_committed
from processors.markers import Reader, Span, end_offsets, undecided
from processors.restore import restored_task
from processors.settings import ProcessorsSettings
from processors.task import Task
from processors.transaction import TransactionFailed, Transactions

TAIL_RECORDS = 100
FETCH_TIMEOUT_MS = 500
MARKERS_POLL_S = 0.05

log = structlog.get_logger()


async def taken_over(
    settings: ProcessorsSettings, pbxs: Mapping[str, Pbx], transactions: Transactions, metrics: Metrics | None = None
) -> Task:
    """The state after the partition's last transaction, all of whose markers are there; fences whoever had it before.

    Raises TransactionFailed when the broker fails meanwhile, or when a transaction of somebody else hangs there.
    """
    await transactions.start()
    task = await restored_task(settings, pbxs, transactions.partition)
    hanging = await undecided(settings, transactions.partition)
    if not hanging:
        return task
    is_commit, next_offset = await _fate(settings, task, transactions.partition, hanging)
    outcome = "committed" if is_commit else "aborted"
    log.warning("markers are missing", partition=transactions.partition, topics=list(hanging), settled_as=outcome)
    await transactions.settle(list(hanging), next_offset, is_commit=is_commit)
    if metrics is not None:
        metrics.counter("hanging_transactions_total", outcome).inc()
    await _decided(settings, transactions.partition)
    return await restored_task(settings, pbxs, transactions.partition)


async def _decided(settings: ProcessorsSettings, partition: int) -> None:
    """Wait for the markers, which are written after the end of a transaction was answered; raises TransactionFailed."""
    deadline_s = time.monotonic() + settings.transaction_timeout_s
    while hanging := await undecided(settings, partition):
        if time.monotonic() > deadline_s:
            raise TransactionFailed(
                f"a transaction of somebody else holds up partition {partition} of {', '.join(hanging)};"
                " kafka-transactions.sh finds it (find-hanging), and ends it (abort)"
            )
        await asyncio.sleep(MARKERS_POLL_S)


async def _fate(
    settings: ProcessorsSettings, task: Task, partition: int, hanging: Mapping[str, Span]
) -> tuple[bool, int]:
    """Whether the transaction was committed, and with which next input offset."""
    topics = settings.topic_set
    done = task.next_offset or 0
    event = await _last(settings, TopicPartition(topics.call_sessions, partition), hanging, lambda _: True)
    letter = await _last(
        settings,
        TopicPartition(topics.dead_letters, partition),
        hanging,
        lambda one: _origin(settings, one) is not None,
    )
    tails: list[Tail] = []
    if event is not None:
        tails.append(Tail(event.topic in hanging, not task.knows(event.value)))
    if letter is not None:
        tails.append(Tail(letter.topic in hanging, (_origin(settings, letter) or 0) >= done))
    is_commit = was_committed(
        changelog_hangs=topics.changelog in hanging,
        offset_is_beyond=await _committed(settings, partition) > done,
        tails=tails,
    )
    if is_commit and topics.changelog in hanging:
        done = await _hanging_position(settings, partition, hanging[topics.changelog])
    return is_commit, done


def _origin(settings: ProcessorsSettings, letter: ConsumerRecord) -> int | None:
    """The offset of the webhook that became a dead letter; null when ingest wrote it."""
    return dead_letters.offset_of(letter.headers, settings.topic_set.webhooks)


async def _last(
    settings: ProcessorsSettings,
    at: TopicPartition,
    hanging: Mapping[str, Span],
    is_ours: Callable[[ConsumerRecord], bool],
) -> ConsumerRecord | None:
    """The last record of ours of those that hang, or, where none hangs, the last decided one."""
    if at.topic in hanging:
        found = [one for one in await _read(settings, at, "read_uncommitted", hanging[at.topic]) if is_ours(one)]
        return found[-1] if found else None
    end = (await end_offsets(settings, [at], "read_committed"))[at]
    tail = TAIL_RECORDS
    while True:
        found = [one for one in await _read(settings, at, "read_committed", Span(end - tail, end)) if is_ours(one)]
        if found or tail >= end:
            return found[-1] if found else None
        tail *= 10


async def _hanging_position(settings: ProcessorsSettings, partition: int, span: Span) -> int:
    """The next input offset that the hanging changelog records tell."""
    at = TopicPartition(settings.topic_set.changelog, partition)
    for record in reversed(await _read(settings, at, "read_uncommitted", span)):
        if record.key == changelog.position_key(partition):
            said = changelog.decode(record.value)
            if isinstance(said, Position):
                return said.next_offset
    raise TransactionFailed(f"the transaction that hangs in {at.topic} says no position")


async def _read(settings: ProcessorsSettings, at: TopicPartition, isolation: str, span: Span) -> list[ConsumerRecord]:
    found: list[ConsumerRecord] = []
    async with Reader(settings, isolation) as consumer:
        consumer.assign([at])
        consumer.seek(at, max(span.begin, (await consumer.beginning_offsets([at]))[at]))
        while await consumer.position(at) < span.end:
            fetched = await consumer.getmany(at, timeout_ms=FETCH_TIMEOUT_MS)
            found += [record for record in fetched.get(at, ()) if record.offset < span.end]
    return found


async def _committed(settings: ProcessorsSettings, partition: int) -> int:
    """The group's committed offset, 0 without one; pending ones do not count."""
    at = TopicPartition(settings.topic_set.webhooks, partition)
    async with Reader(settings, "read_committed", settings.processors_application) as consumer:
        consumer.assign([at])
        return await consumer.committed(at) or 0
