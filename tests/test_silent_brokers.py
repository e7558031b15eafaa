"""A broker whose answers do not come, behind a proxy that understands Kafka: readers connect anew, and lose nothing."""

import asyncio
import operator
import re
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from types import CoroutineType

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.client import ConnectionGroup
from aiokafka.errors import NotCoordinatorForGroupError, UnknownMemberIdError, for_code
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest
from structlog.testing import capture_logs

from events.kafka import KafkaSettings, committed_reader, discard, ensure_topics, forwarder_producer, stop_consumer
from events.kafka_client import SILENCE_S, count_silences
from tests.chaos.brokers import Cluster
from tests.chaos.proxy import Way
from tests.system import System
from tests.waiting import eventually

WAY = "reader"


class Behind:
    """A broker, the way of its readers to it, and a producer past the way."""

    def __init__(self, cluster: Cluster, way: Way) -> None:
        self.way = way
        self._cluster = cluster

    @property
    def settings(self) -> KafkaSettings:
        return KafkaSettings(kafka_bootstrap_servers=self._cluster.bootstrap_servers_of(WAY), kafka_topic_partitions=1)

    @property
    def topic(self) -> str:
        return self.settings.topic_set.webhooks

    async def write(self, *values: bytes) -> None:
        past = KafkaSettings(kafka_bootstrap_servers=self._cluster.bootstrap_servers)
        async with AIOKafkaProducer(**forwarder_producer(past)) as producer:
            for value in values:
                await producer.send_and_wait(self.topic, value)


@pytest.fixture
async def behind(tmp_path: Path) -> AsyncIterator[Behind]:
    way = Way()
    cluster = Cluster([tmp_path], {WAY: way}, {})
    try:
        await cluster.start()
        found = Behind(cluster, way)
        await ensure_topics(found.settings)
        yield found
    finally:
        cluster.kill()


async def test_a_reader_whose_connections_hang_for_good_connects_anew_and_reads_on(behind: Behind) -> None:
    reader = AIOKafkaConsumer(behind.topic, **committed_reader(behind.settings), group_id="readers")
    await reader.start()
    try:
        await behind.write(b"before")
        assert (await reader.getone()).value == b"before"
        behind.way.forget()
        await behind.write(b"after")
        async with asyncio.timeout(2 * SILENCE_S):  # aiokafka by itself: after the request's timeout, 20 s
            assert (await reader.getone()).value == b"after"
        async with asyncio.timeout(2 * SILENCE_S):  # the group's own connection hangs as well
            await reader.commit()
    finally:
        await stop_consumer(reader)


async def test_an_answer_that_comes_slowly_is_waited_for_longer_than_a_request_may_take(behind: Behind) -> None:
    impatient = committed_reader(behind.settings) | {"request_timeout_ms": int(1.2 * SILENCE_S * 1000)}
    reader = AIOKafkaConsumer(behind.topic, **impatient, group_id=None)
    await reader.start()
    try:
        whole = b"x" * 600_000
        behind.way.bytes_per_s = len(whole) / (2 * SILENCE_S)
        with capture_logs() as logs:
            await behind.write(whole)
            async with asyncio.timeout(6 * SILENCE_S):
                assert (await reader.getone()).value == whole
        assert logs == []
    finally:
        behind.way.heal()
        await stop_consumer(reader)


async def test_metadata_that_do_not_come_are_asked_for_once_more_on_another_connection(behind: Behind) -> None:
    counted: list[None] = []
    count_silences(partial(counted.append, None))
    reader = AIOKafkaConsumer(**committed_reader(behind.settings), group_id=None)  # of nothing: nobody else connects
    await reader.start()
    try:
        assert await reader._client.force_metadata_update()
        behind.way.forget()
        assert not await reader._client.force_metadata_update()
        assert counted == [None]
        assert await reader._client.force_metadata_update()
        assert counted == [None]
    finally:
        await stop_consumer(reader)


async def test_a_producer_that_is_let_go_of_in_the_midst_of_a_request_leaves_no_task(behind: Behind) -> None:
    """The request waits for metadata then, and the sender for the request."""
    producer = AIOKafkaProducer(**forwarder_producer(behind.settings))
    await producer.start()
    await producer.send_and_wait(behind.topic, b"before")
    behind.way.stalled = True
    await producer.send(behind.topic, b"held")

    async def sending() -> bool:
        return bool(producer._sender._in_flight)

    async def left() -> list[str]:
        running = [one.get_coro() for one in asyncio.all_tasks()]
        ours = [one for one in running if isinstance(one, CoroutineType)]
        return [one.__qualname__ for one in ours if "aiokafka" in one.cr_code.co_filename]

    await eventually(sending)
    assert await left()
    await discard(producer)
    assert await eventually(left, operator.not_, 5) == []


async def test_a_coordinator_that_has_the_group_no_more_is_not_taken_to_know_of_no_offset(behind: Behind) -> None:
    """Nor is one that loads it. Here the offsets' topic is not even made: the broker is nobody's coordinator."""
    reader = AIOKafkaConsumer(**committed_reader(behind.settings), group_id="readers")
    await reader.start()
    try:
        at = TopicPartition(behind.topic, 0)
        reader.assign([at])
        reader._coordinator.coordinator_id = 1
        assert await reader._client.ready(1, group=ConnectionGroup.COORDINATION)
        with pytest.raises(NotCoordinatorForGroupError):
            await reader._coordinator._do_fetch_commit_offsets([at])
        assert reader._coordinator.coordinator_id is None, "it is looked for anew"
        assert await reader.committed(at) is None, "and knows of none"
    finally:
        await stop_consumer(reader)


async def test_who_waits_for_a_group_is_not_taken_for_unanswered(behind: Behind) -> None:
    """Of two members one is gone without a word: the other's join is answered when its session is over."""
    options = committed_reader(behind.settings)
    gone = AIOKafkaConsumer(behind.topic, **options, group_id="readers")
    await gone.start()
    gone._coordinator._heartbeat_task.cancel()
    gone._coordinator._coordination_task.cancel()
    reader = AIOKafkaConsumer(behind.topic, **options, group_id="readers")
    starting = asyncio.create_task(reader.start())

    async def joins() -> bool:
        connections = [
            one for (_, group), one in reader._client._conns.items() if group == ConnectionGroup.COORDINATION
        ]
        asked = [request.API_KEY for connection in connections for _, request, _ in connection._requests]
        return JoinGroupRequest.API_KEY in asked

    try:
        await eventually(joins)
        beat = asyncio.create_task(reader._coordinator._send_req(HeartbeatRequest("readers", 1, "nobody")))
        async with asyncio.timeout(options["session_timeout_ms"] / 1000 + SILENCE_S):
            assert for_code((await beat).error_code) is UnknownMemberIdError  # behind the join, and answered after it
            await starting
            await behind.write(b"after")
            assert (await reader.getone()).value == b"after"
    finally:
        await stop_consumer(reader)
        await gone._client.close()


async def test_services_count_the_silences_and_the_setting_says_how_long_one_is(behind: Behind, tmp_path: Path) -> None:
    async with System(behind.settings, tmp_path, KAFKA_SILENCE_S="1.5") as system, httpx.AsyncClient() as client:

        async def silences(name: str) -> float:
            text = (await client.get(f"http://127.0.0.1:{system.ports[name]}/metrics")).text
            return float(re.findall(rf"^threecx_{name}_kafka_silences_total (.+)$", text, re.MULTILINE)[0])

        readers = ("processors", "projections")
        before = {name: await silences(name) for name in readers}
        behind.way.forget()
        for name in readers:
            await eventually(partial(silences, name), partial(operator.lt, before[name]))
            assert "silent_s=1.5" in (tmp_path / f"{name}.log").read_text("utf-8")
        await system.ready()
