"""The stream into a topic: real transactions, committed and aborted, in order."""

import asyncio
from typing import Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from conformance.stream import Stream, Transaction, partition_of
from events.kafka import KafkaSettings, committed_reader, connection, stop_consumer, transactional_producer
from events.settings import ConfigurationError

POLL_S: Final = 0.05
SETTLED_TIMEOUT_S: Final = 30.0


async def produce(settings: KafkaSettings, topic: str, stream: Stream, partitions: int) -> int:
    """Write the stream into the topic, created when missing; how many partitions it has.

    Raises ConfigurationError when there is something in it already: what comes out could not be judged.
    """
    admin = AIOKafkaAdminClient(**connection(settings))
    await admin.start()
    try:
        found = (await admin.describe_topics([topic]))[0]
        if found["error_code"]:
            await admin.create_topics([NewTopic(topic, partitions, settings.kafka_topic_replication)])
        else:
            partitions = len(found["partitions"])
    finally:
        await admin.close()
    if any(await _ends(settings, topic, partitions, "read_uncommitted")):
        raise ConfigurationError(f"topic {topic} is not empty; give a new one: what comes out could not be judged")
    producer = AIOKafkaProducer(**transactional_producer(settings, f"conformance-{topic}"))
    await producer.start()
    try:
        for one in stream.transactions:
            await _write(producer, topic, partitions, one)
    finally:
        await producer.stop()
    await _settled(settings, topic, partitions)
    return partitions


async def delete(settings: KafkaSettings, topic: str) -> None:
    """Delete the topic."""
    admin = AIOKafkaAdminClient(**connection(settings))
    await admin.start()
    try:
        await admin.delete_topics([topic])
    finally:
        await admin.close()


async def _write(producer: AIOKafkaProducer, topic: str, partitions: int, one: Transaction) -> None:
    await producer.begin_transaction()
    sent = [
        await producer.send(
            topic,
            record.value,
            record.key,
            partition=partition_of(record.pbx, partitions),
            headers=list(record.headers),
        )
        for record in one.records
    ]
    await asyncio.gather(*sent)  # an aborted record is in the log, too, or nothing would be tested
    if one.committed:
        await producer.commit_transaction()
    else:
        await producer.abort_transaction()


async def _settled(settings: KafkaSettings, topic: str, partitions: int) -> None:
    """Wait until the last transaction's markers are written: a commit is answered before that."""
    whole = await _ends(settings, topic, partitions, "read_uncommitted")
    async with asyncio.timeout(SETTLED_TIMEOUT_S):
        while await _ends(settings, topic, partitions, "read_committed") != whole:
            await asyncio.sleep(POLL_S)
            whole = await _ends(settings, topic, partitions, "read_uncommitted")


async def _ends(settings: KafkaSettings, topic: str, partitions: int, isolation: str) -> list[int]:
    consumer = AIOKafkaConsumer(**(committed_reader(settings) | {"isolation_level": isolation}), group_id=None)
    await consumer.start()
    try:
        ends = await consumer.end_offsets([TopicPartition(topic, number) for number in range(partitions)])
        return [int(ends[one]) for one in sorted(ends)]
    finally:
        await stop_consumer(consumer)
