"""What a poller that is a witness says beside the webhooks: which calls the PBX lists, for the processors to judge.

Into the webhooks' partition of the PBX, so that pairing has one log in one order (`processors/witness.py`). By a
producer without transactions: a poller that dies in the middle of one would hold up every webhook behind it. The fence
is that of ``threecx.polled-calls``, which is written first; a list that is late all the same shows by its `asked_at`.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from aiokafka import AIOKafkaProducer

from events import envelope
from events.envelope import Envelope, Type
from events.kafka import discard, forwarder_producer
from ingest.polling.settings import PollSettings
from ingest.settings import Key

WRITE_TIMEOUT_S: Final = 8.0
JSON_TYPE: Final = "application/json"


class Witness:
    """Of one PBX. `partition`: the PBX's; where records are keyed by agent, all of them are its."""

    def __init__(self, settings: PollSettings, pbx: str, partition: int) -> None:
        """Nothing is connected before the first `tell`."""
        self._settings = settings
        self._pbx = pbx
        everywhere = settings.ingest_key is Key.AGENT
        self._partitions: Sequence[int] = range(settings.kafka_topic_partitions) if everywhere else (partition,)
        self._producer: AIOKafkaProducer | None = None
        self._told_at: datetime | None = None

    def is_due(self, now: datetime) -> bool:
        """Whether the last list is long enough ago; a clock that was set back makes it so, too."""
        last, interval_s = self._told_at, self._settings.polling_witness_interval_s
        return last is None or not 0 <= (now - last).total_seconds() < interval_s

    async def tell(self, kind: Type, value: bytes, at: datetime) -> None:
        """Write `value`, an answer of that time; raises Kafka's exceptions and TimeoutError."""
        async with asyncio.timeout(WRITE_TIMEOUT_S):
            if self._producer is None:
                self._producer = AIOKafkaProducer(**forwarder_producer(self._settings))
                await self._producer.start()
            for partition in self._partitions:
                text = f"{self._pbx}/{partition}/{at.isoformat()}".encode() + value
                identity = hashlib.blake2b(text, digest_size=16, person=b"witness").hexdigest()
                headers = envelope.encode(Envelope(identity, self._pbx, kind, at, JSON_TYPE))
                topic = self._settings.topic_set.webhooks
                await self._producer.send_and_wait(
                    topic, value, self._pbx.encode(), partition=partition, headers=headers
                )
        if kind is Type.CALLS_LISTED:
            self._told_at = at

    async def close(self) -> None:
        """Let go of the producer."""
        if self._producer is not None:
            await discard(self._producer)
