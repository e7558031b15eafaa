"""What is cancelled when nobody asked for it: aiokafka's consumers at their end, and a service that awaits such."""

import subprocess
import sys

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from deploy.local.brokers import AnyBroker
from events.kafka import KafkaSettings, committed_reader, ensure_topics, stop_consumer
from tests.waiting import eventually

CANCELLED = """
import asyncio
from events.commands import run_command
from events.serving import run
from processors.settings import ProcessorsSettings

async def main(_settings):
    never = asyncio.get_running_loop().create_future()
    never.cancel()
    await never

"""


async def test_a_consumer_whose_fetch_waits_for_a_killed_broker_stops_and_cancels_nobody(
    own_broker: AnyBroker, topic_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    kafka = KafkaSettings(
        kafka_bootstrap_servers=own_broker.bootstrap_servers, kafka_topic_prefix=topic_prefix, kafka_topic_partitions=1
    )
    await ensure_topics(kafka)
    consumer = AIOKafkaConsumer(**committed_reader(kafka), group_id=None)
    await consumer.start()
    partition = TopicPartition(kafka.topic_set.webhooks, 0)
    consumer.assign([partition])
    await consumer.position(partition)  # a partition just made may have no leader at first: that is tried again soon
    consumer._fetcher._retry_backoff = 60.0

    own_broker.kill()

    async def waits_to_try_again() -> bool:
        return "Failed fetch messages" in caplog.text

    await eventually(waits_to_try_again)
    await stop_consumer(consumer)
    assert not consumer._client._conns


def test_a_service_that_ends_though_nobody_asked_for_it_says_so_by_its_exit_status() -> None:
    ended = _run(CANCELLED + 'run("processors", ProcessorsSettings, main)')
    assert ended.returncode == 1, ended.stderr
    assert "ended though nobody asked for it" in ended.stderr


def test_a_command_that_is_cancelled_from_within_says_where() -> None:
    ended = _run(CANCELLED + 'run_command("processors", "replay", ProcessorsSettings, main)')
    assert ended.returncode == 1, ended.stderr
    assert "error=CancelledError" in ended.stderr
    assert "main:10" in ended.stderr


def _run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
