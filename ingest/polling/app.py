"""The poller's composition root: the watched file, the group that shares the PBXs, one poller for each of ours."""

import asyncio
import contextlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.partitioner import DefaultPartitioner
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from events import topics
from events.away import Reminder
from events.kafka import committed_reader, ensure_topics, patience, stop_consumer
from events.kafka_client import count_silences
from events.metrics import Metrics
from events.serving import exposition, listen, serving
from ingest.polling.config import Config
from ingest.polling.poller import KAFKA_FAULTS, FencedError, Poller
from ingest.polling.settings import PollSettings

LOOK_S: Final = 1.0
RETRY_S: Final = 2.0
CONNECTIONS_MAX: Final = 64
GRACE_S: Final = 2.0

log = structlog.get_logger()


def now() -> datetime:
    """The wall clock: when a PBX's answer was there."""
    return datetime.now(UTC)


async def main(settings: PollSettings) -> None:
    """Run until cancelled; raises ConfigurationError for what no retry can help."""
    config = Config(settings)
    metrics = Metrics("poller")
    count_silences(metrics.counter("kafka_silences_total").inc)
    pollers = Pollers(config, metrics)
    listener = listen(settings.polling_host, settings.polling_port, "POLLING_PORT")
    if not config.polling.enabled:
        log.warning("polling is off; it is switched on in POLLING_CONFIG or by POLLING_ENABLED")
    reminder = Reminder()
    async with serving(_http(config, pollers, metrics), listener, GRACE_S, CONNECTIONS_MAX):
        while True:
            try:
                await ensure_topics(settings, (topics.POLLED_CALLS,))
                await pollers.run()
            except KAFKA_FAULTS as error:
                if reminder.is_due():
                    log.warning("waiting for Kafka", error=type(error).__name__)
                await asyncio.sleep(RETRY_S)


class Pollers(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types
    """Those that run: one for each configured PBX whose partition the group gave us, while polling is enabled."""

    def __init__(self, config: Config, metrics: Metrics) -> None:
        """Nothing runs yet."""
        self._config = config
        self._metrics = metrics
        self._leased: set[int] = set()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._as_configured: object = None

    @property
    def polled(self) -> list[str]:
        """The PBXs that are polled by us now."""
        return sorted(pbx for pbx, task in self._running.items() if not task.done())

    async def run(self) -> None:
        """Until cancelled, or until the group fails with an exception of Kafka's."""
        settings = self._config.settings
        consumer = AIOKafkaConsumer(
            **committed_reader(settings) | patience(settings.polling_session_timeout_s),
            group_id=settings.polling_application,
            partition_assignment_strategy=(RoundRobinPartitionAssignor,),
        )
        topic = settings.topic_set.polled_calls
        await consumer.start()
        try:
            consumer.subscribe([topic], listener=self)
            while True:
                # Nothing is read: the group is the lease. Asking keeps the membership.
                consumer.pause(*consumer.assignment())
                await consumer.getmany(timeout_ms=int(LOOK_S * 1000))
                self._config.look()
                await self._adjust()
        finally:
            self._leased.clear()
            await self._stop(list(self._running))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GRACE_S):
                    await stop_consumer(consumer)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """The lease of these partitions' PBXs is ours."""
        self._leased = {one.partition for one in assigned}

    async def on_partitions_revoked(self, _revoked: Iterable[TopicPartition]) -> None:
        """It is ours no more: stop before anybody else begins."""
        self._leased.clear()
        await self._stop(list(self._running))

    async def _adjust(self) -> None:
        """Start and stop pollers until they are what configuration and leases ask for."""
        config = self._config
        if self._as_configured is not config.polling:
            await self._stop(list(self._running))  # another address, secret or interval: begin anew
            self._as_configured = config.polling
        wanted = {
            pbx: partition
            for pbx in (config.pbxs if config.polling.enabled else ())
            if (partition := self._partition_of(pbx)) in self._leased
        }
        await self._stop([pbx for pbx in self._running if pbx not in wanted])
        for pbx, task in list(self._running.items()):
            if task.done():
                del self._running[pbx]
                self._told(pbx, task)
        for pbx, partition in wanted.items():
            if pbx not in self._running:
                poller = Poller(config, pbx, partition, self._metrics, now)
                self._running[pbx] = asyncio.create_task(poller.run())
        self._metrics.gauge("enabled").set(config.polling.enabled)
        self._metrics.gauge("pbxs_polled").set(len(self.polled))

    def _partition_of(self, pbx: str) -> int:
        everyone = list(range(self._config.settings.kafka_topic_partitions))
        found: int = DefaultPartitioner()(pbx.encode(), everyone, everyone)
        return found

    def _told(self, pbx: str, task: "asyncio.Task[None]") -> None:
        """Why a poller ended by itself; what is not one of the known faults ends the process."""
        try:
            task.result()
        except FencedError:
            log.warning("another poller has this PBX; asking again only while the group gives it to us", pbx=pbx)
        except KAFKA_FAULTS as error:
            self._metrics.counter("writes_failed_total", pbx).inc()
            log.warning("an observation could not be written; starting anew", pbx=pbx, error=type(error).__name__)

    async def _stop(self, pbxs: list[str]) -> None:
        stopped = [self._running.pop(pbx) for pbx in pbxs]
        for task in stopped:
            task.cancel()
        if stopped:
            await asyncio.wait(stopped)


def _http(config: Config, pollers: Pollers, metrics: Metrics) -> Starlette:
    async def health(_request: Request) -> Response:
        return JSONResponse({"status": "ok", "enabled": config.polling.enabled, "pbxs": pollers.polled})

    async def told(_request: Request) -> Response:
        return exposition(metrics)

    return Starlette(routes=[Route("/health", health), Route("/metrics", told)])
