"""What the forwarder does with a record that the broker refuses, on the real broker."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import MessageSizeTooLargeError

from events.kafka import KafkaSettings, connection
from events.metrics import Metrics
from ingest import accepted
from ingest.accepted import Accepted
from ingest.forwarder import Forwarder
from ingest.journal import open_journal
from ingest.settings import IngestSettings
from tests.system import kafka_environment, producing, read_committed
from tests.waiting import eventually

MEGABYTE = 1024 * 1024


def webhook(number: int, length: int) -> bytes:
    return accepted.encode(Accepted(f"id-{number}", "default", "default", datetime.now(UTC), None, b"x" * length))


async def is_refused(kafka: KafkaSettings) -> bool:
    """A configuration reaches the log some time after it was accepted."""
    async with producing(kafka) as producer:
        try:
            await producer.send_and_wait(kafka.topic_set.webhooks, b"x" * 60_000, b"default")
        except MessageSizeTooLargeError:
            return True
    return False


async def test_a_record_that_the_broker_refuses_is_buried_and_the_others_pass_in_order(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    admin = AIOKafkaAdminClient(**connection(kafka))
    await admin.start()
    wanted = {"max.message.bytes": "20000"}
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, kafka.topic_set.webhooks, wanted)])
    await admin.close()
    await eventually(lambda: is_refused(kafka))
    given = {name.lower(): value for name, value in kafka_environment(kafka).items()}
    settings = IngestSettings(**given, data_dir=tmp_path)  # type: ignore[arg-type]
    journal, _ = open_journal(tmp_path / "journal", 64 * MEGABYTE, MEGABYTE)
    committing = asyncio.create_task(journal.run())
    await asyncio.gather(*(journal.append(webhook(number, 60_000 if number == 7 else 100)) for number in range(20)))
    forwarder = Forwarder(settings, journal, Metrics("ingest"), lambda: datetime.now(UTC))
    forwarding = asyncio.create_task(forwarder.run())
    try:
        await asyncio.wait_for(forwarder.drained(), 60)
    finally:
        for task in (forwarding, committing):
            task.cancel()
            await asyncio.wait({task})
        journal.close()

    async def buried() -> list[bytes]:
        found = await read_committed(settings, settings.topic_set.dead_letters)
        return [dict(record.headers)["ce_id"] for record in found]

    assert set(await eventually(buried)) == {b"id-7"}
    found = await read_committed(settings, settings.topic_set.webhooks)
    told = [dict(record.headers)["ce_id"].decode() for record in found if record.headers]
    ids = [identity for identity in dict.fromkeys(told) if identity.startswith("id-")]
    assert ids == [f"id-{number}" for number in range(20) if number != 7]
