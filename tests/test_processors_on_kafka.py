"""The processors on a real Kafka: exactly once through kills, zombies and hand-overs; proven against the pure core."""

import asyncio
import operator
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import httpx
import pytest
import structlog
from aiokafka import AIOKafkaProducer, TopicPartition

from deploy.local.broker import free_port
from events import durations, envelope
from events.kafka import KafkaSettings, discard, transactional_producer
from events.metrics import Metrics
from events.pbx import DEFAULT_PBX, Pbx
from processors.changelog import position_key
from processors.owner import BACKOFF_S_MIN, Owner
from processors.rules import Rules
from processors.runner import Runner
from processors.settings import ProcessorsSettings
from processors.task import Batch, InputRecord, Task
from processors.transaction import TransactionFailed, Transactions
from tests.builders import Log, cut, end, start
from tests.conftest import TEST_PARTITIONS
from tests.system import Service, append, committed_offsets, kafka_environment, read_committed
from tests.waiting import eventually

GROUP = "set by the fixture"

Start = Callable[..., Service]


def traffic(calls: int) -> list[InputRecord]:
    """The same busy hour on every partition: calls of many agents, each PBX on its own partition."""
    logs = []
    for partition in range(TEST_PARTITIONS):
        log = Log(partition, instance=f"ingest-{partition}")
        for number in range(calls):
            agent, party = str(200 + number % 7), f"+4122555{partition}{number % 50:03}"
            log.webhook(number * 3, start(agent, party, t=number * 3), pbx=f"pbx{partition}")
            if number % 5:
                log.webhook(number * 3 + 2, end(agent, party, t=number * 3 + 2, duration=2), pbx=f"pbx{partition}")
        logs.append(log.records)
    return [record for one in logs for record in one]


def in_order_of_time(records: Sequence[InputRecord]) -> list[InputRecord]:
    return sorted(records, key=lambda record: dict(record.headers)["ce_time"])


def expected(records: Sequence[InputRecord]) -> dict[int, list[tuple[bytes | None, bytes | None]]]:
    """What the pure core says about the records: keys and values per partition, in order."""
    found: dict[int, list[tuple[bytes | None, bytes | None]]] = {}
    for partition in range(TEST_PARTITIONS):
        task = Task(partition, Rules(), {DEFAULT_PBX: Pbx()}, "any")
        mine = [r._replace(offset=i) for i, r in enumerate(r for r in records if r.partition == partition)]
        found[partition] = [(out.key, out.value) for b in cut(mine, 500) for out in task.process(b).session_events]
    return found


async def found(kafka: KafkaSettings) -> dict[int, list[tuple[bytes | None, bytes | None]]]:
    by_partition: dict[int, list[tuple[bytes | None, bytes | None]]] = defaultdict(list)
    for record in await read_committed(kafka, kafka.topic_set.call_sessions):
        by_partition[record.partition].append((record.key, record.value))
    return dict(by_partition)


async def done(kafka: KafkaSettings, records: Sequence[InputRecord], timeout_s: float = 60) -> None:
    """Wait until the group's offsets stand at the end of what was written."""
    counts = [sum(record.partition == number for record in records) for number in range(TEST_PARTITIONS)]

    async def offsets() -> Sequence[int]:
        return await committed_offsets(kafka, GROUP, kafka.topic_set.webhooks)

    await eventually(offsets, lambda seen: list(seen) == counts, timeout_s)


@pytest.fixture
def processors(kafka: KafkaSettings, tmp_path: Path) -> Iterator[Start]:
    """Starts processors of one group, and ends them with the test."""
    started: list[Service] = []

    def begin(**more: str) -> Service:
        environment = kafka_environment(kafka) | {
            "PROCESSORS_PORT": str(free_port()),
            "PROCESSORS_SESSION_TIMEOUT_S": "3",
            "PROCESSORS_APPLICATION": GROUP,
            "PROCESSORS_BATCH_RECORDS_MAX": "25",
            **more,
        }
        started.append(Service("processors", environment, tmp_path / f"processors-{len(started)}.log"))
        return started[-1]

    yield begin
    for service in started:
        service.kill()


@pytest.fixture(autouse=True)
def group_per_test(monkeypatch: pytest.MonkeyPatch, topic_prefix: str) -> None:
    monkeypatch.setattr("tests.test_processors_on_kafka.GROUP", f"processors-{topic_prefix}")


async def test_sessions_equal_the_pure_core_byte_for_byte(kafka: KafkaSettings, processors: Start) -> None:
    records = traffic(60)
    service = processors()
    await append(kafka, records)
    await done(kafka, records)
    assert await found(kafka) == expected(records)
    assert service.stop() == 0


async def test_a_changelog_of_a_newer_release_is_refused_in_one_sentence_and_nothing_is_written(
    kafka: KafkaSettings, processors: Start
) -> None:
    newer = b'["partition",{"schema":99}]'
    await append(kafka, [InputRecord(2, 0, position_key(2), newer, ())], kafka.topic_set.changelog)
    await append(kafka, traffic(3))
    service = processors()
    await eventually(partial(asyncio.to_thread, lambda: service.returncode), lambda seen: seen is not None)
    assert service.returncode == 2
    sentence = service.log.read_text().splitlines()[-1]
    assert sentence.startswith("processors: the changelog has schema 99, of a newer release; this one knows up to ")
    assert "replay" in sentence
    assert 2 not in await found(kafka)


async def test_kills_in_the_middle_of_calls_lose_and_double_nothing(kafka: KafkaSettings, processors: Start) -> None:
    records = traffic(150)
    await append(kafka, records)

    async def progress() -> int:
        return sum(await committed_offsets(kafka, GROUP, kafka.topic_set.webhooks))

    for share in (0.2, 0.4, 0.6):
        service = processors()
        await eventually(progress, partial(operator.lt, share * len(records)), 40)
        service.kill()
    processors()
    await done(kafka, records)
    assert await found(kafka) == expected(records)


async def test_two_processors_share_and_one_takes_over_from_the_killed(kafka: KafkaSettings, processors: Start) -> None:
    records = traffic(120)
    half = len(records) // 2
    first, _second = processors(), processors()
    by_time = in_order_of_time(records)
    await append(kafka, by_time[:half])

    async def progress() -> int:
        return sum(await committed_offsets(kafka, GROUP, kafka.topic_set.webhooks))

    await eventually(progress, lambda seen: seen > half // 2, 40)
    first.kill()
    await append(kafka, by_time[half:])
    await done(kafka, records)
    assert await found(kafka) == expected(records)


async def test_one_with_a_name_has_its_partitions_again_after_a_kill_and_gives_them_up_when_it_stops(
    kafka: KafkaSettings, processors: Start
) -> None:
    """Both long before the session timeout: the others would wait for that."""
    records = traffic(40)
    by_time = in_order_of_time(records)
    third = len(records) // 3
    named = partial(processors, PROCESSORS_SESSION_TIMEOUT_S="300")
    first = named(PROCESSORS_INSTANCE="first")
    await append(kafka, by_time[:third])
    await done(kafka, by_time[:third])
    first.kill()
    first = named(PROCESSORS_INSTANCE="first")
    await append(kafka, by_time[third : 2 * third])
    await done(kafka, by_time[: 2 * third])
    named(PROCESSORS_INSTANCE="second")
    assert first.stop() == 0
    await append(kafka, by_time[2 * third :])
    await done(kafka, records)
    assert await found(kafka) == expected(records)


async def test_a_zombie_is_fenced_and_writes_nothing_twice(kafka: KafkaSettings, processors: Start) -> None:
    records = traffic(120)
    zombie = processors()
    by_time = in_order_of_time(records)
    half = len(records) // 2
    await append(kafka, by_time[:half])

    async def progress() -> int:
        return sum(await committed_offsets(kafka, GROUP, kafka.topic_set.webhooks))

    await eventually(progress, lambda seen: seen > half // 2, 40)
    zombie.send(signal.SIGSTOP)
    processors()
    await append(kafka, by_time[half:])
    await done(kafka, records)
    zombie.send(signal.SIGCONT)
    extra = [one._replace(offset=0) for one in Log(1, "late").webhook(1, start("999"), pbx="pbx1").records]
    await append(kafka, extra)
    everything = [*records, *extra]
    await done(kafka, everything)
    assert await found(kafka) == expected(everything)
    assert zombie.returncode is None, "it lives on as a member of the group"


async def test_who_only_took_the_transactional_ids_keeps_no_partition_from_its_owner(
    kafka: KafkaSettings, processors: Start
) -> None:
    """`make chaos`, stolen transactional ids: the owner waited for a session, though the group knew of no other."""
    records = traffic(40)
    by_time = in_order_of_time(records)
    half = len(records) // 2
    port = free_port()
    processors(PROCESSORS_SESSION_TIMEOUT_S="300", PROCESSORS_PORT=str(port))
    await append(kafka, by_time[:half])
    await done(kafka, by_time[:half])
    for partition in range(TEST_PARTITIONS):
        identity = f"{GROUP}-{kafka.topic_set.webhooks}-{partition}"
        thief = AIOKafkaProducer(**transactional_producer(kafka, identity))
        await thief.start()
        await discard(thief)
    await append(kafka, by_time[half:])
    await done(kafka, records)
    assert await found(kafka) == expected(records)
    async with httpx.AsyncClient() as client:
        metrics = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
    assert f'threecx_processors_producer_replacements_total{{reason="fenced"}} {TEST_PARTITIONS}.0' in metrics


async def test_what_cannot_be_read_goes_to_the_dead_letters_and_the_partition_goes_on(
    kafka: KafkaSettings, processors: Start
) -> None:
    log = Log(2).webhook(1, b"nonsense").webhook(2, start())
    processors()
    await append(kafka, log.records)
    await done(kafka, log.records)
    (letter,) = await read_committed(kafka, kafka.topic_set.dead_letters)
    said = dict(letter.headers)
    assert (letter.value, letter.partition) == (b"nonsense", 2)
    assert said["dead_letter_offset"] == str(next(r.offset for r in log.records if r.value == b"nonsense")).encode()
    sessions = await read_committed(kafka, kafka.topic_set.call_sessions)
    assert [envelope.decode(one.headers).type for one in sessions if one.key == b"default"].count(
        envelope.Type.CALL_STARTED
    ) == 1


async def test_a_transaction_takes_one_record_when_idle_and_whole_batches_when_busy(kafka: KafkaSettings) -> None:
    batch_max, waiting = 50, 600
    settings = ProcessorsSettings(
        **{name.lower(): value for name, value in kafka_environment(kafka).items()},  # type: ignore[arg-type]
        processors_application=GROUP,
        processors_batch_records_max=batch_max,
    )
    metrics = Metrics("processors")

    def transactions() -> tuple[float, float]:
        """How many there were, and how many records they took."""
        name = "threecx_processors_batch_records"
        found = [metrics.registry.get_sample_value(f"{name}_{suffix}") or 0 for suffix in ("count", "sum")]
        return found[0], found[1]

    log = Log(0)
    for number in range(waiting):
        log.webhook(number / 100, start(str(200 + number), f"+4122555{number:04}", t=number / 100))
    await append(kafka, log.records)
    written = len(log.records)
    runner = Runner(settings, {DEFAULT_PBX: Pbx()}, metrics)
    running = asyncio.create_task(runner.run())

    async def position() -> int:
        return runner.next_offset(0) if runner.is_consuming(0) else -1

    await eventually(position, partial(operator.eq, written), 60)
    busy, taken = transactions()
    assert taken == written
    # The first ones may find only what the first fetch brought.
    assert taken / busy > batch_max / 2
    for number in range(5):
        log.webhook(100 + number, start(str(900 + number), f"+4133555{number:04}", t=100 + number))
        await append(kafka, log.records[-1:])
        await eventually(position, partial(operator.eq, written + number + 1), 60)
    idle, taken = transactions()
    assert (idle - busy, taken - written) == (5, 5)
    running.cancel()
    await asyncio.wait({running})


async def test_a_record_whose_reading_meets_a_bug_is_buried_counted_and_logged_and_stops_nobody(
    kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = durations.read
    monkeypatch.setattr(durations, "read", lambda value: int("²") if value == "00:00:13" else read(value))
    settings = ProcessorsSettings(
        **{name.lower(): value for name, value in kafka_environment(kafka).items()},  # type: ignore[arg-type]
        processors_application=GROUP,
    )
    log = Log(0).webhook(0, start()).webhook(1, end(t=1, duration=13)).webhook(2, end(t=2, duration=1))
    await append(kafka, log.records)
    metrics = Metrics("processors")
    with structlog.testing.capture_logs() as logs:
        running = asyncio.create_task(Runner(settings, {DEFAULT_PBX: Pbx()}, metrics).run())
        await done(kafka, log.records)
        running.cancel()
        await asyncio.wait({running})
    assert [record.value for record in await read_committed(kafka, kafka.topic_set.dead_letters)] == [
        log.records[2].value
    ]
    ended = [value for _, value in (await found(kafka))[0] if value is not None and b"call.ended" in value]
    assert len(ended) == 1
    (told,) = [one for one in logs if one["log_level"] == "error"]
    assert (told["partition"], told["offset"], told["error"]) == (0, 2, "ValueError")
    assert "understand:" in told["where"]
    assert metrics.registry.get_sample_value("threecx_processors_dead_letters_total", {"reason": "bug"}) == 1


async def test_a_partition_whose_transactions_are_refused_starts_over_less_and_less_often(
    kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time the whole state is restored."""
    settings = ProcessorsSettings(
        **{name.lower(): value for name, value in kafka_environment(kafka).items()},  # type: ignore[arg-type]
        processors_application=GROUP,
    )
    commit, pause_for, refused, pauses = Transactions.commit, Owner._pause_for, 3, list[float]()

    async def refuse(transactions: Transactions, batch: Batch) -> None:
        if transactions.partition == 0 and len(pauses) < refused:
            raise TransactionFailed("the broker refuses it")
        await commit(transactions, batch)

    async def noted(owner: Owner, seconds: float) -> None:
        pauses.append(seconds)
        await pause_for(owner, seconds)

    monkeypatch.setattr(Transactions, "commit", refuse)
    monkeypatch.setattr(Owner, "_pause_for", noted)
    log = Log(0).webhook(1, start())
    await append(kafka, log.records)
    runner = Runner(settings, {DEFAULT_PBX: Pbx()}, Metrics("processors"))
    running = asyncio.create_task(runner.run())

    async def position() -> int:
        return runner.next_offset(0) if runner.is_consuming(0) else -1

    await eventually(position, partial(operator.eq, len(log.records)), 60)
    assert pauses == [BACKOFF_S_MIN, 2 * BACKOFF_S_MIN, 4 * BACKOFF_S_MIN]
    refused += 1
    await append(kafka, log.webhook(2, start("202")).records[-2:])
    await eventually(position, partial(operator.eq, len(log.records)), 60)
    assert pauses[-1] == BACKOFF_S_MIN, "after a commit it begins anew"
    running.cancel()
    await asyncio.wait({running})


async def test_a_partition_that_cannot_be_taken_over_lags_by_the_time_it_stands_still(kafka: KafkaSettings) -> None:
    """Here somebody else's transaction stays open in its changelog."""
    settings = ProcessorsSettings(
        **{name.lower(): value for name, value in kafka_environment(kafka).items()},  # type: ignore[arg-type]
        processors_application=GROUP,
        processors_session_timeout_s=3,
    )
    metrics = Metrics("processors")
    runner = Runner(settings, {DEFAULT_PBX: Pbx()}, metrics)

    async def lag_s() -> float | None:
        """As a scrape in an hour would see it."""
        runner.observe_lags(time.time() + 3600)
        return metrics.registry.get_sample_value("threecx_processors_lag_seconds", {"partition": "0"})

    foreign = AIOKafkaProducer(**transactional_producer(kafka, f"foreign-{kafka.kafka_topic_prefix}"))
    await foreign.start()
    await foreign.begin_transaction()
    await foreign.send_and_wait(kafka.topic_set.changelog, b"x", b"foreign", partition=0)
    running = asyncio.create_task(runner.run())
    await eventually(lag_s, lambda seen: seen is not None, 60)
    assert (await lag_s() or 0) >= 3600
    assert not runner.is_consuming(0)
    await foreign.abort_transaction()
    await foreign.stop()
    await eventually(lag_s, lambda seen: seen == 0, 60)
    assert runner.is_consuming(0)
    running.cancel()
    await asyncio.wait({running})


async def test_a_position_that_aiokafka_lost_is_found_again_and_not_everything_is_read_again(
    kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a partition has moved to another broker (`make chaos`, reassign): it begins at the beginning again."""
    settings = ProcessorsSettings(
        **{name.lower(): value for name, value in kafka_environment(kafka).items()},  # type: ignore[arg-type]
        processors_application=GROUP,
    )
    log, given = Log(0), Counter[int]()
    for number in range(200):
        log.webhook(number / 100, start(str(200 + number), f"+4122555{number:04}", t=number / 100))
        await append(kafka, log.records[-1:])  # each a batch of its own, so that a fetch can be a small one
    written, take = len(log.records), Owner.take

    def counted(owner: Owner, records: list[InputRecord]) -> None:
        given.update(record.offset for record in records)
        take(owner, records)

    monkeypatch.setattr(Owner, "take", counted)
    runner = Runner(settings, {DEFAULT_PBX: Pbx()}, Metrics("processors"))
    running = asyncio.create_task(runner.run())

    async def position() -> int:
        return runner.next_offset(0) if runner.is_consuming(0) else -1

    await eventually(position, partial(operator.eq, written), 60)
    given.clear()
    webhooks = TopicPartition(kafka.topic_set.webhooks, 0)
    runner._consumer._fetcher._max_partition_fetch_bytes = 1  # a batch at a time
    runner._consumer.seek(webhooks, 0)
    log.webhook(300, start("900", "+41335550000", t=300))
    await append(kafka, log.records[written:])
    await eventually(position, partial(operator.eq, len(log.records)), 60)
    assert 1 <= sum(count for offset, count in given.items() if offset < written) < written / 2
    assert given[written] == 1
    running.cancel()
    await asyncio.wait({running})
