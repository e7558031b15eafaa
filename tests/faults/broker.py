"""A broker of one's own behind the proxy."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from deploy.local.broker import HOST, Broker, free_port
from events.kafka import KafkaSettings, ensure_topics
from tests.faults.proxy import Link, Proxy


@dataclass
class Neighbour:
    """`settings` lead through the proxy, for ingest and for whoever reads."""

    broker: Broker
    proxy: Proxy
    settings: KafkaSettings


@contextlib.asynccontextmanager
async def neighbour(folder: Path, partitions: int = 4) -> AsyncIterator[Neighbour]:
    """A broker and its proxy for the length of the block, the topics made, the link open."""
    port = free_port()
    broker = Broker(folder, advertised_port=port)
    broker.start()
    try:
        proxy = Proxy(port, int(broker.bootstrap_servers.rsplit(":", 1)[1]))
        settings = KafkaSettings(
            kafka_bootstrap_servers=f"{HOST}:{port}", kafka_topic_prefix="faults", kafka_topic_partitions=partitions
        )
        async with proxy.standing(Link.OPEN):
            await ensure_topics(settings)
            yield Neighbour(broker, proxy, settings)
    finally:
        broker.stop()
