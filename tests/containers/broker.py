"""``python -m tests.containers.broker``: the broker from the image, by testcontainers: start, use, stop, find again.

Needs a running container engine that has apache/kafka (or the stand-in of tests/containers/stand-ins).
"""

import asyncio
import tempfile
from pathlib import Path

from deploy.local.container_broker import ContainerBroker
from events.kafka import KafkaSettings, ensure_topics
from processors.task import InputRecord
from tests.system import append, read_committed


async def _write(settings: KafkaSettings) -> None:
    await ensure_topics(settings)
    await append(settings, [InputRecord(0, 0, b"default", b"kept", ())])


async def _read(settings: KafkaSettings) -> list[bytes | None]:
    return [record.value for record in await read_committed(settings, settings.topic_set.webhooks)]


def main() -> None:
    """Fails loudly when a record written before the stop is not there after the next start."""
    with tempfile.TemporaryDirectory(prefix="callstream-container-") as folder:
        for turn in ("first", "second"):
            broker = ContainerBroker(Path(folder))
            broker.start()
            settings = KafkaSettings(kafka_bootstrap_servers=broker.bootstrap_servers, kafka_topic_partitions=2)
            if turn == "first":
                asyncio.run(_write(settings))
            found = asyncio.run(_read(settings))
            broker.stop()
            if found != [b"kept"]:
                raise RuntimeError(f"{turn} start: {found}")
        print("apache/kafka started by testcontainers, wrote, stopped, started again, and had its data")


if __name__ == "__main__":
    main()
