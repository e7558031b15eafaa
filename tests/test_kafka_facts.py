"""What the processors' exactly-once rests on, shown on the real broker: fencing, refusals, what readers see."""

import asyncio
import operator
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import MessageSizeTooLargeError

from deploy.local.broker import free_port
from events.kafka import (
    KafkaSettings,
    committed_reader,
    connection,
    discard,
    ensure_topics,
    is_member,
    patience,
    transactional_producer,
)
from events.pbx import DEFAULT_PBX, Pbx
from events.settings import ConfigurationError
from processors import restore, takeover
from processors.restore import restored_task
from processors.settings import ProcessorsSettings
from processors.task import Batch, OutputRecord, Task
from processors.transaction import Fenced, TransactionFailed, Transactions
from projections.consuming import broker_of
from projections.settings import ProjectionsSettings
from tests.builders import Log, start
from tests.system import committed_offsets, kafka_environment, read_committed
from tests.waiting import eventually

GROUP = "facts"


def processors_settings(kafka: KafkaSettings) -> ProcessorsSettings:
    given = {name.lower(): value for name, value in kafka_environment(kafka).items()}
    return ProcessorsSettings(
        **given,  # type: ignore[arg-type]
        processors_application=f"{GROUP}-{kafka.kafka_topic_prefix}",
        processors_session_timeout_s=10,
    )


def batch_of(*values: bytes, next_offset: int = 1, headers: tuple[tuple[str, bytes], ...] = ()) -> Batch:
    batch = Batch(next_offset)
    batch.session_events.extend(OutputRecord(b"key", value, headers) for value in values)
    batch.changelog[b"state"] = values[-1]
    return batch


@asynccontextmanager
async def transactions(settings: ProcessorsSettings) -> AsyncIterator[Transactions]:
    made = Transactions(settings, 0)
    await made.start()
    yield made
    await made.discard()


async def offset_becomes(settings: ProcessorsSettings, expected: int) -> None:
    """The offset's marker is written after the commit was answered, too."""

    async def offset() -> int:
        return (await committed_offsets(settings, settings.processors_application, settings.topic_set.webhooks))[0]

    await eventually(offset, lambda found: found == expected)


async def seen(settings: ProcessorsSettings) -> list[bytes | None]:
    return [record.value for record in await read_committed(settings, settings.topic_set.call_sessions)]


@pytest.mark.parametrize("session_timeout_s", [3, 15, 30, 300])
async def test_the_client_waits_longer_for_an_answer_than_the_deadline_of_a_transaction(
    session_timeout_s: float,
) -> None:
    """Or it would send the transaction's end again: the first one, delayed, may end the next (KAFKA-17754)."""
    made = Transactions(ProcessorsSettings(processors_session_timeout_s=session_timeout_s), 0)
    assert made._producer._request_timeout_ms > made._deadline_s * 1000
    await made.discard()


@pytest.mark.parametrize("session_timeout_s", [3, 15, 30, 300])
def test_a_reader_waits_longer_for_a_join_than_the_group_does_for_a_member_that_is_gone(
    session_timeout_s: float,
) -> None:
    """Or it would ask again for as long as the group waits, under FastStream too, which has aiokafka's 40 s."""
    settings = ProjectionsSettings(projections_session_timeout_s=session_timeout_s)
    for options in (patience(session_timeout_s), broker_of(settings)._connection_kwargs):
        assert options["request_timeout_ms"] > session_timeout_s * 1000


async def test_a_commit_makes_events_state_and_offset_visible_together(kafka: KafkaSettings) -> None:
    settings = processors_settings(kafka)
    async with transactions(settings) as mine:
        await mine.commit(batch_of(b"a", b"b", next_offset=7, headers=(("ce_id", b"1"),)))
        assert await seen(settings) == [b"a", b"b"]
        await offset_becomes(settings, 7)
        (state,) = await read_committed(settings, settings.topic_set.changelog)
        assert (state.key, state.value, state.partition) == (b"state", b"b", 0)


async def test_the_new_owner_fences_the_old_one_and_nothing_of_it_is_seen(kafka: KafkaSettings) -> None:
    settings = processors_settings(kafka)
    async with transactions(settings) as old:
        await old.commit(batch_of(b"before"))
        async with transactions(settings) as new:
            with pytest.raises(Fenced):
                await old.commit(batch_of(b"zombie", next_offset=99))
            await new.commit(batch_of(b"after", next_offset=2))
            assert await seen(settings) == [b"before", b"after"]
            await offset_becomes(settings, 2)


async def test_who_is_fenced_between_two_sendings_is_told_so_however_aiokafka_puts_it(
    kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`make chaos`, stolen transactional ids: "not while in a transaction" ended the whole process."""
    settings = processors_settings(kafka)
    async with transactions(settings) as old, transactions(settings) as new:
        send = old._send

        async def slowly(*given: Any) -> list["asyncio.Future[object]"]:
            sent = await send(*given)
            await eventually(lambda: asyncio.sleep(0, old._ended_by()))
            return sent

        monkeypatch.setattr(old, "_send", slowly)
        for _ in range(2):  # in the transaction, and before the next one
            with pytest.raises(Fenced):
                await old.commit(batch_of(b"zombie", next_offset=99))
        await new.commit(batch_of(b"after", next_offset=2))
        assert await seen(settings) == [b"after"]


async def test_the_group_says_whether_a_member_is_one_still(kafka: KafkaSettings) -> None:
    """Before its own heartbeat tells it, which is 3 s later at the most."""
    options = committed_reader(kafka) | patience(60) | {"group_id": f"{GROUP}-{kafka.kafka_topic_prefix}"}
    await ensure_topics(kafka)
    async with (
        AIOKafkaConsumer(kafka.topic_set.webhooks, **options, group_instance_id="one") as first,
        AIOKafkaConsumer(**options, group_instance_id="one") as its_successor,
    ):
        await eventually(lambda: asyncio.sleep(0, first.assignment()))
        assert await is_member(first)
        its_successor.subscribe([kafka.topic_set.webhooks])
        await eventually(lambda: is_member(first), operator.not_)


async def test_after_the_restore_the_previous_owner_can_commit_nothing_more(
    kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it committed then would be missing from the state: it is fenced before the changelog is read."""
    settings, pbxs = processors_settings(kafka), {DEFAULT_PBX: Pbx()}
    records = Log(0).webhook(1, start("201", "+41225550001")).webhook(5, start("202", "+41225550002")).records
    task = Task(0, settings.rules, pbxs, settings.topic_set.webhooks)
    restored = restored_task
    async with transactions(settings) as old:
        await old.commit(task.process(records[:2]))
        late = task.process(records[2:])

        async def and_then_it_wakes(*given: Any) -> Task:
            found = await restored(*given)
            with pytest.raises(Fenced):
                await old.commit(late)
            return found

        monkeypatch.setattr(takeover, "restored_task", and_then_it_wakes)
        new = Transactions(settings, 0)
        found = await takeover.taken_over(settings, pbxs, new)
        await new.discard()
        assert found.next_offset == records[1].offset + 1


async def test_a_changelog_that_lost_its_end_meanwhile_is_not_waited_for_for_ever(
    kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, pbxs = processors_settings(kafka), {DEFAULT_PBX: Pbx()}
    async with transactions(settings) as mine:
        await mine.commit(batch_of(b"a"))
    told = AIOKafkaConsumer.end_offsets

    async def before_the_loss(consumer: AIOKafkaConsumer, partitions: list[TopicPartition]) -> Any:
        return {partition: end + 5 for partition, end in (await told(consumer, partitions)).items()}

    monkeypatch.setattr(AIOKafkaConsumer, "end_offsets", before_the_loss)
    monkeypatch.setattr(restore, "FETCH_TIMEOUT_MS", 20)
    async with asyncio.timeout(10):
        with pytest.raises(TimeoutError, match="is not reached"):
            await restored_task(settings, pbxs, 0)


async def refuse_large_records(kafka: KafkaSettings) -> None:
    """From now on the session topic takes no record over 1000 bytes: the broker refuses it after the client sent it.

    A configuration reaches the log some time after it was accepted, so records are tried until one is refused.
    """
    admin = AIOKafkaAdminClient(**connection(kafka))
    await admin.start()
    topic = kafka.topic_set.call_sessions
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": "1000"})])
    await admin.close()
    await eventually(lambda: is_refused(kafka, b"x" * 5000))


async def is_refused(kafka: KafkaSettings, value: bytes) -> bool:
    """Whether the session topic refuses a value, tried in a transaction that is not committed."""
    producer = AIOKafkaProducer(**transactional_producer(kafka, "trying"))
    await producer.start()
    await producer.begin_transaction()
    try:
        await producer.send_and_wait(kafka.topic_set.call_sessions, value, partition=0)
    except MessageSizeTooLargeError:
        return True
    else:
        return False
    finally:
        await producer.abort_transaction()
        await discard(producer)


async def test_a_refused_record_aborts_its_transaction(kafka: KafkaSettings) -> None:
    settings = processors_settings(kafka)
    await refuse_large_records(kafka)
    async with transactions(settings) as mine:
        with pytest.raises(TransactionFailed, match="MessageSizeTooLarge"):
            await mine.commit(batch_of(b"x" * 5000, next_offset=5))
    async with transactions(settings) as mine:
        await mine.commit(batch_of(b"small", next_offset=1))
        assert await seen(settings) == [b"small"]
        await offset_becomes(settings, 1)
        assert len(await read_committed(settings, settings.topic_set.changelog)) == 1


async def test_without_awaiting_the_delivery_aiokafka_commits_past_a_refused_record(kafka: KafkaSettings) -> None:
    """Why `Transactions` awaits every delivery; should aiokafka mend this one day, this test says so."""
    settings = processors_settings(kafka)
    await refuse_large_records(kafka)
    producer = AIOKafkaProducer(**transactional_producer(settings, "careless"))
    await producer.start()
    await producer.begin_transaction()
    careless = await producer.send(settings.topic_set.call_sessions, b"x" * 5000, partition=0)
    await producer.send_offsets_to_transaction(
        {TopicPartition(settings.topic_set.webhooks, 0): 5}, settings.processors_application
    )
    await producer.commit_transaction()
    assert isinstance(careless.exception(), Exception)
    await offset_becomes(settings, 5)
    assert await seen(settings) == [], "the input is passed, its output is lost"
    await discard(producer)


async def test_readers_stop_at_an_open_transaction_and_pass_an_aborted_one(kafka: KafkaSettings) -> None:
    settings = processors_settings(kafka)
    topic = TopicPartition(settings.topic_set.call_sessions, 0)
    consumer = AIOKafkaConsumer(**committed_reader(settings), group_id=None)
    await consumer.start()
    consumer.assign([topic])

    async def last_stable_offset() -> int:
        return int((await consumer.end_offsets([topic]))[topic])

    producer = AIOKafkaProducer(**transactional_producer(settings, "slow"))
    await producer.start()
    await producer.begin_transaction()
    await producer.send_and_wait(topic.topic, b"pending", partition=0)
    assert await last_stable_offset() == 0
    await producer.abort_transaction()
    end = await eventually(last_stable_offset)
    assert end == 2, "the record and its marker, which is written after the abort was answered"
    await consumer.seek_to_beginning(topic)
    async with asyncio.timeout(20):
        while await consumer.position(topic) < end:
            assert await consumer.getmany(topic, timeout_ms=200) == {}
    await consumer.stop()
    await producer.stop()


async def test_a_broker_that_is_not_there_is_told_from_one_that_does_not_let_in() -> None:
    with pytest.raises(ConnectionRefusedError):
        await ensure_topics(KafkaSettings(kafka_bootstrap_servers=f"127.0.0.1:{free_port()}"))


async def test_topics_are_created_as_the_table_says_and_another_count_is_refused(kafka: KafkaSettings) -> None:
    await ensure_topics(kafka)
    admin = AIOKafkaAdminClient(**connection(kafka))
    await admin.start()
    resource = ConfigResource(ConfigResourceType.TOPIC, kafka.topic_set.changelog)
    (answer,) = await admin.describe_configs([resource])
    configs = {entry[0]: entry[1] for entry in answer.resources[0][4]}
    await admin.close()
    assert configs["cleanup.policy"] == "compact"
    other = kafka.model_copy(update={"kafka_topic_partitions": 5})
    with pytest.raises(ConfigurationError, match=r"KAFKA_TOPIC_PARTITIONS: 5, but topic .* has 4 partitions"):
        await ensure_topics(other)
