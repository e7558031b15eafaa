"""Running the services for real, and looking at the topics: subprocesses, records in, records out."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Self

import httpx
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from deploy.local.broker import die_with_parent, free_port
from events.kafka import KafkaSettings, committed_reader, forwarder_producer
from events.pbx import DEFAULT_PBX
from processors.task import InputRecord
from tests.waiting import eventually

STOP_TIMEOUT_S = 20


class Service:
    """One service as a child process; its output goes to a file beside its data."""

    def __init__(
        self,
        module: str,
        environment: Mapping[str, str],
        log: Path,
        *arguments: str,
        wrapper: Sequence[str] = (),
        folder: Path | None = None,
    ) -> None:
        """Start ``python -m module`` with `environment` on top of ours; by `wrapper`, a command that becomes it.

        `folder`: whose code; null: of this tree.
        """
        self.module = module
        self.log = log
        self._process = subprocess.Popen(
            [*wrapper, sys.executable, "-m", module, *arguments],
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log.open("ab"),
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one prctl call
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status; null while it runs."""
        return self._process.poll()

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """SIGTERM, and the exit status; a process that has ended already just tells it."""
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            return self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            message = f"{self.module} did not stop: {self.log.read_text('utf-8', 'replace')[-2000:]}"
            raise AssertionError(message) from None


def noon_zone(now: datetime) -> str:
    """A zone where it is noon: what began some minutes, or hours, ago began today there, whatever the hour is here."""
    return f"Etc/GMT{now.astimezone(UTC).hour - 12:+}"  # the sign is POSIX's: west of Greenwich is plus


def kafka_environment(settings: KafkaSettings) -> dict[str, str]:
    """The variables that point a service at the test's topics."""
    return {
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "KAFKA_TOPIC_PREFIX": settings.kafka_topic_prefix,
        "KAFKA_TOPIC_PARTITIONS": str(settings.kafka_topic_partitions),
    }


@asynccontextmanager
async def producing(settings: KafkaSettings) -> AsyncIterator[AIOKafkaProducer]:
    """A producer like ingest's."""
    producer = AIOKafkaProducer(**forwarder_producer(settings))
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def append(settings: KafkaSettings, records: Iterable[InputRecord], topic: str | None = None) -> None:
    """Write the records to their partitions, in order, acknowledged."""
    async with producing(settings) as producer:
        sent = [
            await producer.send(
                topic or settings.topic_set.webhooks,
                record.value,
                record.key,
                partition=record.partition,
                headers=list(record.headers),
            )
            for record in records
        ]
        await asyncio.gather(*sent)


async def read_committed(settings: KafkaSettings, topic: str, timeout_s: float = 10.0) -> list[ConsumerRecord]:
    """Every committed record of the topic, as of now, in order of (partition, offset).

    A commit is answered before its markers are in the partitions: what is still open is waited for.
    """
    consumer = AIOKafkaConsumer(**committed_reader(settings), group_id=None)
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(settings.kafka_topic_partitions)]
        consumer.assign(partitions)
        ends = await _ends_with_what_is_open(settings, partitions)
        await consumer.seek_to_beginning(*partitions)
        found: list[ConsumerRecord] = []
        async with asyncio.timeout(timeout_s):
            while any([await consumer.position(one) < ends[one] for one in partitions]):
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    found.extend(records)
        return sorted(found, key=lambda record: (record.partition, record.offset))
    finally:
        await consumer.stop()


async def _ends_with_what_is_open(
    settings: KafkaSettings, partitions: list[TopicPartition]
) -> dict[TopicPartition, int]:
    consumer = AIOKafkaConsumer(**(committed_reader(settings) | {"isolation_level": "read_uncommitted"}), group_id=None)
    await consumer.start()
    try:
        return dict(await consumer.end_offsets(partitions))
    finally:
        await consumer.stop()


async def committed_offsets(settings: KafkaSettings, group: str, topic: str) -> Sequence[int]:
    """The group's committed offset of each partition; 0 where it has none."""
    consumer = AIOKafkaConsumer(**committed_reader(settings), group_id=group)
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(settings.kafka_topic_partitions)]
        consumer.assign(partitions)
        return [await consumer.committed(one) or 0 for one in partitions]
    finally:
        await consumer.stop()


class System:
    """Ingest, processors and projections on free ports and a test's own topics and data."""

    def __init__(self, settings: KafkaSettings, data_dir: Path, **environment: str) -> None:
        """Nothing is started yet; `environment` is added to every service's."""
        self.ports = {"ingest": free_port(), "processors": free_port(), "projections": free_port()}
        self.data_dir = data_dir
        self.environment = {
            **kafka_environment(settings),
            "DATA_DIR": str(data_dir),
            "PROCESSORS_APPLICATION": f"processors-{settings.kafka_topic_prefix}",
            "PROCESSORS_SESSION_TIMEOUT_S": "3",
            "PROJECTIONS_APPLICATION": f"projections-{settings.kafka_topic_prefix}",
            "PROJECTIONS_SESSION_TIMEOUT_S": "3",
            **{f"{name.upper()}_PORT": str(port) for name, port in self.ports.items()},
            **environment,
        }
        self.services: dict[str, Service] = {}

    async def __aenter__(self) -> Self:
        """All three services, ready."""
        self.start()
        try:
            await self.ready()
        except BaseException:
            self.kill()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """End all, whatever state they are in."""
        self.kill()

    @property
    def door(self) -> str:
        """URL of ingest."""
        return f"http://127.0.0.1:{self.ports['ingest']}"

    @property
    def board(self) -> str:
        """URL of the projections."""
        return f"http://127.0.0.1:{self.ports['projections']}"

    def start(self, *names: str) -> None:
        """Start these services (none named: all three)."""
        for name in names or self.ports:
            self.services[name] = Service(name, self.environment, self.data_dir / f"{name}.log")

    async def ready(self, *, with_feed: bool = True) -> None:
        """Wait until every started service answers, and the feed is live."""
        paths = {"ingest": "/webhook/3cx/health", "processors": "/health", "projections": "/health"}
        async with httpx.AsyncClient() as client:
            for name in self.services:

                async def status(url: str = f"http://127.0.0.1:{self.ports[name]}{paths[name]}") -> str:
                    try:
                        return str((await client.get(url)).json()["status"])
                    except httpx.TransportError:
                        return "not there"

                await eventually(status, lambda seen: seen == "ok", 40)
            if with_feed and "projections" in self.services:
                await eventually(partial(self._feed, client), lambda seen: seen == "live", 40)

    async def _feed(self, client: httpx.AsyncClient) -> str:
        feeds = (await client.get(f"{self.board}/health")).json()["feeds"]
        return str(feeds[0]["status"])

    def stop(self) -> dict[str, int]:
        """Stop all in the order of the flow; the exit statuses."""
        return {name: service.stop() for name, service in self.services.items()}

    def kill(self) -> None:
        """End all, whatever state they are in."""
        for service in self.services.values():
            service.kill()


async def post(client: httpx.AsyncClient, system: System, body: Mapping[str, Any], pbx: str = DEFAULT_PBX) -> str:
    """Post a webhook to that PBX; the id under which it was accepted."""
    answer = await client.post(f"{system.door}/webhook/3cx/{pbx}/call-event", json=body)
    assert answer.status_code == httpx.codes.ACCEPTED, answer.text
    assert answer.json()["status"] == "accepted"
    return str(answer.json()["id"])


async def calls_of(client: httpx.AsyncClient, system: System, **wanted: str) -> list[dict[str, Any]]:
    """Every call that the filters find, page after page."""
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        params = {"limit": "1000"} | wanted | ({"cursor": cursor} if cursor else {})
        page = (await client.get(f"{system.board}/api/v1/calls", params=params)).json()
        found += page["calls"]
        cursor = page["next_cursor"]
        if cursor is None:
            return found
