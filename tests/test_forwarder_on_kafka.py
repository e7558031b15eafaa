"""What the forwarder does with a record that the broker refuses, or that is none, on the real broker."""

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import InvalidTimestampError, MessageSizeTooLargeError

from events.kafka import KafkaSettings, connection, ensure_topics
from events.metrics import Metrics
from events.settings import ConfigurationError
from ingest import accepted
from ingest.accepted import Accepted
from ingest.forwarder import BACKOFF_S_MIN, FRESH_BYTES_MAX, FRESH_MAX, Forwarder
from ingest.journal import Journal, open_journal
from ingest.settings import IngestSettings
from ingest.ticks import PERIOD
from tests.chaos.brokers import Cluster
from tests.chaos.proxy import Way
from tests.journals import appended
from tests.system import kafka_environment, producing, read_committed
from tests.waiting import eventually

MEGABYTE = 1024 * 1024


def webhook(number: int, length: int) -> bytes:
    return accepted.encode(Accepted(f"id-{number}", "default", "default", datetime.now(UTC), None, b"x" * length))


async def forwarded(kafka: KafkaSettings, folder: Path, payloads: list[bytes]) -> Forwarder:
    """Have the payloads forwarded from a journal of their own; the forwarder, after everything was acknowledged."""
    given = {name.lower(): value for name, value in kafka_environment(kafka).items()}
    settings = IngestSettings(**given, data_dir=folder)  # type: ignore[arg-type]
    journal, _ = open_journal(folder / "journal", 64 * MEGABYTE, MEGABYTE)
    committing = asyncio.create_task(journal.run())
    sequences = await asyncio.gather(*(appended(journal, payload) for payload in payloads))
    forwarder = Forwarder(settings, journal, Metrics("ingest"), lambda: datetime.now(UTC))
    for sequence, payload in list(zip(sequences, payloads, strict=True))[::2]:  # the others it has to decode
        if (one := accepted.decode(payload)) is not None:
            forwarder.knows(sequence, one)
    forwarding = asyncio.create_task(forwarder.run())
    try:
        await asyncio.wait_for(forwarder.drained(), 60)
        assert (forwarder._fresh, forwarder._fresh_bytes) == ({}, 0), "what Kafka has is not kept"
    finally:
        for task in (forwarding, committing):
            task.cancel()
            await asyncio.wait({task})
        journal.close()
    return forwarder


async def test_while_kafka_is_away_large_webhooks_are_not_all_kept_in_memory(tmp_path: Path) -> None:
    journal, _ = open_journal(tmp_path, 64 * MEGABYTE, MEGABYTE)
    forwarder = Forwarder(IngestSettings(data_dir=tmp_path), journal, Metrics("ingest"), lambda: datetime.now(UTC))
    for number in range(FRESH_MAX):
        one = Accepted(f"id-{number}", "default", "default", datetime.now(UTC), None, b"x" * 60_000)
        forwarder.knows(number, one)
    assert 0 < sum(len(one.body) for one in forwarder._fresh.values()) <= FRESH_BYTES_MAX
    journal.close()


async def webhook_ids(kafka: KafkaSettings) -> list[str]:
    """The ids of the forwarded webhooks, repeats left out, in order."""
    found = await read_committed(kafka, kafka.topic_set.webhooks)
    told = [dict(record.headers)["ce_id"].decode() for record in found if record.headers]
    return [identity for identity in dict.fromkeys(told) if identity.startswith("id-")]


async def is_refused(kafka: KafkaSettings, length: int) -> bool:
    """A configuration reaches the log some time after it was accepted."""
    async with producing(kafka) as producer:
        try:
            await producer.send_and_wait(kafka.topic_set.webhooks, b"x" * length, b"default")
        except MessageSizeTooLargeError:
            return True
    return False


async def refuses_old_records(kafka: KafkaSettings) -> bool:
    """Whether every partition does; each learns of a configuration by itself."""
    async with producing(kafka) as producer:
        for partition in range(kafka.kafka_topic_partitions):
            try:
                await producer.send_and_wait(kafka.topic_set.webhooks, b"old", partition=partition, timestamp_ms=1)
            except InvalidTimestampError:
                continue
            return False
    return True


async def configure(kafka: KafkaSettings, name: str, value: int) -> None:
    """Change a configuration of the webhooks' topic."""
    admin = AIOKafkaAdminClient(**connection(kafka))
    await admin.start()
    resource = ConfigResource(ConfigResourceType.TOPIC, kafka.topic_set.webhooks, {name: str(value)})
    await admin.alter_configs([resource])
    await admin.close()


async def limit(kafka: KafkaSettings, message_bytes_max: int) -> None:
    """Have the broker refuse what is longer, from now on."""
    await configure(kafka, "max.message.bytes", message_bytes_max)
    await eventually(lambda: is_refused(kafka, message_bytes_max + 1))


@pytest.fixture
async def distant(tmp_path: Path) -> AsyncIterator[KafkaSettings]:
    """A broker of its own, to which requests take some milliseconds: what arrives there is never of the same one."""
    cluster = Cluster([tmp_path / "broker"], {"ingest": Way(requests_take_s=0.005)}, {})
    try:
        await cluster.start()
        kafka = KafkaSettings(kafka_bootstrap_servers=cluster.bootstrap_servers_of("ingest"))
        await ensure_topics(kafka)
        yield kafka
    finally:
        cluster.kill()


async def test_what_kafka_refuses_at_once_and_again_is_tried_less_and_less_often(
    distant: KafkaSettings, tmp_path: Path
) -> None:
    """Each time the connection is well, and the very first record is not: here for its time."""
    settings = IngestSettings.model_validate(distant.model_dump() | {"data_dir": tmp_path})
    journal, _ = open_journal(tmp_path / "journal", 64 * MEGABYTE, MEGABYTE)
    await configure(distant, "message.timestamp.before.max.ms", 0)
    await eventually(partial(refuses_old_records, distant))  # a tick that is taken is a success
    with structlog.testing.capture_logs() as logs:
        async with forwarding(settings, journal) as (forwarder, _):
            await appended(journal, webhook(1, 10))
            refused = partial(failures, forwarder, "InvalidTimestampError")
            began_s = time.monotonic()
            await eventually(refused, lambda seen: seen > 0)
            await asyncio.sleep(4)
            at_most = 7 + (time.monotonic() - began_s - 3.1) / 2
            assert await refused() <= at_most, "after 0.1, 0.2, 0.4, 0.8, 1.6 s, and then every 2 s"
            assert [one["event"] for one in logs if one["log_level"] == "warning"] == ["Kafka is not taking records"]
            await configure(distant, "message.timestamp.before.max.ms", 2**62)
            await asyncio.wait_for(forwarder.drained(), 20)
            assert forwarder._backoff_s == BACKOFF_S_MIN, "what was sent was a success"
    assert await webhook_ids(settings) == ["id-1"]


async def test_of_several_ticks_that_fail_each_is_asked_what_became_of_it(kafka: KafkaSettings, tmp_path: Path) -> None:
    """Or asyncio logs each of the others, with a traceback, when it is thrown away."""
    settings = IngestSettings.model_validate(kafka.model_dump() | {"data_dir": tmp_path})
    journal, _ = open_journal(tmp_path / "journal", 64 * MEGABYTE, MEGABYTE)
    forwarder = Forwarder(settings, journal, Metrics("ingest"), lambda: datetime.now(UTC))
    forwarder._ticks.next_at -= PERIOD  # one is due in each partition
    told: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context["message"]))
    await configure(kafka, "max.message.bytes", 1)
    await eventually(lambda: is_refused(kafka, 1))
    async with producing(kafka) as producer:
        with pytest.raises(MessageSizeTooLargeError):
            await forwarder._tick(producer)
    gc.collect()
    assert told == []
    journal.close()


@contextlib.asynccontextmanager
async def forwarding(settings: IngestSettings, journal: Journal) -> AsyncIterator[tuple[Forwarder, asyncio.Task[None]]]:
    """A forwarder at work, and its task."""
    forwarder = Forwarder(settings, journal, Metrics("ingest"), lambda: datetime.now(UTC))
    running = [asyncio.create_task(work) for work in (forwarder.run(), journal.run())]
    try:
        yield forwarder, running[0]
    finally:
        for task in running:
            task.cancel()
            await asyncio.wait({task})
        journal.close()


async def failures(forwarder: Forwarder, reason: str) -> float:
    """How often forwarding had to start again for this reason."""
    return (
        forwarder._metrics.registry.get_sample_value("threecx_ingest_forward_failures_total", {"reason": reason}) or 0
    )


async def test_topics_that_kafka_cannot_make_yet_are_waited_for(
    bootstrap_servers: str, topic_prefix: str, tmp_path: Path
) -> None:
    """As at a first roll-out, while two brokers of three are up: here there is one, and three copies are wanted."""
    of_topics = {"kafka_bootstrap_servers": bootstrap_servers, "kafka_topic_prefix": topic_prefix}
    settings = IngestSettings.model_validate({**of_topics, "data_dir": tmp_path, "kafka_topic_replication": 3})
    journal, _ = open_journal(tmp_path / "journal", 64 * MEGABYTE, MEGABYTE)
    async with forwarding(settings, journal) as (forwarder, running):
        await appended(journal, webhook(1, 10))
        await eventually(partial(failures, forwarder, "InvalidReplicationFactorError"), lambda seen: seen > 1)
        await ensure_topics(KafkaSettings.model_validate(of_topics))
        await asyncio.wait_for(forwarder.drained(), 20)
        assert not running.done()
    assert await webhook_ids(settings) == ["id-1"]


async def test_another_number_of_partitions_ends_ingest_at_its_start_and_is_waited_for_later(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    given = kafka.model_dump() | {"data_dir": tmp_path, "kafka_topic_partitions": 3}
    journal, _ = open_journal(tmp_path / "first", MEGABYTE, MEGABYTE)
    async with forwarding(IngestSettings.model_validate(given), journal) as (_, running):
        with pytest.raises(ConfigurationError, match="KAFKA_TOPIC_PARTITIONS"):
            await asyncio.wait_for(running, 20)
    settings = IngestSettings.model_validate(given | {"kafka_topic_partitions": kafka.kafka_topic_partitions})
    journal, _ = open_journal(tmp_path / "second", MEGABYTE, MEGABYTE)
    async with forwarding(settings, journal) as (forwarder, running):
        await appended(journal, webhook(1, 10))
        await asyncio.wait_for(forwarder.drained(), 20)
        admin = AIOKafkaAdminClient(**connection(kafka))
        await admin.start()
        await admin.create_partitions({kafka.topic_set.dead_letters: NewPartitions(5)})
        await admin.close()
        await limit(kafka, 20_000)
        await appended(journal, webhook(2, 30_000))  # refused, so that it connects anew
        await eventually(partial(failures, forwarder, "ConfigurationError"), lambda seen: seen > 0)
        assert not running.done()
        assert await appended(journal, webhook(3, 10)) > 0


async def test_a_topic_that_was_made_anew_with_fewer_partitions_ends_no_ingest_that_has_reached_kafka(
    kafka: KafkaSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client asserts that a partition is there; here the topics have fewer from the look at them on."""
    given = kafka.model_dump() | {"data_dir": tmp_path, "kafka_topic_partitions": kafka.kafka_topic_partitions + 1}
    looked: list[KafkaSettings] = []

    async def look(settings: KafkaSettings) -> None:
        looked.append(settings)
        if len(looked) > 1:
            await ensure_topics(settings)

    monkeypatch.setattr("ingest.forwarder.ensure_topics", look)
    journal, _ = open_journal(tmp_path / "journal", MEGABYTE, MEGABYTE)
    async with forwarding(IngestSettings.model_validate(given), journal) as (forwarder, running):
        await eventually(partial(failures, forwarder, "AssertionError"), bool)
        await eventually(partial(failures, forwarder, "ConfigurationError"), bool)
        assert not running.done()
        assert await appended(journal, webhook(1, 10)) > 0


async def test_what_follows_on_a_refused_batch_does_not_pass_before_it(kafka: KafkaSettings, tmp_path: Path) -> None:
    """The processors would take what is sent again for repeats: its sequences are lower than those that passed."""
    await limit(kafka, 150_000)
    # Three batches of one partition. The first is refused, the second would pass; each record passes alone.
    lengths = (120_000, 120_000, 130_000, 140_000)
    await forwarded(kafka, tmp_path, [webhook(number, length) for number, length in enumerate(lengths)])
    assert await webhook_ids(kafka) == ["id-0", "id-1", "id-2", "id-3"]


async def test_a_record_that_the_broker_refuses_is_buried_and_the_others_pass_in_order(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    await limit(kafka, 20_000)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await forwarded(kafka, tmp_path / "good", [webhook(number, 100) for number in range(1_000, 1_800)])
    without_s = loop.time() - began
    await forwarded(kafka, tmp_path, [webhook(number, 60_000 if number == 500 else 100) for number in range(800)])
    assert loop.time() - began - 2 * without_s < 1, "one bad record delays the next by less than a second"

    async def buried() -> list[bytes]:
        found = await read_committed(kafka, kafka.topic_set.dead_letters)
        return [dict(record.headers)["ce_id"] for record in found]

    assert set(await eventually(buried)) == {b"id-500"}
    assert (await webhook_ids(kafka))[800:] == [f"id-{number}" for number in range(800) if number != 500]


async def test_records_that_cannot_be_decoded_are_buried_whole_and_counted_and_the_others_pass_in_order(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    newer = webhook(3, 10).replace(b'"key"', b'"kex"')
    nobody = b"\x00\x00\x00\x02{}"
    payloads = [b"\xff\xff\xff\xffno webhook", webhook(1, 10), newer, b"", nobody, webhook(2, 10)]
    forwarder = await forwarded(kafka, tmp_path, payloads)
    buried = await read_committed(kafka, kafka.topic_set.dead_letters)
    assert sorted(record.value for record in buried) == sorted([payloads[0], newer, b"", nobody])
    reasons = {dict(record.headers)["dead_letter_reason"] for record in buried}
    assert reasons == {accepted.UNDECODABLE.encode()}
    assert len({dict(record.headers)["ce_id"] for record in buried}) == 4
    assert (
        forwarder._metrics.registry.get_sample_value("threecx_ingest_dead_letters_total", {"reason": "undecodable"})
        == 4
    )
    assert await webhook_ids(kafka) == ["id-1", "id-2"]
