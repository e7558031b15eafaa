"""A commit that is delayed on its way while its sender sends it again: what it then ends, and why nothing of ours."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from events.kafka import KafkaSettings, discard, ensure_topics, transactional_producer
from processors.settings import ProcessorsSettings
from processors.transaction import TransactionFailed, Transactions
from tests.chaos.brokers import Cluster
from tests.chaos.proxy import Way
from tests.system import read_committed
from tests.test_kafka_facts import batch_of, transactions
from tests.waiting import eventually

WAY = "processors"


@dataclass
class Delayed:
    """A broker, and the way of the processors to it, on which their next commit is held until `Way.release`."""

    settings: ProcessorsSettings
    way: Way
    past: KafkaSettings

    async def held(self) -> None:
        """The commit is on its way; its sender's connection breaks."""

        async def touched() -> int:
            return self.way.commits_touched

        await eventually(touched, bool)
        self.way.leave()

    async def arrived(self) -> None:
        """It was held long enough."""

        async def delivered() -> int:
            return self.way.commits_delivered

        self.way.release()
        await eventually(delivered, bool)

    async def seen(self) -> list[bytes | None]:
        return [one.value for one in await read_committed(self.past, self.past.topic_set.call_sessions)]


@pytest.fixture
async def delayed(tmp_path: Path) -> AsyncIterator[Delayed]:
    way = Way(commits_held_s=60.0, commits_to_hold=1)
    cluster = Cluster([tmp_path], {WAY: way}, {})
    try:
        await cluster.start()
        past = KafkaSettings(kafka_bootstrap_servers=cluster.bootstrap_servers, kafka_topic_partitions=1)
        await ensure_topics(past)
        behind = ProcessorsSettings(kafka_bootstrap_servers=cluster.bootstrap_servers_of(WAY), kafka_topic_partitions=1)
        yield Delayed(behind, way, past)
    finally:
        cluster.kill()


async def test_a_commit_that_was_sent_twice_ends_the_next_transaction_of_its_epoch(delayed: Delayed) -> None:
    """KAFKA-17754: the window that the old transaction protocol leaves open, and aiokafka by itself with it."""
    topic = delayed.past.topic_set.call_sessions
    producer = AIOKafkaProducer(**transactional_producer(delayed.settings, "facts"))
    await producer.start()
    try:
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"first")
        committing = asyncio.create_task(producer.commit_transaction())
        await delayed.held()
        await committing
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"never committed")
        await delayed.arrived()
        await eventually(delayed.seen, [b"first", b"never committed"].__eq__)
    finally:
        await discard(producer)


async def test_processors_whose_commit_may_have_been_sent_twice_begin_with_another_epoch(delayed: Delayed) -> None:
    async with transactions(delayed.settings) as mine:
        committing = asyncio.create_task(mine.commit(batch_of(b"first")))
        await delayed.held()
        with pytest.raises(TransactionFailed, match="a connection broke"):
            await committing
    async with transactions(delayed.settings) as successor:
        await _begin(successor, b"never committed")
        await delayed.arrived()
        await successor._end(is_commit=False)
        await successor.commit(batch_of(b"second"))
        assert await delayed.seen() == [b"first", b"second"]


async def _begin(mine: Transactions, value: bytes) -> None:
    """A transaction of which a record is delivered, and that is not ended yet."""
    await mine._producer.begin_transaction()
    topic = mine._settings.topic_set.call_sessions
    await asyncio.gather(*await mine._send(topic, [(b"key", value, ())]))
