"""A broker that is there and names none, itself neither: the controller has not heard from it."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import CoordinatorNotAvailableError, KafkaConnectionError, KafkaError

from deploy.local.broker import Broker
from events.away import RETRY_S
from events.kafka import committed_reader, ensure_topics, stop_consumer
from events.metrics import Metrics
from events.pbx import DEFAULT_PBX, Pbx
from processors.runner import Runner
from processors.settings import ProcessorsSettings
from processors.transaction import Transactions
from tests.waiting import eventually


class Unheard(Broker):
    """Of every six seconds the controller does not count on it for five, as after a freeze."""

    def _addresses(self, controller_port: int) -> dict[str, str]:
        return {
            **super()._addresses(controller_port),
            "broker.session.timeout.ms": "1000",
            "broker.heartbeat.interval.ms": "6000",
        }


@pytest.fixture
def unheard(tmp_path: Path) -> Iterator[Broker]:
    broker = Unheard(tmp_path)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


async def test_processors_whose_broker_goes_away_before_they_join_their_group_wait_for_it(
    tmp_path: Path, topic_prefix: str
) -> None:
    """`make chaos`: killed after the topics were found there, and processors-2 ended with a KafkaConnectionError."""
    broker = Broker(tmp_path)
    broker.start()
    try:
        settings = ProcessorsSettings(
            kafka_bootstrap_servers=broker.bootstrap_servers, kafka_topic_prefix=topic_prefix, kafka_topic_partitions=1
        )
        await ensure_topics(settings)
        broker.kill()
        runner = Runner(settings, {DEFAULT_PBX: Pbx()}, Metrics("processors"))
        running = asyncio.create_task(runner.run())
        await asyncio.wait({running}, timeout=2 * RETRY_S)
        assert not running.done()
        broker.start()
        await eventually(lambda: asyncio.sleep(0, runner.health()["status"]), "ok".__eq__, 60)
        running.cancel()
        await asyncio.wait({running})
    finally:
        broker.stop()


async def test_whoever_starts_while_no_broker_is_known_waits_until_one_is(unheard: Broker, topic_prefix: str) -> None:
    settings = ProcessorsSettings(
        kafka_bootstrap_servers=unheard.bootstrap_servers, kafka_topic_prefix=topic_prefix, kafka_topic_partitions=1
    )

    async def topics_are_made() -> bool:
        with suppress(KafkaError, OSError):
            await ensure_topics(settings)
            return True
        return False

    async def client_that_knows_none() -> AIOKafkaClient | None:
        client = AIOKafkaClient(bootstrap_servers=unheard.bootstrap_servers)
        await client.bootstrap()
        if client.get_random_node() is None:
            return client
        await client.close()
        return None

    async def transactions() -> None:
        mine = Transactions(settings, 0)
        try:
            await mine.start()
        finally:
            await mine.discard()

    async def group() -> None:
        consumer = AIOKafkaConsumer(settings.topic_set.webhooks, **committed_reader(settings), group_id="a group")
        try:
            await consumer.start()
            await eventually(lambda: asyncio.sleep(0, bool(consumer.assignment())))
        finally:
            await stop_consumer(consumer)

    async def found_without_the_first_connection(client: AIOKafkaClient) -> bool:
        with suppress(CoordinatorNotAvailableError, KafkaConnectionError):
            return bool(await client.coordinator_lookup(CoordinationType.GROUP, "a group") == 1)
        await client.force_metadata_update()
        return False

    await eventually(topics_are_made)
    client = await eventually(client_that_knows_none)
    assert client is not None
    try:
        await client._conns["bootstrap", ConnectionGroup.DEFAULT].close()
        await asyncio.gather(transactions(), group(), eventually(partial(found_without_the_first_connection, client)))
    finally:
        await client.close()
