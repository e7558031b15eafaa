"""A broker that leaves a transaction's markers out (KAFKA-20734): whoever comes next ends it as it was decided.

Or one that commits a transaction in one topic and aborts it in another: what was aborted is written again.

The markers are left out here by not telling the coordinator of a partition: the broker is told not to ask it.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from events.kafka import KafkaSettings, connection, ensure_topics
from events.pbx import DEFAULT_PBX, Pbx
from processors.markers import end_offsets, undecided
from processors.rules import Rules
from processors.settings import ProcessorsSettings
from processors.takeover import taken_over
from processors.task import InputRecord, Task
from processors.transaction import TransactionFailed, Transactions
from tests.builders import Log, end, start
from tests.system import committed_offsets, kafka_environment, read_committed
from tests.waiting import eventually

VERIFICATION = "transaction.partition.verification.enable"
TOPICS = ("changelog", "call_sessions", "dead_letters", "offsets")
CASES = [
    (frozenset(left_out), is_commit)
    for count in range(1, len(TOPICS) + 1)
    for left_out in itertools.combinations(TOPICS, count)
    for is_commit in (True, False)
]
"""One partition each."""
TORN = [left_out for left_out, is_commit in CASES if is_commit and len(left_out) < len(TOPICS)]


@pytest.fixture
async def settings(bootstrap_servers: str, topic_prefix: str) -> AsyncIterator[ProcessorsSettings]:
    """A set of topics with a partition for each case, on a broker that does not ask the coordinator."""
    kafka = KafkaSettings(
        kafka_bootstrap_servers=bootstrap_servers, kafka_topic_prefix=topic_prefix, kafka_topic_partitions=len(CASES)
    )
    await ensure_topics(kafka)
    await verify_transactions(kafka, is_wanted=False)
    given = {name.lower(): value for name, value in kafka_environment(kafka).items()}
    yield ProcessorsSettings(**given, processors_application=f"hanging-{topic_prefix}")  # type: ignore[arg-type]
    await verify_transactions(kafka, is_wanted=True)


async def verify_transactions(kafka: KafkaSettings, *, is_wanted: bool) -> None:
    admin = AIOKafkaAdminClient(**connection(kafka))
    await admin.start()
    named = {VERIFICATION: str(is_wanted).lower()}
    nodes = [str(one["node_id"]) for one in (await admin.describe_cluster())["brokers"]]
    await admin.alter_configs([ConfigResource(ConfigResourceType.BROKER, node, named) for node in nodes])

    async def values() -> set[str]:
        asked = [ConfigResource(ConfigResourceType.BROKER, node, {VERIFICATION: None}) for node in nodes]
        answers = await admin.describe_configs(asked)
        return {entry[1] for answer in answers for resource in answer.resources for entry in resource[4]}

    await eventually(values, lambda found: found == {named[VERIFICATION]})
    await admin.close()


def webhooks(partition: int) -> Sequence[InputRecord]:
    log = Log(partition)
    for number in range(9):
        agent = str(200 + number)
        log.webhook(number * 3, start(agent, t=number * 3))
        log.webhook(number * 3 + 1, b"not a body")
        log.webhook(number * 3 + 2, end(agent, t=number * 3 + 2, duration=2))
    return log.records


def new_task(settings: ProcessorsSettings, partition: int) -> Task:
    return Task(partition, Rules(), {DEFAULT_PBX: Pbx()}, settings.topic_set.webhooks)


def leave_out(
    transactions: Transactions, settings: ProcessorsSettings, topics: frozenset[str], *, is_commit: bool
) -> None:
    """From now on the coordinator hears nothing of these topics, so that it writes no marker there."""
    producer: Any = transactions._producer
    manager = producer._txn_manager
    add, group = manager.maybe_add_partition_to_txn, manager.consumer_group_to_add
    names = {getattr(settings.topic_set, name) for name in topics if name != "offsets"}

    def maybe_add(partition: TopicPartition) -> None:
        if partition.topic in names:
            manager._txn_partitions.add(partition)
            add(TopicPartition(settings.topic_set.webhooks, partition.partition))  # or there were nothing to decide
        else:
            add(partition)

    def consumer_group() -> str | None:
        if "offsets" in topics and manager._pending_txn_offsets:
            manager._txn_consumer_group = settings.processors_application
            return None
        found: str | None = group()
        return found

    manager.maybe_add_partition_to_txn, manager.consumer_group_to_add = maybe_add, consumer_group
    if not is_commit:
        producer.commit_transaction = producer.abort_transaction


async def left_hanging(
    settings: ProcessorsSettings, partition: int, topics: frozenset[str], *, is_commit: bool
) -> Sequence[InputRecord]:
    """Two transactions on a partition, the second one without markers in some topics; returns all its webhooks."""
    records = webhooks(partition)
    task = new_task(settings, partition)
    transactions = Transactions(settings, partition)
    await transactions.start()
    await transactions.commit(task.process(records[:30]))
    # What follows without the coordinator's knowledge must not come before the markers of this.
    await eventually(lambda: undecided(settings, partition), lambda found: not found)
    leave_out(transactions, settings, topics, is_commit=is_commit)
    await transactions.commit(task.process(records[30:45]))
    await transactions.discard()
    return records


async def owned(settings: ProcessorsSettings, partition: int) -> tuple[Transactions, Task]:
    """What a new owner has."""
    transactions = Transactions(settings, partition)
    return transactions, await taken_over(settings, {DEFAULT_PBX: Pbx()}, transactions)


async def gone_on(transactions: Transactions, task: Task, records: Sequence[InputRecord]) -> None:
    """What it does: work out the rest."""
    await transactions.commit(task.process(records[task.next_offset or 0 :]))
    await transactions.discard()


async def assert_each_once(
    settings: ProcessorsSettings, logs: Sequence[Sequence[InputRecord]], cases: Sequence[object]
) -> None:
    """Of each partition's webhooks the session events, byte for byte, and the dead letters."""
    sessions = await read_committed(settings, settings.topic_set.call_sessions)
    letters = await read_committed(settings, settings.topic_set.dead_letters)
    for partition, records in enumerate(logs):
        expected = new_task(settings, partition).process(records)
        case = cases[partition]
        assert [one.value for one in sessions if one.partition == partition] == [
            out.value for out in expected.session_events
        ], case
        assert len([one for one in letters if one.partition == partition]) == len(expected.dead_letters), case


async def torn(settings: ProcessorsSettings, partition: int, topics: frozenset[str]) -> Sequence[InputRecord]:
    """Two transactions on a partition, the second one committed and yet aborted in some topics; all its webhooks."""
    records = await left_hanging(settings, partition, topics, is_commit=True)
    transactions = Transactions(settings, partition)
    await transactions.start()
    named = [getattr(settings.topic_set, name) for name in topics if name != "offsets"]
    await transactions.settle(named, 0, is_commit=False)
    await transactions.discard()
    await eventually(lambda: undecided(settings, partition), lambda found: not found)
    return records


async def test_what_was_aborted_of_a_committed_transaction_is_written_again(settings: ProcessorsSettings) -> None:
    logs = await asyncio.gather(*(torn(settings, partition, topics) for partition, topics in enumerate(TORN)))
    owners = await asyncio.gather(*(owned(settings, partition) for partition in range(len(TORN))))
    for (transactions, task), topics in zip(owners, TORN, strict=True):
        assert task.next_offset == 45, topics
        await transactions.discard()  # and it is killed before it does anything else
    owners = await asyncio.gather(*(owned(settings, partition) for partition in range(len(TORN))))
    await asyncio.gather(*(gone_on(*owner, records) for owner, records in zip(owners, logs, strict=True)))
    await assert_each_once(settings, logs, TORN)


async def test_of_a_transaction_that_was_aborted_everywhere_nothing_is_written_again(
    settings: ProcessorsSettings,
) -> None:
    records = await left_hanging(settings, 0, frozenset(), is_commit=False)
    transactions, task = await owned(settings, 0)
    assert task.next_offset == 30
    await gone_on(transactions, task, records)
    await assert_each_once(settings, [records], ["aborted"])


async def test_whatever_marker_is_missing_each_event_stands_there_once(settings: ProcessorsSettings) -> None:
    logs = await asyncio.gather(
        *(left_hanging(settings, partition, case[0], is_commit=case[1]) for partition, case in enumerate(CASES))
    )
    owners = await asyncio.gather(*(owned(settings, partition) for partition in range(len(CASES))))
    at = await committed_offsets(settings, settings.processors_application, settings.topic_set.webhooks)
    for partition, (left_out, _) in enumerate(CASES):
        if left_out != {"offsets"}:  # a pending offset alone holds up nobody: the changelog's holds
            assert at[partition] == owners[partition][1].next_offset, CASES[partition]
    await asyncio.gather(*(gone_on(*owner, records) for owner, records in zip(owners, logs, strict=True)))
    await assert_each_once(settings, logs, CASES)
    topics = settings.topic_set
    every = [
        TopicPartition(topic, partition)
        for topic in (topics.changelog, topics.call_sessions, topics.dead_letters)
        for partition in range(len(CASES))
    ]
    assert await end_offsets(settings, every, "read_committed") == await end_offsets(
        settings, every, "read_uncommitted"
    )
    ends = [len(records) for records in logs]

    async def offsets() -> Sequence[int]:
        return await committed_offsets(settings, settings.processors_application, settings.topic_set.webhooks)

    await eventually(offsets, lambda found: list(found) == ends)


async def test_no_transaction_follows_on_one_that_lost_its_markers_with_a_connection(
    settings: ProcessorsSettings,
) -> None:
    records, task = webhooks(0), new_task(settings, 0)
    transactions = Transactions(settings, 0)
    await transactions.start()
    leave_out(transactions, settings, frozenset(("call_sessions",)), is_commit=True)
    await transactions.commit(task.process(records[:30]))
    for connection_ in list(transactions._producer.client._conns.values()):
        connection_.close()
    with pytest.raises(TransactionFailed, match=r"markers of the last transaction are missing in .*call-sessions"):
        await transactions.commit(task.process(records[30:45]))
    await transactions.discard()
    await gone_on(*await owned(settings, 0), records)
    found = await read_committed(settings, settings.topic_set.call_sessions)
    assert [one.value for one in found] == [out.value for out in new_task(settings, 0).process(records).session_events]
