"""One PBX, polled: ask, judge, write what is evidence to ``threecx.polled-calls``, tell the processors; and then again.

Never two pollers for one PBX: 1. the group's owner of the PBX's partition is who polls it; 2. a poller begins with a
transactional producer of the PBX's own id, which fences whoever polled it before, so that a process that was frozen
can write nothing any more; 3. each record is a transaction. An answer that is no evidence writes nothing.
"""

import asyncio
import hashlib
from collections.abc import Callable
from datetime import datetime
from random import Random

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, ProducerFenced

from events import envelope
from events.active_calls import calls_of, listing_value
from events.envelope import Envelope, Type
from events.kafka import discard, transactional_producer
from events.metrics import Metrics
from ingest.polling.answers import Outcome
from ingest.polling.config import Config
from ingest.polling.history import History
from ingest.polling.witness import JSON_TYPE, WRITE_TIMEOUT_S, Witness
from ingest.polling.xapi import Xapi

JITTER = 0.1
"""Of the interval, either way: PBXs of one site are not asked in step."""

log = structlog.get_logger()


class FencedError(Exception):
    """Another poller has this PBX now."""


class Poller:
    """Polls `pbx` until cancelled or fenced."""

    def __init__(
        self, config: Config, pbx: str, partition: int, metrics: Metrics, clock: Callable[[], datetime]
    ) -> None:
        """Nothing is asked yet."""
        self._config = config
        self._pbx = pbx
        self._partition = partition
        self._metrics = metrics
        self._clock = clock
        self._random = Random()  # noqa: S311 - jitter
        self._failures = 0

    async def run(self) -> None:
        """Poll; raises FencedError when another poller took over."""
        settings = self._config.settings
        access = self._config.pbxs[self._pbx]
        xapi = Xapi(access, settings.polling_timeout_s, settings.polling_answer_bytes_max)
        identity = f"{settings.polling_application}-{settings.topic_set.polled_calls}-{self._pbx}"
        producer = AIOKafkaProducer(**transactional_producer(settings, identity))
        history = History(settings, self._pbx, self._metrics, self._clock)
        witness = Witness(settings, self._pbx, self._partition)
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S * 2):
                await producer.start()
            log.info("polling", pbx=self._pbx, interval_s=self._config.interval_s)
            while True:
                began_s = asyncio.get_running_loop().time()
                outcome = await self._poll(xapi, producer, witness)
                self._note(outcome, xapi)
                if self._config.history and outcome is Outcome.GOOD and history.is_due(self._clock()):
                    await history.ask(xapi, witness)
                took_s = asyncio.get_running_loop().time() - began_s
                await asyncio.sleep(max(0.0, self._pause_s() - took_s))
        finally:
            self._metrics.gauge("active_calls", self._pbx).set(0)
            await xapi.close()
            await witness.close()
            await discard(producer)

    async def _poll(self, xapi: Xapi, producer: AIOKafkaProducer, witness: Witness) -> Outcome:
        asked_at = self._clock()
        outcome, body = await xapi.active_calls()
        if outcome is not Outcome.GOOD:
            return outcome
        at, calls = self._clock(), calls_of(body) or []
        self._metrics.gauge("active_calls", self._pbx).set(len(calls))
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await self._write(producer, body, at)
        except ProducerFenced:
            raise FencedError(self._pbx) from None
        if self._config.witness and witness.is_due(at):
            await witness.tell(Type.CALLS_LISTED, listing_value(asked_at, calls), at)
            self._metrics.counter("lists_told_total", self._pbx).inc()
        return outcome

    async def _write(self, producer: AIOKafkaProducer, body: bytes, at: datetime) -> None:
        identity = hashlib.blake2b(f"{self._pbx}/{at.isoformat()}".encode() + body, digest_size=16, person=b"poll")
        said = Envelope(identity.hexdigest(), self._pbx, Type.CALLS_POLLED, at, JSON_TYPE)
        topic = self._config.settings.topic_set.polled_calls
        async with producer.transaction():
            await producer.send_and_wait(
                topic, body, self._pbx.encode(), partition=self._partition, headers=envelope.encode(said)
            )

    def _note(self, outcome: Outcome, xapi: Xapi) -> None:
        self._metrics.counter("polls_total", self._pbx, outcome).inc()
        self._metrics.gauge("token_renewals", self._pbx).set(xapi.renewals)
        if outcome is Outcome.GOOD:
            if self._failures:
                log.info("the PBX answers again", pbx=self._pbx, after_failures=self._failures)
            self._failures = 0
            self._metrics.gauge("last_good_timestamp_seconds", self._pbx).set(self._clock().timestamp())
            return
        self._failures += 1
        if self._failures == 1:
            log.warning("the PBX gave no usable answer; no call is taken to have ended", pbx=self._pbx, outcome=outcome)

    def _pause_s(self) -> float:
        """The interval with its jitter; after failures twice as long each time, up to the limit."""
        interval_s = self._config.interval_s
        if self._failures > 1:
            limit_s = max(interval_s, self._config.settings.polling_backoff_s_max)
            interval_s = min(limit_s, interval_s * 2.0 ** min(self._failures - 1, 20))
        return interval_s * self._random.uniform(1 - JITTER, 1 + JITTER)


KAFKA_FAULTS = (KafkaError, OSError, TimeoutError)
"""What ends a poller that is begun anew."""
