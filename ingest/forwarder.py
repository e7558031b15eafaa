"""From the journal to Kafka: in order of acceptance, at least once, and ticks in between.

1. read the next durable records; 2. hand them to an idempotent producer in order, of each partition a batch; 3. await
every acknowledgement, within a deadline of ours, because aiokafka has none, and go on with 2 as long as there are
batches; 4. tell the journal; 5. write the ticks that are due. After any failure the producer is thrown away and the
first unacknowledged record is sent again: a repeat has the same sequence. Nothing passes what was refused before it, or
the processors would take what is sent again for repeats.

After a failure fewer records are sent at once, then more again: a link so slow that a full window does not pass in time
still gets on. A record that Kafka refuses for its size is found by shorter and shorter batches, without a
pause, and goes to the dead letters.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Final, Protocol

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordTooLargeError

from events import dead_letters, envelope
from events.away import Reminder
from events.envelope import Envelope, Type
from events.kafka import FORWARDED_BATCH_BYTES_MAX, discard, ensure_topics, forwarder_producer
from events.metrics import Metrics
from events.pbx import DEFAULT_PBX
from events.settings import ConfigurationError
from events.tracing import Tracing
from ingest import accepted
from ingest.batches import Batches, Sent
from ingest.settings import IngestSettings
from ingest.ticks import BEHIND_MAX, PERIOD, Ticks

RECORDS_MAX: Final = 1_000
GATHER_RECORD_S: Final = 0.000_2
GATHER_S_MAX: Final = 0.05
"""After all there was has been sent the next ones gather, so long for each record of it and no longer than this: a
sending costs as much for one record as for a hundred. At a few hundred webhooks a second that is next to nothing."""
BURIED_BYTES_MAX: Final = 65_536
"""Of a body that is longer than Kafka takes so much is kept, or less where even that is refused."""
FRESH_MAX: Final = 4_096
FRESH_BYTES_MAX: Final = 8 * 1024 * 1024
"""So many records, with bodies of so many bytes, are known without decoding them; the others are decoded."""
REFUSED_S: Final = 0.02
BACKOFF_S_MIN: Final = 0.1
BACKOFF_S_MAX: Final = 2.0

Clock = Callable[[], datetime]
_DEAD_LETTER_REASONS: Final = {None: "size", accepted.UNDECODABLE: "undecodable"}

log = structlog.get_logger()


class Source(Protocol):
    """Where records come from, in ascending order of their sequences: the journal."""

    @property
    def instance(self) -> str:
        """Whose sequences they are."""

    @property
    def acknowledged(self) -> int:
        """Kafka has everything up to it."""

    @property
    def depth(self) -> int:
        """Records that Kafka has not acknowledged."""

    @property
    def arrived(self) -> asyncio.Event:
        """Set when there is more to read."""

    @property
    def emptied(self) -> asyncio.Event:
        """Set while Kafka has acknowledged everything."""

    def oldest_waiting(self) -> bytes | None:
        """The first payload that is not durable yet."""

    async def read(self, after: int, records_max: int) -> list[tuple[int, bytes]]:
        """Durable records after the sequence `after`."""

    def acknowledge(self, sequence: int) -> None:
        """Kafka has everything up to `sequence`."""


class Forwarder:
    """The one that empties the journal. `reachable`: the last exchange with Kafka succeeded."""

    def __init__(
        self,
        settings: IngestSettings,
        journal: Source,
        metrics: Metrics,
        clock: Clock,
        tick_partitions: int | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        """Nothing is connected before `run`; `tick_partitions` (null: all) get ticks."""
        self.reachable = False
        self._settings = settings
        self._journal = journal
        self._metrics = metrics
        self._clock = clock
        self._tracing = tracing
        self._traced: list[str] = []
        self._ticks = Ticks(settings.kafka_topic_partitions if tick_partitions is None else tick_partitions, clock())
        self._tick_number = 0
        self._webhooks, self._dead_letters = settings.topic_set.webhooks, settings.topic_set.dead_letters
        self._window = RECORDS_MAX
        self._batch_bytes = FORWARDED_BATCH_BYTES_MAX
        self._too_large: dict[int, int] = {}
        self._fresh: dict[int, accepted.Accepted] = {}
        self._fresh_bytes = 0
        self._reminder = Reminder()
        self._backoff_s = BACKOFF_S_MIN

    async def run(self) -> None:
        """Forward until cancelled; a broker that is away is tried again for ever.

        Raises ConfigurationError for topics with another number of partitions, but only until Kafka was there once:
        who starts a service looks at it; later it goes on to accept, and what it cannot forward waits in the journal.
        """
        was_there = False
        while True:
            producer = AIOKafkaProducer(**forwarder_producer(self._settings))
            try:
                async with asyncio.timeout(self._settings.ingest_forward_timeout_s * 2):
                    await ensure_topics(self._settings)
                    await producer.start()
                was_there = True
                await self._forward(producer)
            except (MessageSizeTooLargeError, RecordTooLargeError):
                # Nobody is away, and the producer is of no use after a refusal: on with another one.
                self._metrics.counter("forward_failures_total", "too large").inc()
                self._backoff_s = REFUSED_S
            except (ConfigurationError, KafkaError, OSError, TimeoutError, AssertionError) as error:
                # aiokafka asserts that a partition is there: not when somebody made the topic anew, with fewer of them.
                if isinstance(error, ConfigurationError) and not was_there:
                    raise
                self._window = max(1, self._window // 8)
                if self._reminder.is_due():
                    why = {"why": str(error)} if isinstance(error, ConfigurationError) else {}
                    told = {"error": type(error).__name__, **why, "waiting": self._journal.depth}
                    log.warning("Kafka is not taking records", **told)
                self._metrics.counter("forward_failures_total", type(error).__name__).inc()
                self._reached(reachable=False)
            finally:
                await discard(producer)
            await asyncio.sleep(self._backoff_s)
            self._backoff_s = min(max(self._backoff_s * 2, BACKOFF_S_MIN), BACKOFF_S_MAX)

    def knows(self, sequence: int, one: accepted.Accepted) -> None:
        """A record that has just become durable: it need not be decoded again."""
        if len(self._fresh) < FRESH_MAX and self._fresh_bytes + len(one.body) <= FRESH_BYTES_MAX:
            self._fresh[sequence] = one
            self._fresh_bytes += len(one.body)

    def _forget(self, records: list[tuple[int, bytes]]) -> None:
        for sequence, _ in records:
            if (known := self._fresh.pop(sequence, None)) is not None:
                self._fresh_bytes -= len(known.body)

    async def drained(self) -> None:
        """Return once Kafka has acknowledged everything that was durable."""
        await self._journal.emptied.wait()

    def _reached(self, *, reachable: bool) -> None:
        self.reachable = reachable
        self._metrics.gauge("kafka_reachable").set(reachable)

    def _took(self) -> None:
        """Kafka took something, so what failed is over; that it can be reached says nothing of that."""
        self._backoff_s = BACKOFF_S_MIN
        self._reminder.reset()
        self._reached(reachable=True)

    async def _forward(self, producer: AIOKafkaProducer) -> None:
        self._reached(reachable=True)
        while True:
            self._journal.arrived.clear()
            window = self._window
            records = await self._journal.read(self._journal.acknowledged, window)
            if records:
                await self._send(producer, records)
                self._window = min(RECORDS_MAX, window * 2)
            await self._tick(producer)
            if records and len(records) < window:
                await asyncio.sleep(min(GATHER_S_MAX, len(records) * GATHER_RECORD_S))
            elif not records:
                with contextlib.suppress(TimeoutError):
                    until_tick_s = (self._ticks.next_at - self._clock()).total_seconds()
                    pause_s = min(max(until_tick_s, 0.001), PERIOD.total_seconds())
                    await asyncio.wait_for(self._journal.arrived.wait(), pause_s)

    async def _send(self, producer: AIOKafkaProducer, records: list[tuple[int, bytes]]) -> None:
        """Steps 2 to 4 for records in order; a record that Kafka will never take goes to the dead letters."""
        batches = Batches(producer, self._settings.kafka_topic_partitions, self._batch_bytes)
        undecodable: list[int] = []
        buried: Counter[str] = Counter()
        began_s = self._clock().timestamp()
        self._traced = []
        async with asyncio.timeout(self._settings.ingest_forward_timeout_s):
            for sequence, payload in records:
                one = self._fresh.get(sequence) or accepted.decode(payload)
                if one is None:
                    undecodable.append(sequence)
                    one = accepted.undecodable(payload, self._journal.instance, sequence, self._clock())
                reason = self._add(batches, one, sequence)
                if reason is not None:
                    buried[reason] += 1
            while handed_over := await batches.hand_over():
                await self._delivered(handed_over)
        self._journal.acknowledge(records[-1][0])
        self._forget(records)
        self._too_large.clear()
        self._took()
        if self._tracing is not None:
            for ce_id in self._traced:
                self._tracing.took("forward", ce_id, began_s, self._clock().timestamp(), messaging__system="kafka")
        for sequence in undecodable:
            log.error("a record of the journal cannot be decoded; it is in the dead letters", sequence=sequence)
        for sent in batches.sent:
            self._metrics.counter("forwarded_total", sent.topic).inc(len(sent.sequences))
        for reason, count in buried.items():
            self._metrics.counter("dead_letters_total", reason).inc(count)

    def _add(self, batches: Batches, one: accepted.Accepted, sequence: int) -> str | None:
        """Steps 1 and 2 for one record; why it is a dead letter, if it is one."""
        key = one.key.encode()
        headers = accepted.headers(one, self._journal.instance, sequence)
        if self._tracing is not None:
            headers += self._tracing.header(one.id, "forward")
            self._traced.append(one.id)
        kept_bytes = self._too_large.get(sequence)
        if kept_bytes is not None:
            reason = f"longer than Kafka takes ({len(one.body)} bytes); cut"
            headers = dead_letters.headers(headers, reason, dead_letters.FROM_INGEST)
            batches.add(self._dead_letters, key, one.body[:kept_bytes], headers, sequence)
            return _DEAD_LETTER_REASONS.get(one.refused, "body")
        topic = self._webhooks if one.refused is None else self._dead_letters
        batches.add(topic, key, one.body, headers, sequence)
        return None if one.refused is None else _DEAD_LETTER_REASONS.get(one.refused, "body")

    async def _delivered(self, sent: list[Sent]) -> None:
        """Step 3. A refusal shows at once, and the next try is told what to do about it.

        A batch was too long: shorter ones from now on, until the record that is too long itself goes alone and is
        refused; then it is buried.
        """
        waiting = {one.delivery: one for one in sent}
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_EXCEPTION)
        for delivery in done:
            error = delivery.exception()
            if isinstance(error, MessageSizeTooLargeError | RecordTooLargeError):
                self._refused(waiting[delivery].sequences)
                raise error
        for delivery in done:
            delivery.result()

    def _refused(self, sequences: list[int]) -> None:
        if len(sequences) == 1:
            before = self._too_large.get(sequences[0], BURIED_BYTES_MAX * 4)
            self._too_large[sequences[0]] = before // 4
            self._batch_bytes = FORWARDED_BATCH_BYTES_MAX
        else:
            self._batch_bytes = max(1, self._batch_bytes // 16)

    async def oldest_waiting(self) -> datetime | None:
        """When the first webhook was received that Kafka has not acknowledged; null when nothing waits.

        Of records that cannot be decoded nobody knows it: behind many of them it is taken for just too long ago for
        a tick.
        """
        unread = await self._journal.read(self._journal.acknowledged, 1) if self._journal.depth else []
        payload = unread[0][1] if unread else self._journal.oldest_waiting()
        if payload is None:
            return None
        if (first := accepted.decode(payload)) is not None:
            return first.received_at
        for _, following in await self._journal.read(self._journal.acknowledged, RECORDS_MAX):
            if (one := accepted.decode(following)) is not None:
                return one.received_at
        return self._clock() - BEHIND_MAX * 2

    async def _tick(self, producer: AIOKafkaProducer) -> None:
        """Step 5; the time is just before whatever was accepted and is not acknowledged yet."""
        oldest = await self.oldest_waiting()
        due = self._ticks.due(self._clock(), oldest)
        if not due:
            return
        async with asyncio.timeout(self._settings.ingest_forward_timeout_s):
            await asyncio.gather(*[await self._send_tick(producer, partition, at) for partition, at in due])
        self._metrics.counter("ticks_total").inc(len(due))
        self._metrics.gauge("last_tick_timestamp_seconds").set(due[-1][1].timestamp())
        self._took()

    async def _send_tick(self, producer: AIOKafkaProducer, partition: int, at: datetime) -> "asyncio.Future[object]":
        self._tick_number += 1
        text = f"{self._journal.instance}/tick/{partition}/{at.isoformat()}/{self._tick_number}"
        identity = accepted.id_of(text, self._tick_number)
        said = Envelope(identity, DEFAULT_PBX, Type.CLOCK_TICK, at, None, self._journal.instance)
        sent: asyncio.Future[object] = await producer.send(
            self._settings.topic_set.webhooks, b"", None, partition=partition, headers=envelope.encode(said)
        )
        return sent
