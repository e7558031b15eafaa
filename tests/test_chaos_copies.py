"""Fault runs with retention: what is judged are copies, which have what the brokers deleted since."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from events.kafka import KafkaSettings, connection, ensure_topics
from tests.builders import Log, start
from tests.chaos.copies import Copies, DeletedError, kept_for
from tests.chaos.reference import Raw
from tests.system import append, read_committed

LOG = Log(1)
for number in range(6):
    LOG.webhook(number, start(str(200 + number), t=number))


@asynccontextmanager
async def copying(copies: Copies) -> AsyncIterator["asyncio.Task[None]"]:
    task = asyncio.create_task(copies.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})


async def delete_before(kafka: KafkaSettings, offset: int) -> None:
    admin = AIOKafkaAdminClient(**connection(kafka))
    await admin.start()
    await admin.delete_records({TopicPartition(kafka.topic_set.webhooks, 1): RecordsToDelete(before_offset=offset)})
    await admin.close()


async def test_the_copies_have_what_was_deleted_since(kafka: KafkaSettings) -> None:
    await ensure_topics(kafka, kept_for(3600))
    name = kafka.topic_set.webhooks

    def ends(count: int) -> Sequence[int]:
        return [count if number == 1 else 0 for number in range(kafka.kafka_topic_partitions)]

    def told(records: Sequence[Raw]) -> list[bytes | None]:
        return [one.value for one in records]

    first, rest = LOG.records[:5], LOG.records[5:]
    copies = Copies(kafka, [name, kafka.topic_set.call_sessions])
    async with copying(copies):
        await append(kafka, first)
        await copies.all_of(name, ends(len(first)))
        await delete_before(kafka, len(first) - 1)
        await append(kafka, rest)
        found = await copies.all_of(name, ends(len(LOG.records)))
    assert len(await read_committed(kafka, name)) < len(LOG.records)
    assert told(found) == [one.value for one in LOG.records]
    assert [one.offset for one in found] == list(range(len(LOG.records)))


async def test_what_was_deleted_before_it_was_copied_is_no_clean_run(kafka: KafkaSettings) -> None:
    await append(kafka, LOG.records)
    await delete_before(kafka, 2)
    async with copying(Copies(kafka, [kafka.topic_set.webhooks])) as task:
        with pytest.raises(DeletedError):
            await asyncio.wait_for(asyncio.shield(task), 20)
