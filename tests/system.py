"""Running the services for real, and looking at the topics: subprocesses, records in, records out."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from deploy.local.broker import die_with_parent
from events.kafka import KafkaSettings, committed_reader, forwarder_producer
from processors.task import InputRecord

STOP_TIMEOUT_S = 20


class Service:
    """One service as a child process; its output goes to a file beside its data."""

    def __init__(self, module: str, environment: Mapping[str, str], log: Path) -> None:
        """Start ``python -m module`` with `environment` on top of ours."""
        self.module = module
        self.log = log
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log.open("ab"),
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one prctl call
        )

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
    """Every committed record of the topic, as of now, in order of (partition, offset)."""
    consumer = AIOKafkaConsumer(**committed_reader(settings), group_id=None)
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(settings.kafka_topic_partitions)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        await consumer.seek_to_beginning(*partitions)
        found: list[ConsumerRecord] = []
        async with asyncio.timeout(timeout_s):
            while any([await consumer.position(one) < ends[one] for one in partitions]):
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    found.extend(records)
        return sorted(found, key=lambda record: (record.partition, record.offset))
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
