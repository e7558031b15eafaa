"""Single webhooks from the log, wherever they lie, and what happens when they cannot be had."""

import time

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from deploy.local.broker import free_port
from events.kafka import KafkaSettings, connection
from projections.raw import READ_TIMEOUT_S, RawWebhooks, UnreachableError
from projections.records import Place
from tests.builders import Log, start
from tests.system import append


async def test_each_place_gives_its_record_and_what_is_gone_gives_none(kafka: KafkaSettings) -> None:
    logs = [Log(partition, instance=f"i{partition}") for partition in (0, 2)]
    for log in logs:
        for number in range(50):
            log.webhook(number, start(str(number)))
    await append(kafka, [record for log in logs for record in log.records])
    reader = RawWebhooks(kafka)
    wanted = [(0, 0), (2, 49), (0, 31), (2, 7)]
    found = await reader.read([Place(*place, "any") for place in [*wanted, (0, 10_000), (3, 0)]])
    values = {log.partition: [record.value for record in log.records] for log in logs}
    assert [None if one is None else one.value for one in found] == [
        *(values[partition][offset] for partition, offset in wanted), None, None,
    ]  # fmt: skip
    admin = AIOKafkaAdminClient(**connection(kafka))
    await admin.start()
    await admin.delete_records({TopicPartition(kafka.topic_set.webhooks, 0): RecordsToDelete(before_offset=10)})
    await admin.close()
    gone, kept = await reader.read([Place(0, 9, "any"), Place(0, 10, "any")])
    assert gone is None
    assert kept is not None
    assert kept.value == values[0][10]


async def test_without_kafka_it_says_so_within_its_time() -> None:
    reader = RawWebhooks(KafkaSettings(kafka_bootstrap_servers=f"127.0.0.1:{free_port()}"))
    began = time.monotonic()
    with pytest.raises(UnreachableError):
        await reader.read([Place(0, 0, "any")])
    assert time.monotonic() - began < 2 * READ_TIMEOUT_S
