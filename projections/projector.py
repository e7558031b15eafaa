"""From the session topic into the views: rows and offsets in one database transaction, then the event stream.

1. fold the batch to the last state per session; 2. in one transaction: rows, revisions, agents, offsets guarded by
the ones expected; read what the change looks like, if anybody hears it; 3. commit; 4. tell the stream. On assignment
the consumer seeks to the database's offset: the Kafka group's is only a mirror, so that lag tools see it, made once a
second (a commit with each batch was a round trip in the way of the next). A handler that raises is called again with
the same records (NACK_ON_ERROR is the one policy of FastStream that loses nothing).

While much comes at once, step 1 of a batch is done during steps 2 to 4 of the one before, which is written behind the
handler's back: until the database has it, since it is not handed over again. Steps 2 to 4 are of one batch at a time,
in order. The fold rests on what the one before leaves, and is done again in the transaction where that, or who is
forgotten, turns out otherwise. A rebalance seeks: whatever was taken before and is not being written is let go of, all
of it, and comes again.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import KafkaError
from faststream import AckPolicy
from faststream.kafka import KafkaMessage
from faststream.kafka.message import KafkaAckableMessage
from faststream.message import AckStatus
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from events.kafka import ends_before, give_up_place, position_now
from events.metrics import PARTITION, Metrics
from events.pbx import DEFAULT_PBX
from events.tracing import Tracing
from projections.consuming import broker_of, reader_options
from projections.event_metrics import count
from projections.folding import NOTHING, Advance, Fold, Folding, Position, Rows, fold, rows_of
from projections.forgetting import NOBODY, Forgotten
from projections.settings import ProjectionsSettings
from projections.store import ForeignWriterError, Store
from projections.stream import Stream
from projections.upserts import Given
from projections.views import Views
from projections.watching import watch

FETCH_TIMEOUT_MS: Final = 200
RETRY_S: Final = 0.5
MIRROR_TIMEOUT_S: Final = 10.0
MIRROR_S: Final = 1.0
BEHIND_RECORDS_MIN: Final = 100
"""Smaller batches wait for the database: a record would only wait for two transactions in place of one."""
SLICE_RECORDS: Final = 20
"""So many are read at a time while the database writes: between two of its statements its driver wants the loop, for
three turns of it."""
LAST_BATCH_S: Final = 1.0
"""How long the end waits for a batch that is being written; it comes again at the next start."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Batch:
    """Records as they were taken, and what they come to, if all before them is written.

    `run`: since which seek, without a break, the consumer had been reading; null: a rebalance was going on.
    """

    message: KafkaMessage | None
    run: object | None
    records: Sequence[ConsumerRecord]
    forgotten: Forgotten
    fold: Fold
    rows: Rows
    given: Given


class Projector(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types
    """Folds what the group assigns. `failed` is set when the process must not go on."""

    def __init__(
        self,
        settings: ProjectionsSettings,
        store: Store,
        views: Views,
        stream: Stream,
        metrics: Metrics,
        tracing: Tracing | None = None,
    ) -> None:
        """Nothing is connected before `start`."""
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._settings = settings
        self._store = store
        self._views = views
        self._stream = stream
        self._metrics = metrics
        self._tracing = tracing
        self._positions: dict[int, Position] = {}
        self._attempted: dict[int, Position] = {}
        self._generation: int | None = None
        self._forgotten = NOBODY
        self._run: object | None = object()
        self._behind: asyncio.Task[None] | None = None
        self._ahead: dict[int, Position] = {}
        self._is_ending = False
        self._message: KafkaMessage | None = None
        self._done_with: KafkaMessage | None = None
        self._mirrored: dict[TopicPartition, int] = {}
        self._mirroring: asyncio.Task[None] | None = None
        self._beginning: asyncio.Task[None] | None = None
        self._broker = broker_of(settings)
        self._subscriber = self._broker.subscriber(
            settings.topic_set.call_sessions,
            batch=True,
            ack_policy=AckPolicy.NACK_ON_ERROR,
            parser=self._taken,
            decoder=self._records,
            group_id=settings.projections_application,
            group_instance_id=settings.projections_instance or None,
            listener=self,
            max_records=settings.projections_batch_records_max,
            batch_timeout_ms=FETCH_TIMEOUT_MS,
            partition_assignment_strategy=(RoundRobinPartitionAssignor,),
            **reader_options(settings),
        )
        self._subscriber(self._handle)

    async def start(self) -> None:
        """Connect and begin; raises aiokafka's KafkaError while the broker is away."""
        self._positions = await self._store.positions()
        for partition, position in self._positions.items():
            self._views.feeds.known(partition, position.stream_time)
        await self._broker.start()
        self._mirroring = asyncio.create_task(self._mirror())

    async def stop(self) -> None:
        """Finish the batch at hand and leave the group."""
        self._is_ending = True
        if self._beginning is not None:
            self._beginning.cancel()
        if self._behind is not None:
            await asyncio.wait({self._behind}, timeout=LAST_BATCH_S)
        if self._mirroring is not None:
            self._mirroring.cancel()
            with suppress(KafkaError, TimeoutError):
                async with asyncio.timeout(MIRROR_S):
                    await self._mirror_once()
        if self._behind is not None:
            self._behind.cancel()  # before others have its partitions, and read where the database stands
        if self._subscriber.consumer is not None:
            give_up_place(self._subscriber.consumer)
        await self._broker.stop()

    async def _mirror(self) -> None:
        while True:
            await asyncio.sleep(MIRROR_S)
            with suppress(KafkaError, TimeoutError):  # a rebalance, or a broker that is away: in a second again
                async with asyncio.timeout(MIRROR_TIMEOUT_S):
                    await self._mirror_once()

    async def _mirror_once(self) -> None:
        """Tell the group where the database stands, of the partitions that are ours now."""
        consumer: AIOKafkaConsumer | None = self._subscriber.consumer
        moved: dict[TopicPartition, int] = {}
        for one in consumer.assignment() if consumer is not None else ():
            at = self._reached(one)
            if at != self._mirrored.get(one, 0):
                moved[one] = at
        if consumer is not None and moved:
            await consumer.commit(moved)
            self._mirrored |= moved

    def _reached(self, tp: TopicPartition) -> int:
        """Before which offset nothing waits for the database.

        With no batch at hand what the reader has passed beyond the database are the markers of transactions.
        """
        at = self._position(tp.partition).next_offset
        return at if self._message is not self._done_with else max(at, position_now(self._subscriber.consumer, tp))

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Start where the database stands. aiokafka swallows what is raised here, so it is kept in `failed`."""
        consumer: AIOKafkaConsumer = self._subscriber.consumer
        partitions = list(assigned)
        self._metrics.counter("rebalances_total").inc()
        consumer.pause(*partitions)
        await self._begin(consumer, partitions)

    async def _begin(self, consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> None:
        try:
            async with self._stream.lock:  # what is being committed is committed, or not, before it is looked at
                positions = await self._store.positions()
            found = {one.partition: positions.get(one.partition, NOTHING) for one in partitions}
            # What another process folded while it had a partition of ours, our clients were not told.
            self._views.untold += any(at != self._position(one) for one, at in found.items())
            self._positions |= found
            self._mirrored = {}
            for one in partitions:
                consumer.seek(one, self._positions[one.partition].next_offset)
                watch(one, self._metrics, self._views.feeds, lambda: self._subscriber.consumer, self._reached)
            self._run, self._ahead = object(), {}
            consumer.resume(*partitions)
        except (SQLAlchemyError, OSError) as error:
            # A rebalance waits for nobody: they stay paused until the database says where they stand.
            log.warning("the database does not say where it stands; trying again", error=type(error).__name__)
            self._beginning = asyncio.create_task(self._begin_later(consumer, partitions))
        except Exception as error:  # noqa: BLE001 - whatever it is, the process must not go on without its position
            self._fail(error)

    async def _begin_later(self, consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> None:
        await asyncio.sleep(RETRY_S)
        await self._begin(consumer, [one for one in partitions if one in consumer.assignment()])

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Begin no transaction any more, and let the one that runs end, before others may have the partitions.

        They read where the database stands: what is committed after that they take for another writer's. The group
        waits for us as long as a session lasts, and we half of that for the database. What the gauges say of the
        partitions ends here.
        """
        self._run = None
        if self._beginning is not None:
            self._beginning.cancel()
        for one in revoked:
            self._metrics.forget(PARTITION, str(one.partition))
        try:
            async with asyncio.timeout(self._settings.projections_session_timeout_s / 2), self._stream.lock:
                pass
        except TimeoutError:
            log.warning("the transaction that runs does not end; the partitions are handed over without it")

    def _fail(self, error: Exception) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)

    async def _taken(self, records: tuple[ConsumerRecord, ...]) -> KafkaMessage:
        """FastStream's parser, without its look at the headers of every record, which nobody wants."""
        return KafkaAckableMessage(records, b"", consumer=self._subscriber.consumer)

    async def _records(self, message: KafkaMessage) -> tuple[ConsumerRecord, ...]:
        """FastStream's decoder, undone: the fold wants the records with partition and offset, byte for byte."""
        self._message = message
        raw: tuple[ConsumerRecord, ...] = message.raw_message
        return raw

    async def _handle(self, records: Sequence[ConsumerRecord]) -> None:
        message = self._message
        batch = await self._batch(records)
        if self._behind is not None:
            await self._behind
            self._behind, self._ahead = None, {}
        if self._is_ending or len(records) < min(BEHIND_RECORDS_MIN, self._settings.projections_batch_records_max):
            await self._write(batch)
        else:
            # What was taken before a seek is let go of: what comes next is folded from where the database stands.
            is_next = batch.run is self._run
            self._ahead = {step.partition: step.position for step in batch.fold.steps} if is_next else {}
            self._behind = asyncio.create_task(self._write_at_last(batch))
        if message is not None:
            message.committed = AckStatus.ACKED  # the mirror is made by itself

    async def _batch(self, records: Sequence[ConsumerRecord]) -> _Batch:
        """Fold what is not written or being written yet."""
        message, run, forgotten, positions = self._message, self._run, self._forgotten, self._positions | self._ahead
        fresh = _from(positions, records)
        if len(fresh) < len(records):
            self._metrics.counter("stale_events_total").inc(len(records) - len(fresh))
            await self._go_forward({record.partition for record in records} - {record.partition for record in fresh})
        folding = Folding(positions, forgotten)
        for begin in range(0, len(fresh), SLICE_RECORDS):
            folding.take(fresh[begin : begin + SLICE_RECORDS])
            if self._behind is not None:
                await asyncio.sleep(0)
        return _Batch(message, run, fresh, forgotten, *self._rows(folding.fold()))

    def _rows(self, done: Fold) -> tuple[Fold, Rows, Given]:
        zones = {name: pbx.zone for name, pbx in self._views.pbxs.items()}
        rows = rows_of(done, zones, zones[DEFAULT_PBX])
        return done, rows, self._store.given(rows)

    async def _write_at_last(self, batch: _Batch) -> None:
        """However often it takes."""
        while True:
            try:
                return await self._write(batch)
            except (SQLAlchemyError, OSError):
                continue
            except Exception as error:
                self._fail(error)
                raise

    async def _write(self, batch: _Batch) -> None:
        try:
            if self._attempted:
                await self._learn_what_became_of_it()
            if batch.fold.steps:
                await self._commit(batch)
            self._done_with = batch.message  # while it fails it is at hand: it comes again
        except ForeignWriterError as error:
            log.critical("the database has another writer; stop one of the two", found=str(error))
            self._fail(error)
            raise
        except (SQLAlchemyError, OSError) as error:
            self._metrics.counter("commit_failures_total", type(error).__name__).inc()
            log.warning("the database does not take the views; trying again", error=type(error).__name__)
            await asyncio.sleep(RETRY_S)
            raise

    async def _go_forward(self, partitions: Iterable[int]) -> None:
        """To where we are: aiokafka begins at the beginning again where a partition moved to another broker.

        It does so, too, where the log ends before: then the beginning is where we go on.
        """
        consumer: AIOKafkaConsumer | None = self._subscriber.consumer
        if consumer is None:
            return
        run = self._run
        for tp in consumer.assignment():
            if tp.partition in partitions:
                with suppress(KafkaError):  # who does not know the end now is asked again: it comes again
                    if await ends_before(consumer, tp, self._position(tp.partition).next_offset):
                        await self._begin_again(tp.partition, run)
                if run is self._run:  # else it was sought
                    consumer.seek(tp, self._position(tp.partition).next_offset)

    async def _begin_again(self, partition: int, run: object | None) -> None:
        """Fold the partition from its beginning: what the views have already changes nothing, and the rest is new."""
        if self._behind is not None:
            await self._behind
        before = self._position(partition)
        step = Advance(partition, before.next_offset, Position(NOTHING.next_offset, before.stream_time))
        back = Fold((), (), {}, (), (step,))
        await self._write(_Batch(None, run, (), self._forgotten, *self._rows(back)))
        if self._position(partition) == step.position:
            self._metrics.counter("lost_tails_total").inc()
            log.error("the session topic has lost its end", partition=partition, known_until=before.next_offset)

    async def _learn_what_became_of_it(self) -> None:
        """A commit whose answer never came may be in the database all the same; our clients were not told then."""
        positions = await self._store.positions()
        committed = {one: at for one, at in self._attempted.items() if positions.get(one) == at != self._position(one)}
        self._positions |= committed
        self._views.untold += bool(committed)
        self._attempted = {}

    async def _commit(self, batch: _Batch) -> None:
        began, began_s = time.monotonic(), time.time()
        async with self._stream.lock:
            if batch.run is None or batch.run is not self._run:
                return  # the consumer was sought to where the database stands, or will be: it comes again
            done, change = await self._transact(batch)
            for partition, progress in done.progress.items():
                self._views.feeds.heard(partition, progress, datetime.now(UTC), time.monotonic())
            if change is not None:
                self._stream.publish("change", change)
                self._views.told(change)
            elif done.last:
                self._stream.skip()
        self._metrics.histogram("commit_seconds").observe(time.monotonic() - began)
        for one in done.unreadable:
            self._metrics.counter("unreadable_total").inc()
            log.warning("unreadable session event", partition=one.partition, offset=one.offset, error=one.error)
        count(self._metrics, done.told)
        if self._tracing is not None:
            for record in batch.records:
                self._tracing.followed(
                    "project",
                    record.headers,
                    began_s,
                    time.time(),
                    messaging__system="kafka",
                    messaging__destination__name=record.topic,
                    messaging__destination__partition__id=str(record.partition),
                    messaging__kafka__offset=record.offset,
                )

    async def _transact(self, batch: _Batch) -> tuple[Fold, dict[str, Any] | None]:
        async with self._store.writing() as connection:
            with self._store.shortly(connection, len(batch.records)):
                generation = await self._store.generation_in(connection)
                if generation != self._generation:
                    self._forgotten = await self._store.forgotten_in(connection)
                    self._generation = generation
                done, rows, given = self._as_it_stands(batch)
                self._attempted = {step.partition: step.position for step in done.steps}
                await self._store.put(connection, given, done.steps)
            change = await self._change(connection, done, rows) if done.last and self._stream.is_heard else None
        self._positions |= self._attempted
        self._attempted = {}
        return done, change

    def _as_it_stands(self, batch: _Batch) -> tuple[Fold, Rows, Given]:
        """The batch folded from where we are, without whom was forgotten: mostly as it was folded already."""
        follows = all(step.expected == self._position(step.partition).next_offset for step in batch.fold.steps)
        if follows and batch.forgotten is self._forgotten:
            return batch.fold, batch.rows, batch.given
        return self._rows(fold(_from(self._positions, batch.records), self._positions, self._forgotten))

    async def _change(self, connection: AsyncConnection, batch: Fold, rows: Rows) -> dict[str, Any]:
        keys = [(row["pbx"], row["extension"]) for row in rows.agents]
        return await self._views.change(connection, [one.session for one in batch.last], keys)

    def _position(self, partition: int) -> Position:
        return self._positions.get(partition, NOTHING)


def _from(positions: Mapping[int, Position], records: Sequence[ConsumerRecord]) -> Sequence[ConsumerRecord]:
    """The records that lie at or after these positions."""
    next_offsets = {partition: at.next_offset for partition, at in positions.items()}
    return [record for record in records if record.offset >= next_offsets.get(record.partition, 0)]
