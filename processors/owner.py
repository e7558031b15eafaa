"""Owning one partition: fence, restore, then transaction after transaction, and all over again after a failure.

On assignment, in this order: 1. start the producer: this fences the previous owner and settles its transaction;
2. restore the changelog, and end what hangs without its markers (`takeover`); 3. read the committed offset; 4. seek and
consume. The changelog's next offset and the committed one are written in one transaction, so they are equal; where they
are not, the changelog's holds, and the mismatch is counted, because the state must never miss or repeat an input.

A log that ends before that offset has lost its end: a single broker acknowledges what is in its machine's memory. The
offsets are given away anew, and what comes at them is new: it is found by its time, and the loss is counted.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Mapping
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from events.kafka import ends_before, is_member
from events.logs import place_of
from events.metrics import PARTITION, PBX, Metrics
from events.pbx import Pbx
from events.tracing import Tracing
from processors.clock_skew import whole_hours
from processors.settings import ProcessorsSettings
from processors.takeover import taken_over
from processors.task import Batch, InputRecord, Task
from processors.transaction import Fenced, TransactionFailed, Transactions
from processors.working import worked_out

BACKOFF_S_MIN: Final = 0.1
BACKOFF_S_MAX: Final = 5.0
FENCED_PAUSE_S: Final = 1.0
CLOCKS_DIFFER_S_MAX: Final = 300.0
"""So far the broker's clock may be behind ingest's when its log has lost its end; so much is read again."""
"""Two that have the same transactional ids by mistake do not throw each other out at every transaction."""

log = structlog.get_logger()


class Owner:
    """A process's hold on one partition of ``threecx.webhooks``."""

    def __init__(
        self,
        settings: ProcessorsSettings,
        pbxs: Mapping[str, Pbx],
        metrics: Metrics,
        consumer: AIOKafkaConsumer,
        partition: int,
        tracing: Tracing | None = None,
    ) -> None:
        """Nothing happens before `run`; until then the partition must be paused."""
        self._settings = settings
        self._pbxs = pbxs
        self._metrics = metrics
        self._consumer = consumer
        self._tracing = tracing
        self.partition = TopicPartition(settings.topic_set.webhooks, partition)
        self._queue: deque[InputRecord] = deque()
        self._arrived = asyncio.Event()
        self._consuming = False
        self._stopping = False
        self._expected = 0
        self._seems_cut = False
        self._has_lost_tail = False
        self._backoff_s = BACKOFF_S_MIN
        self._stream_s = 0.0
        self._away_since_s: float | None = time.time()
        self._skewed: dict[str, int | None] = {}
        self.next_offset = 0
        self.state = "waiting"

    def take(self, records: list[InputRecord]) -> None:
        """Queue fetched records; ones from before a seek are dropped, and a full queue pauses the partition.

        aiokafka begins at the beginning again where a partition moved to another broker: then we go forward again.
        """
        if not self._consuming or self._stopping:
            return
        fresh = [record for record in records if record.offset >= self._expected]
        if not fresh:
            if (self._consumer.highwater(self.partition) or self._expected) < self._expected:
                self._seems_cut = True
                self._arrived.set()
            else:
                self._consumer.seek(self.partition, self._expected)
            return
        self._queue.extend(fresh)
        self._expected = fresh[-1].offset + 1
        self._arrived.set()
        if len(self._queue) > self._settings.processors_batch_records_max * 2:
            self._consumer.pause(self.partition)

    async def run(self) -> None:
        """Own the partition until `stop`; operating faults are tried again for ever, anything else is raised."""
        try:
            await self._own()
        finally:
            self._forget()
        self.state = "stopped"

    def _forget(self) -> None:
        """What we said of the partition and its PBXs would stand still, and its next owner says it now."""
        self._metrics.forget(PARTITION, str(self.partition.partition))
        for pbx in self._skewed:
            self._metrics.forget(PBX, pbx)

    async def _own(self) -> None:
        while not self._stopping:
            transactions = Transactions(self._settings, self.partition.partition)
            try:
                task = await self._take_over(transactions)
                await self._consume(transactions, task)
            except Fenced:
                self._failed("fenced")
                await self._until_it_is_ours()
            except (TransactionFailed, KafkaError, OSError, TimeoutError) as error:
                self._failed("transaction" if isinstance(error, TransactionFailed) else "broker")
                log.warning("partition starts over", partition=self.partition.partition, error=str(error))
                await self._pause_for(self._backoff_s)
                self._backoff_s = min(self._backoff_s * 2, BACKOFF_S_MAX)
            finally:
                await transactions.discard()

    async def stop(self) -> None:
        """Finish the transaction at hand, then stop; returns at once, `run` ends soon after."""
        self._stopping = True
        self._arrived.set()

    def _failed(self, reason: str) -> None:
        if self._consuming:
            self._away_since_s = time.time()
        self._consuming = False
        self.state = "starting over"
        self._metrics.counter("producer_replacements_total", reason).inc()

    async def _pause_for(self, seconds: float) -> None:
        """Wait, but no longer than until `stop`."""
        self._arrived.clear()
        if not self._stopping:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), seconds)

    async def _until_it_is_ours(self) -> None:
        """The new owner works already, unless it is none: who only took the id is not of our group.

        Where the group has another owner, our place in it is gone, or soon taken from us. It is asked, for as long as a
        session lasts. If it could not be all that time, we take over all the same: a rightful owner, fenced by that,
        asks as we did and comes back.
        """
        until = time.monotonic() + self._settings.processors_session_timeout_s
        while not self._stopping and time.monotonic() < until:
            await self._pause_for(FENCED_PAUSE_S)
            with contextlib.suppress(KafkaError, OSError, TimeoutError):
                if not self._stopping and await is_member(self._consumer):
                    return

    async def _take_over(self, transactions: Transactions) -> Task:
        self.state = "taking over"
        self._consumer.pause(self.partition)
        self._queue.clear()
        began = time.monotonic()
        task = await taken_over(self._settings, self._pbxs, transactions, self._metrics)
        committed = await self._consumer.committed(self.partition)
        self._metrics.histogram("restore_seconds").observe(time.monotonic() - began)
        if task.next_offset is not None and task.next_offset != committed:
            self._metrics.counter("restored_offset_mismatches_total").inc()
            log.error("the changelog's offset holds", partition=self.partition.partition, committed=committed)
        self.next_offset = task.next_offset if task.next_offset is not None else (committed or 0)
        end = (await self._consumer.end_offsets([self.partition]))[self.partition]
        if end < self.next_offset or self._has_lost_tail:  # seen, though as much may have come since
            self.next_offset = await self._after_lost_tail(task, end)
        self._expected = self.next_offset
        self._seems_cut = self._has_lost_tail = False
        if self._stopping or self.partition not in self._consumer.assignment():
            return task
        if self.next_offset:
            self._consumer.seek(self.partition, self.next_offset)
        else:
            await self._consumer.seek_to_beginning(self.partition)
        self._consuming = True
        self._away_since_s = None
        self._consumer.resume(self.partition)
        self.state = "consuming"
        log.debug("partition taken over", partition=self.partition.partition, offset=self.next_offset)
        return task

    async def _look_at_the_end(self) -> None:
        """Go forward again, unless the log has lost its end indeed: then OffsetOutOfRangeError is raised."""
        self._seems_cut = False
        if await ends_before(self._consumer, self.partition, self._expected):
            self._has_lost_tail = True
            raise OffsetOutOfRangeError({self.partition: self._expected})
        self._consumer.seek(self.partition, self._expected)

    async def _after_lost_tail(self, task: Task, end: int) -> int:
        """Where what the state does not know begins, in a log that lost its end; `end` when nothing has come since.

        By the times of the log, which are the broker's, while the state knows ingest's: what was lost was written
        before, and of what is read again for the difference of two clocks webhooks are known by their sequence, and
        ticks are too few to count.
        """
        since_ms = int((task.stream_time.timestamp() - CLOCKS_DIFFER_S_MAX) * 1000)
        first = (await self._consumer.offsets_for_times({self.partition: since_ms}))[self.partition]
        offset = end if first is None else int(first.offset)
        self._metrics.counter("lost_tails_total").inc()
        log.error(
            "the webhooks' log has lost its end",
            partition=self.partition.partition,
            known_until=self.next_offset,
            end=end,
            going_on_at=offset,
        )
        return offset

    async def _consume(self, transactions: Transactions, task: Task) -> None:
        """Batch after batch. At once when idle, larger when busy: what comes during a transaction is the next one.

        When a whole batch waits, it is worked out while the last one is committed. The task is then ahead of the log
        by one batch, which costs nothing: after any failure it is thrown away.
        """
        limit = self._settings.processors_batch_records_max
        self._note(task)
        under_way: asyncio.Task[None] | None = None
        try:
            while not self._stopping:
                self._arrived.clear()
                if self._seems_cut:
                    await self._look_at_the_end()
                if under_way is not None and len(self._queue) < limit:
                    await under_way
                    under_way = None
                if not self._queue:
                    await self._arrived.wait()
                    continue
                records = [self._queue.popleft() for _ in range(min(limit, len(self._queue)))]
                began_s = time.time()
                batch = await worked_out(task, records)
                if self._tracing is not None:
                    _carry(self._tracing, batch)
                if under_way is not None:
                    await under_way
                under_way = asyncio.create_task(self._commit(transactions, batch, task, records, began_s))
                if len(self._queue) <= limit and self.partition in self._consumer.paused():
                    self._consumer.resume(self.partition)
            if under_way is not None:
                await under_way
        finally:
            if under_way is not None:
                under_way.cancel()
                await asyncio.wait({under_way})

    async def _commit(
        self, transactions: Transactions, batch: Batch, task: Task, records: list[InputRecord], began_s: float
    ) -> None:
        began = time.monotonic()
        try:
            await transactions.commit(batch)
        except TransactionFailed as error:
            self._metrics.counter("transactions_total", "fenced" if isinstance(error, Fenced) else "failed").inc()
            raise
        self._backoff_s = BACKOFF_S_MIN  # not before: a state can be restored as often as its transaction is refused
        self._metrics.histogram("transaction_seconds").observe(time.monotonic() - began)
        self._metrics.histogram("batch_records").observe(batch.next_offset - self.next_offset)
        self.next_offset = batch.next_offset
        if self._tracing is not None:
            self._trace(self._tracing, records, began_s)
        self._count(batch)
        self._note(task)

    def _trace(self, tracing: Tracing, records: list[InputRecord], began_s: float) -> None:
        ended_s = time.time()
        for record in records:
            tracing.followed(
                "process",
                record.headers,
                began_s,
                ended_s,
                messaging__system="kafka",
                messaging__destination__name=self.partition.topic,
                messaging__destination__partition__id=str(record.partition),
                messaging__kafka__offset=record.offset,
            )

    def _count(self, batch: Batch) -> None:
        self._metrics.counter("transactions_total", "committed").inc()
        for (name, label), count in batch.counts.items():
            self._metrics.counter(f"{name}_total", label).inc(count)
        for offset, bug in batch.bugs:
            told = place_of(bug)
            log.error("a record met a bug of ours", partition=self.partition.partition, offset=offset, **told)

    def _note(self, task: Task) -> None:
        partition = str(self.partition.partition)
        self._metrics.gauge("open_calls", partition).set(task.open_calls)
        self._metrics.gauge("kept_calls", partition).set(task.kept_calls)
        self._metrics.gauge("stream_timestamp_seconds", partition).set(task.stream_time.timestamp())
        for pbx, skew_s in task.clock_skews.take():
            self._metrics.gauge("clock_skew_seconds", pbx).set(skew_s)
            self._warn_of_skew(pbx, skew_s)
        self._stream_s = task.stream_time.timestamp()
        self.observe_lag(time.time())

    def observe_lag(self, now_s: float) -> None:
        """How far behind the partition's end we are; also asked for by each scrape, so that a standstill shows.

        While the partition is taken over its end is not known, nor at first what was worked out: so we are behind by at
        least the time that nothing is consumed.
        """
        partition = str(self.partition.partition)
        lag = max(0, (self._consumer.highwater(self.partition) or 0) - self.next_offset)
        self._metrics.gauge("lag_records", partition).set(lag)
        # Before the first batch nothing says how old the waiting records are.
        age_s = max(0.0, now_s - self._stream_s) if lag and self._stream_s else 0.0
        away_s = 0.0 if self._away_since_s is None else now_s - self._away_since_s
        self._metrics.gauge("lag_seconds", partition).set(max(age_s, away_s))

    def _warn_of_skew(self, pbx: str, skew_s: float) -> None:
        """Once for each change: the times are taken as reported, so somebody must look."""
        hours = whole_hours(skew_s, self._settings.processors_clock_skew_warn_s)
        before, self._skewed[pbx] = self._skewed.get(pbx), hours
        if before == hours:
            return
        if hours is None:
            log.info("the clock of the PBX agrees again", pbx=pbx, skew_s=round(skew_s))
        else:
            hint = "its zone (PBX_TIMEZONE or PBX_CONFIG) or its template (local time stamped as UTC?) is wrong"
            log.warning("the clock of the PBX is off", pbx=pbx, skew_s=round(skew_s), hours=hours, hint=hint)


def _carry(tracing: Tracing, batch: Batch) -> None:
    """Let each session event say which trace it goes on with."""
    batch.session_events = [
        event._replace(headers=[*event.headers, *tracing.header_of(event.value)]) for event in batch.session_events
    ]
