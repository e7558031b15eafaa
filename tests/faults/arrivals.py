"""What is in ``threecx.webhooks`` at the end: which webhooks, as they were sent, and in which order per instance."""

import asyncio
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from events import envelope
from events.envelope import Type
from events.kafka import KafkaSettings, committed_reader
from tests.faults.load import number_in

READ_TIMEOUT_S = 300


@dataclass
class Arrivals:
    """Ids of the webhooks to their numbers; what came again; and what was out of order in its first coming."""

    numbers: dict[str, int] = field(default_factory=dict)
    repeats: int = 0
    disordered: list[str] = field(default_factory=list)
    instances: set[str] = field(default_factory=set)
    _highest: dict[tuple[int, str], int] = field(default_factory=dict)

    def take(self, record: ConsumerRecord) -> None:
        """Note a record."""
        said = envelope.decode(record.headers)
        if said.type is not Type.WEBHOOK_RECEIVED:
            return
        if said.id in self.numbers:
            self.repeats += 1
            return
        self.numbers[said.id] = number_in(record.value)
        instance, sequence = said.ingest or "", said.ingest_sequence or 0
        self.instances.add(instance)
        highest = self._highest.get((record.partition, instance), -1)
        if sequence <= highest:
            self.disordered.append(f"{instance}/{sequence} after {highest}")
        self._highest[record.partition, instance] = max(sequence, highest)

    def lost(self, accepted: dict[str, int]) -> list[int]:
        """Numbers of what was answered 2xx and is not here, or is another webhook."""
        return sorted(number for identity, number in accepted.items() if self.numbers.get(identity) != number)


async def arrived(settings: KafkaSettings) -> Arrivals:
    """Read the topic from its beginning to its end as of now."""
    found = Arrivals()
    consumer = AIOKafkaConsumer(**committed_reader(settings), group_id=None)
    await consumer.start()
    try:
        topic = settings.topic_set.webhooks
        partitions = [TopicPartition(topic, number) for number in range(settings.kafka_topic_partitions)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        await consumer.seek_to_beginning(*partitions)
        async with asyncio.timeout(READ_TIMEOUT_S):
            while any([await consumer.position(one) < ends[one] for one in partitions]):
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    for record in records:
                        found.take(record)
    finally:
        await consumer.stop()
    return found
