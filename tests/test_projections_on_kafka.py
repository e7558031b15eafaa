"""The projections on a real Kafka: rows and offsets together through kills and a failing database."""

import asyncio
import operator
import os
import sqlite3
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from sqlalchemy.engine import make_url

from events import session_events
from events.kafka import KafkaSettings, connection, ensure_topics, partition_count, transactional_producer
from events.metrics import Metrics
from events.pbx import DEFAULT_PBX, Pbx
from events.session_events import FeedProgress
from processors.task import InputRecord, OutputRecord
from projections.feeds import Feeds
from projections.projector import Projector
from projections.settings import ProjectionsSettings
from projections.store import Store, open_store
from projections.stream import Stream
from projections.views import Views
from tests.builders import Log, end, run, start
from tests.chaos.follower import Follower
from tests.conftest import TEST_PARTITIONS
from tests.system import System, append, committed_offsets, kafka_environment
from tests.views_folded import folded_rows, stored_rows
from tests.views_folded import session_records as folded_records
from tests.waiting import eventually


def session_records(calls: int, partition: int = 1) -> list[InputRecord]:
    """The session events of so many calls, as records for the session topic."""
    log = Log()
    for number in range(calls):
        log.webhook(number * 5 + 1, start(str(200 + number % 9), f"+4122555{number:04}", t=number * 5))
        log.webhook(number * 5 + 4, end(str(200 + number % 9), f"+4122555{number:04}", t=number * 5 + 3, duration=2))
    out: list[OutputRecord] = [one for batch in run(log.records).batches for one in batch.session_events]
    return [InputRecord(partition, number, one.key, one.value, one.headers) for number, one in enumerate(out)]


@pytest.fixture
def projections(kafka: KafkaSettings, tmp_path: Path) -> Iterator[System]:
    """Projections alone: the test writes the session topic. Whoever is killed comes back to its place by its name."""
    named = {"PROJECTIONS_INSTANCE": "the one", "PROJECTIONS_SESSION_TIMEOUT_S": "300"}
    system = System(kafka, tmp_path, PROJECTIONS_BATCH_RECORDS_MAX="20", **named)
    yield system
    system.kill()


def next_offset(folder: Path, partition: int = 1) -> int:
    """How far the view has come, as the database says; 0 before it says anything."""
    path = folder / "projections.sqlite"
    if not path.exists():
        return 0
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        try:
            row = database.execute("select next_offset from offsets where partition = ?", (partition,)).fetchone()
        except sqlite3.OperationalError:
            return 0
    return 0 if row is None else int(row[0])


async def test_kills_in_the_middle_of_the_fold_leave_every_call_once(
    projections: System, kafka: KafkaSettings, tmp_path: Path
) -> None:
    records = session_records(200)
    await append(kafka, records, kafka.topic_set.call_sessions)

    async def position() -> int:
        return next_offset(tmp_path)

    for share in (0.2, 0.5):
        projections.start("projections")
        await eventually(position, partial(operator.lt, share * len(records)), 40)
        projections.kill()
    projections.start("projections")
    await eventually(position, lambda seen: seen == len(records), 40)
    assert await calls_of(projections) == sorted(f"+4122555{number:04}ended" for number in range(200))


async def calls_of(system: System) -> list[str]:
    """Caller and status of every call, once the API answers."""
    async with httpx.AsyncClient() as client:

        async def calls() -> list[str]:
            try:
                page = await client.get(f"{system.board}/api/v1/calls", params={"limit": "1000"})
            except httpx.TransportError:
                return []
            return [call["caller"] + call["status"] for call in page.json()["calls"]]

        return sorted(await eventually(calls))


async def test_every_revision_knows_when_it_was_known(
    projections: System, kafka: KafkaSettings, tmp_path: Path
) -> None:
    """Not before its feed had come as far: over batches and kills, too."""
    records = session_records(60)
    await append(kafka, records, kafka.topic_set.call_sessions)

    async def position() -> int:
        return next_offset(tmp_path)

    projections.start("projections")
    await eventually(position, lambda seen: seen > 25, 40)
    projections.kill()
    projections.start("projections")
    await eventually(position, lambda seen: seen == len(records), 40)
    expected: dict[tuple[str, int], str] = {}
    feed_at = ""
    for record in records:
        event = session_events.decode(record.value or b"")
        if isinstance(event, FeedProgress):
            feed_at = stored(event.stream_time)
        else:
            expected[event.session_id, event.revision] = max(stored(event.time), feed_at)
    with sqlite3.connect(tmp_path / "projections.sqlite") as database:
        rows = database.execute("select session_id, revision, known_at from revisions").fetchall()
    assert {(session_id, revision): known_at for session_id, revision, known_at in rows} == expected


def stored(at: datetime) -> str:
    """As SQLite keeps a time."""
    return at.strftime("%Y-%m-%d %H:%M:%S.%f")


async def test_views_that_were_thrown_away_are_rebuilt_from_the_topic(
    projections: System, kafka: KafkaSettings, tmp_path: Path
) -> None:
    """The group's offset stands at the end, but the database decides."""
    records = session_records(10)
    await append(kafka, records, kafka.topic_set.call_sessions)

    async def position() -> int:
        return next_offset(tmp_path)

    projections.start("projections")
    await eventually(position, lambda seen: seen == len(records), 40)
    assert projections.stop()["projections"] == 0
    for path in tmp_path.glob("projections.sqlite*"):
        path.unlink()
    projections.start("projections")
    await eventually(position, lambda seen: seen == len(records), 40)
    assert await calls_of(projections) == sorted(f"+4122555{number:04}ended" for number in range(10))


@pytest.mark.parametrize("calls", [3, 10])  # of ten what is refused is a whole batch, which is written behind
async def test_a_database_that_refuses_does_not_let_the_offset_pass(
    projections: System, kafka: KafkaSettings, tmp_path: Path, calls: int
) -> None:
    records = session_records(calls)
    projections.start("projections")
    await append(kafka, records[:5], kafka.topic_set.call_sessions)

    async def position() -> int:
        return next_offset(tmp_path)

    await eventually(position, lambda seen: seen == 5, 40)
    group = f"projections-{kafka.kafka_topic_prefix}"

    async def mirrored() -> int:
        return (await committed_offsets(kafka, group, kafka.topic_set.call_sessions))[1]

    await eventually(mirrored, lambda seen: seen == 5, 20)
    with sqlite3.connect(tmp_path / "projections.sqlite", isolation_level=None) as database:
        database.execute("create trigger refuse before insert on calls begin select raise(abort, 'no'); end")
        database.execute("create trigger refuse2 before update on calls begin select raise(abort, 'no'); end")
        await append(kafka, records[5:], kafka.topic_set.call_sessions)
        log = projections.services["projections"].log

        async def told() -> str:
            return log.read_text("utf-8", "replace")

        await eventually(told, lambda text: "does not take the views" in text, 20)
        assert (next_offset(tmp_path), await mirrored()) == (5, 5)
        assert await gauge_of(projections, "lag_records") == len(records) - 5, "though the reader is further"
        database.execute("drop trigger refuse")
        database.execute("drop trigger refuse2")
    await eventually(position, lambda seen: seen == len(records), 40)
    await eventually(mirrored, lambda seen: seen == len(records), 20)
    assert await calls_of(projections) == sorted(f"+4122555{number:04}ended" for number in range(calls))


async def test_an_unreadable_record_is_counted_and_the_next_one_goes_on(
    projections: System, kafka: KafkaSettings, tmp_path: Path
) -> None:
    records = session_records(3)
    poison = [InputRecord(1, 0, b"default", b'{"type":"call.invented"}', ()), InputRecord(1, 0, None, b"", ())]
    await append(kafka, [*poison, *records], kafka.topic_set.call_sessions)
    projections.start("projections")

    async def position() -> int:
        return next_offset(tmp_path)

    await eventually(position, lambda seen: seen == len(records) + len(poison), 40)
    async with httpx.AsyncClient() as client:
        metrics = (await client.get(f"{projections.board}/metrics")).text
    assert "threecx_projections_unreadable_total 2.0" in metrics


async def test_what_was_aborted_is_in_no_view(projections: System, kafka: KafkaSettings, tmp_path: Path) -> None:
    *records, last = session_records(3)
    producer = AIOKafkaProducer(**transactional_producer(kafka, f"aborting-{kafka.kafka_topic_prefix}"))
    await producer.start()
    await producer.begin_transaction()
    await producer.send_and_wait(kafka.topic_set.call_sessions, last.value, last.key, partition=last.partition)
    await producer.abort_transaction()
    await producer.stop()
    await append(kafka, records, kafka.topic_set.call_sessions)
    projections.start("projections")

    async def position() -> int:
        return next_offset(tmp_path)

    beside = 1  # the aborted record; its marker can come after the last of ours, where no position tells of it
    await eventually(position, lambda seen: seen >= len(records) + beside, 40)
    open_call = "+41225550002open"
    assert await calls_of(projections) == ["+41225550000ended", "+41225550001ended", open_call]


async def test_the_group_has_no_lag_when_only_a_marker_is_left(
    projections: System, kafka: KafkaSettings, tmp_path: Path
) -> None:
    """A lag tool counts the marker of a transaction: the mirror goes past it, though no record follows."""
    records = session_records(3)
    producer = AIOKafkaProducer(**transactional_producer(kafka, "markers"))
    await producer.start()
    async with producer.transaction():
        for record in records:
            await producer.send(
                kafka.topic_set.call_sessions, record.value, record.key, 1, headers=list(record.headers)
            )
    await producer.stop()
    projections.start("projections")
    group = f"projections-{kafka.kafka_topic_prefix}"

    async def mirrored() -> int:
        return (await committed_offsets(kafka, group, kafka.topic_set.call_sessions))[1]

    await eventually(mirrored, partial(operator.eq, len(records) + 1), 40)
    assert next_offset(tmp_path) == len(records)
    assert await gauge_of(projections, "high_watermark_offset") == len(records) + 1
    assert await gauge_of(projections, "as_of_timestamp_seconds")
    assert await gauge_of(projections, "lag_records") == 0
    assert await gauge_of(projections, "lag_seconds") == 0, "nor does it grow older while no record comes"


async def test_a_second_writer_of_the_same_database_ends_the_process(
    projections: System, kafka: KafkaSettings, tmp_path: Path
) -> None:
    records = session_records(10)
    projections.start("projections")
    await append(kafka, records[:5], kafka.topic_set.call_sessions)

    async def position() -> int:
        return next_offset(tmp_path)

    await eventually(position, lambda seen: seen == 5, 40)
    with sqlite3.connect(tmp_path / "projections.sqlite") as database:
        database.execute("update offsets set next_offset = 6 where partition = 1")
    await append(kafka, records[5:], kafka.topic_set.call_sessions)

    async def ended() -> int | None:
        return projections.services["projections"].returncode

    assert await eventually(ended, lambda code: code is not None, 20) != os.EX_OK
    assert "another writer" in projections.services["projections"].log.read_text("utf-8", "replace")


async def test_a_client_is_told_what_another_process_folded_once_its_partitions_come_back(
    projections: System, kafka: KafkaSettings, tmp_path: Path
) -> None:
    """While two processes share the partitions each streams its own; the one that stays must not keep quiet after."""
    projections.environment["PROJECTIONS_FEED_SILENT_S"] = "3600"  # a feed that falls silent brings a snapshot, too
    projections.start("projections")
    other = System(kafka, tmp_path, PROJECTIONS_BATCH_RECORDS_MAX="20")
    follower = Follower(projections.board)
    following = asyncio.create_task(follower.run())
    records = {partition: folded_records(8, partition) for partition in range(TEST_PARTITIONS)}

    async def folded(share: float) -> None:
        """Have so much of each partition folded, by whoever has it."""
        upto = {partition: int(len(mine) * share) for partition, mine in records.items()}
        some = [
            one
            for partition, mine in records.items()
            for one in mine[next_offset(tmp_path, partition) : upto[partition]]
        ]
        await append(kafka, some, kafka.topic_set.call_sessions)

        async def there() -> bool:
            return all(next_offset(tmp_path, partition) == end for partition, end in upto.items())

        await eventually(there, timeout_s=40)

    async def unlike() -> list[dict[str, Any]]:
        async with httpx.AsyncClient() as client:
            page = (await client.get(f"{projections.board}/api/v1/calls", params={"limit": "1000"})).json()
        return [call for call in page["calls"] if follower.calls.get(call["session_id"]) != call]

    try:
        await projections.ready(with_feed=False)
        await folded(0.5)
        await eventually(unlike, lambda left: not left, 40)
        await asyncio.sleep(1.5)  # the feeds were heard of: a snapshot tells so within a second
        other.start("projections")
        await other.ready(with_feed=False)
        await eventually(lambda: partitions_of(other), lambda mine: 0 < mine < TEST_PARTITIONS, 40)
        await folded(1.0)
        assert await unlike(), "each streams its own partitions only"
        other.kill()
        await eventually(unlike, lambda left: not left, 40)
        assert len(follower.calls) == 8 * TEST_PARTITIONS
    finally:
        following.cancel()
        other.kill()


async def gauge_of(system: System, name: str) -> float:
    """What the process says of partition 1."""
    async with httpx.AsyncClient() as client:
        metrics = (await client.get(f"{system.board}/metrics")).text
    (line,) = [one for one in metrics.splitlines() if one.startswith(f'threecx_projections_{name}{{partition="1"}}')]
    return float(line.rsplit(" ", 1)[1])


async def partitions_of(system: System) -> int:
    """How many partitions the process has now."""
    async with httpx.AsyncClient() as client:
        metrics = (await client.get(f"{system.board}/metrics")).text
    return metrics.count("threecx_projections_high_watermark_offset{")


async def test_a_position_that_aiokafka_lost_is_found_again_and_not_everything_is_read_again(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    """As when a partition has moved to another broker (`make chaos`, reassign): it begins at the beginning again."""
    records = session_records(150)
    for record in records:  # each a batch of its own, so that a fetch can be a small one
        await append(kafka, [record], kafka.topic_set.call_sessions)
    settings = ProjectionsSettings(**{name.lower(): value for name, value in kafka_environment(kafka).items()})  # type: ignore[arg-type]
    topic, metrics = settings.topic_set.call_sessions, Metrics("projections")
    store = await open_store(make_url(f"sqlite+aiosqlite:///{tmp_path / 'views.sqlite'}"), topic)
    views = Views(store, Feeds(30, settings.kafka_topic_partitions), {DEFAULT_PBX: Pbx()})
    projecting = Projector(settings, store, views, Stream("test", metrics, 1, 1, 1, 1), metrics)
    await projecting.start()

    async def position() -> int:
        found = (await store.positions()).get(1)
        return 0 if found is None else found.next_offset

    await eventually(position, partial(operator.eq, len(records)), 60)
    consumer = projecting._subscriber.consumer
    consumer._fetcher._max_partition_fetch_bytes = 1  # a batch at a time
    consumer.seek(TopicPartition(topic, 1), 0)
    more = session_records(151)
    await append(kafka, more[len(records) :], topic)
    await eventually(position, partial(operator.eq, len(more)), 60)
    stale = metrics.registry.get_sample_value("threecx_projections_stale_events_total") or 0
    assert 1 <= stale < len(records) / 2
    await projecting.stop()
    await store.close()


async def test_a_rebalance_while_the_database_is_away_ends_nothing(
    kafka: KafkaSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = session_records(10)
    await append(kafka, records, kafka.topic_set.call_sessions)
    settings = ProjectionsSettings(**{name.lower(): value for name, value in kafka_environment(kafka).items()})  # type: ignore[arg-type]
    metrics = Metrics("projections")
    store = await open_store(make_url(f"sqlite+aiosqlite:///{tmp_path / 'v.sqlite'}"), settings.topic_set.call_sessions)
    views = Views(store, Feeds(30, settings.kafka_topic_partitions), {DEFAULT_PBX: Pbx()})
    projecting = Projector(settings, store, views, Stream("test", metrics, 1, 1, 1, 1), metrics)
    positions, asked = store.positions, 0

    async def away() -> Any:
        nonlocal asked
        asked += 1
        if asked in {2, 3}:  # the first one is the start's
            raise ConnectionRefusedError
        return await positions()

    monkeypatch.setattr(store, "positions", away)
    await projecting.start()

    async def position() -> int:
        found = (await positions()).get(1)
        return 0 if found is None else found.next_offset

    await eventually(position, partial(operator.eq, len(records)), 40)
    assert asked >= 4
    assert not projecting.failed.done()
    await projecting.stop()
    await store.close()


async def made_anew(kafka: KafkaSettings, topic: str) -> None:
    """The topic, without what was in it: another cluster's, or what a power cut left of one."""
    admin = AIOKafkaAdminClient(**connection(kafka))
    await admin.start()
    await admin.delete_topics([topic])
    await admin.close()
    await eventually(partial(partition_count, kafka, topic), lambda count: count is None, 20)
    await ensure_topics(kafka)


@pytest.mark.parametrize("meanwhile", ["running", "stopped"])
async def test_a_topic_that_ends_before_the_views_is_read_from_its_beginning(
    kafka: KafkaSettings, store: Store, meanwhile: str
) -> None:
    """What is in the views stays, what comes is folded though its offsets were used before, and the loss is counted."""
    records = folded_records(20)
    settings = ProjectionsSettings(**{name.lower(): value for name, value in kafka_environment(kafka).items()})  # type: ignore[arg-type]
    topic, metrics = settings.topic_set.call_sessions, Metrics("projections")
    views = Views(store, Feeds(30, settings.kafka_topic_partitions), {DEFAULT_PBX: Pbx()})

    def projector() -> Projector:
        return Projector(settings, store, views, Stream("test", metrics, 1, 1, 1, 1), metrics)

    async def position() -> int:
        found = (await store.positions()).get(1)
        return 0 if found is None else found.next_offset

    projecting = projector()
    await append(kafka, records, topic)
    await projecting.start()
    await eventually(position, partial(operator.eq, len(records)), 60)
    if meanwhile == "stopped":
        await projecting.stop()
        projecting = projector()
    await made_anew(kafka, topic)
    new = folded_records(22)[len(records) :]
    if meanwhile == "stopped":
        await projecting.start()
    await append(kafka, [*records[:5], *new], topic)
    await eventually(position, partial(operator.eq, 5 + len(new)), 60)
    expected = folded_rows([*records, *new], store._topic)
    assert {**await stored_rows(store), "offsets": expected["offsets"]} == expected
    assert metrics.registry.get_sample_value("threecx_projections_lost_tails_total") == 1
    await projecting.stop()
