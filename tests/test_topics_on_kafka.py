"""The topics that the services make, on three real brokers: how many copies must have what is acknowledged."""

from functools import partial
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from events.kafka import KafkaSettings, connection, ensure_topics
from events.topics import ALL, TopicSet
from tests.chaos.brokers import Cluster
from tests.waiting import eventually


async def in_sync_min(settings: KafkaSettings) -> list[str]:
    """What the topics of the set say, or their broker; of one that the broker asked has not heard of yet, nothing."""
    admin = AIOKafkaAdminClient(**connection(settings))
    await admin.start()
    try:
        names = [TopicSet(settings.kafka_topic_prefix).name(topic) for topic in ALL]
        told = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])
    finally:
        await admin.close()
    entries = [entry for answer in told for resource in answer.resources for entry in resource[4]]
    return [entry[1] for entry in entries if entry[0] == "min.insync.replicas"]


async def test_with_three_copies_two_have_what_is_acknowledged_whatever_the_brokers_default(tmp_path: Path) -> None:
    cluster = Cluster([tmp_path / str(number) for number in range(3)], {}, {"min.insync.replicas": "1"})
    try:
        await cluster.start()
        for copies, least in {1: "1", 2: "1", 3: "2"}.items():
            settings = KafkaSettings(
                kafka_bootstrap_servers=cluster.bootstrap_servers,
                kafka_topic_prefix=f"copies-{copies}",
                kafka_topic_replication=copies,
                kafka_topic_partitions=2,
            )
            await ensure_topics(settings)
            said = await eventually(partial(in_sync_min, settings), lambda said: len(said) == len(ALL))
            assert set(said) == {least}, copies
    finally:
        cluster.kill()
