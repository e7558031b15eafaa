"""Taking a partition over: restore the state, and mend what the broker made of the last transaction.

One that hangs without its markers is ended (see `hanging`); of one that was committed in one topic and aborted in
another, what was aborted is written again (see `torn`).
"""

import asyncio
import time
from collections.abc import Callable, Hashable, Mapping, Sequence

import orjson
import structlog
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import TopicAuthorizationFailedError

from events import dead_letters
from events.metrics import Metrics
from events.pbx import Pbx
from processors import changelog
from processors.changelog import Position
from processors.hanging import Tail, was_committed
from processors.markers import TAIL_RECORDS, Reader, Span, end_offsets, last_records, read, undecided
from processors.restore import restored_task
from processors.settings import ProcessorsSettings
from processors.task import Batch, Task
from processors.torn import Record, last_transaction, missing
from processors.transaction import TransactionFailed, Transactions

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
    if hanging:
        task = await _settled(settings, pbxs, transactions, task, hanging, metrics)
    while (batch := await _missing_unless_refused(settings, task, transactions.partition)) is not None:
        log.warning("a transaction was torn", partition=transactions.partition, written_again=_described(batch))
        await transactions.commit(batch)
        if metrics is not None:
            metrics.counter("hanging_transactions_total", "completed").inc()
        await _decided(settings, transactions.partition)
        task = await restored_task(settings, pbxs, transactions.partition)
    return task


async def _settled(
    settings: ProcessorsSettings,
    pbxs: Mapping[str, Pbx],
    transactions: Transactions,
    task: Task,
    hanging: Mapping[str, Span],
    metrics: Metrics | None,
) -> Task:
    """End what hangs; the state after it."""
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


async def _missing_unless_refused(settings: ProcessorsSettings, task: Task, partition: int) -> Batch | None:
    """As `_missing`; with the grants of an earlier release nothing is found, and nothing stands still."""
    try:
        return await _missing(settings, task, partition)
    except TopicAuthorizationFailedError as error:
        log.warning(
            "no torn transaction is looked for: processors need Read on this topic",
            partition=partition,
            error=str(error),
        )
        return None


async def _missing(settings: ProcessorsSettings, task: Task, partition: int) -> Batch | None:
    """What is to be written again; null: nothing."""
    topics, done = settings.topic_set, task.next_offset or 0
    ends = await last_records(
        settings,
        {
            TopicPartition(topics.changelog, partition): _is_any,
            TopicPartition(topics.call_sessions, partition): _is_any,
            TopicPartition(topics.dead_letters, partition): lambda one: _origin(settings, one) is not None,
        },
    )
    state, sessions, letters = ends[topics.changelog], ends[topics.call_sessions], ends[topics.dead_letters]

    def is_known(event: Record) -> bool:
        return task.knows(event.value)

    def is_done(letter: Record) -> bool:
        return (_origin(settings, letter) or 0) < done

    records = last_transaction(state.aborted, lambda one: _position_in([one], partition) is not None)
    position = _position_in(records, partition)
    if position is not None and (
        (sessions.committed is not None and not is_known(sessions.committed))
        or (letters.committed is not None and done <= (_origin(settings, letters.committed) or 0) < position)
        or await _committed(settings, partition) == position
    ):
        return Batch(position, changelog={one.key: one.value for one in records})
    events = missing(sessions.aborted, _what_is_told, is_known)
    unread = missing(letters.aborted, lambda letter: _origin(settings, letter), is_done)
    return Batch(done, session_events=events, dead_letters=unread) if events or unread else None


def _is_any(_: Record) -> bool:
    return True


def _what_is_told(event: Record) -> Hashable:
    """Which event of its partition it is."""
    said = orjson.loads(event.value)
    return said.get("session_id"), said.get("revision"), said.get("live_time_us")


def _described(batch: Batch) -> str:
    return f"{len(batch.changelog)} of the state, {len(batch.session_events)} events, {len(batch.dead_letters)} letters"


async def _fate(
    settings: ProcessorsSettings, task: Task, partition: int, hanging: Mapping[str, Span]
) -> tuple[bool, int]:
    """Whether the transaction was committed, and with which next input offset."""
    topics = settings.topic_set
    done = task.next_offset or 0
    event = await _last(settings, TopicPartition(topics.call_sessions, partition), hanging, _is_any)
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


def _origin(settings: ProcessorsSettings, letter: Record) -> int | None:
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
        async with Reader(settings, "read_uncommitted") as consumer:
            found = (await read(consumer, {at: hanging[at.topic]}, {at: is_ours}))[at]
        return found[-1] if found else None
    end = (await end_offsets(settings, [at], "read_committed"))[at]
    tail = TAIL_RECORDS
    async with Reader(settings, "read_committed") as consumer:
        while True:
            found = (await read(consumer, {at: Span(end - tail, end)}, {at: is_ours}))[at]
            if found or tail >= end:
                return found[-1] if found else None
            tail *= 10


async def _hanging_position(settings: ProcessorsSettings, partition: int, span: Span) -> int:
    """The next input offset that the hanging changelog records tell."""
    at = TopicPartition(settings.topic_set.changelog, partition)
    async with Reader(settings, "read_uncommitted") as consumer:
        position = _position_in((await read(consumer, {at: span}, {at: _is_any}))[at], partition)
    if position is None:
        raise TransactionFailed(f"the transaction that hangs in {at.topic} says no position")
    return position


def _position_in(records: Sequence[Record], partition: int) -> int | None:
    """The next input offset that these changelog records tell."""
    for record in reversed(records):
        if record.key == changelog.position_key(partition):
            said = changelog.decode(record.value)
            if isinstance(said, Position):
                return said.next_offset
    return None


async def _committed(settings: ProcessorsSettings, partition: int) -> int:
    """The group's committed offset, 0 without one; pending ones do not count."""
    at = TopicPartition(settings.topic_set.webhooks, partition)
    async with Reader(settings, "read_committed", settings.processors_application) as consumer:
        consumer.assign([at])
        return await consumer.committed(at) or 0
