"""The broker's machine fails and the webhooks' log loses its end: what comes at offsets used before is not skipped."""

import asyncio
import operator
import struct
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from deploy.local.broker import Broker
from deploy.local.brokers import AnyBroker
from events import envelope, session_events, times
from events.kafka import KafkaSettings, ensure_topics
from events.metrics import Metrics
from events.pbx import DEFAULT_PBX, Pbx
from events.session_events import CallStarted
from processors.markers import undecided
from processors.owner import Owner
from processors.runner import Runner
from processors.settings import ProcessorsSettings
from processors.task import InputRecord, Task
from processors.transaction import Transactions
from tests.builders import T0, Log, start
from tests.system import kafka_environment, producing, read_committed
from tests.waiting import eventually

BATCH_HEAD = struct.Struct(">qi")
"""Base offset and length of what follows: a record batch's first twelve bytes."""
KEPT = 25
CALLS = tuple(range(0, 60, 5))
AHEAD_S = 60


def traffic(log: Log, calls: Sequence[int], began_s: float = 0) -> Sequence[InputRecord]:
    """A start each five seconds, each of another agent; and what of it was not there before."""
    before = len(log.records)
    for number in calls:
        log.webhook(began_s + number, start(str(200 + number), f"+4122555{number:04}", t=began_s + number))
    return log.records[before:]


async def write(kafka: KafkaSettings, records: Sequence[InputRecord]) -> None:
    """Each a batch of its own, stamped when ingest received it."""
    async with producing(kafka) as producer:
        for record in records:
            stamp_ms = times.to_us(envelope.decode(record.headers).time) // 1000
            await producer.send_and_wait(
                kafka.topic_set.webhooks,
                record.value,
                record.key,
                partition=0,
                timestamp_ms=stamp_ms,
                headers=list(record.headers),
            )


def cut(broker: AnyBroker, kafka: KafkaSettings, batches: int) -> None:
    """Leave only the first batches of partition 0: what was not flushed went with the machine's memory."""
    (segment,) = Path(broker.folder, "data", f"{kafka.topic_set.webhooks}-0").glob("*.log")
    content, end = segment.read_bytes(), 0
    for _ in range(batches):
        _, length = BATCH_HEAD.unpack_from(content, end)
        end += BATCH_HEAD.size + length
    assert end < len(content)
    segment.write_bytes(content[:end])


async def started(kafka: KafkaSettings) -> list[str]:
    """The agents of whom a start was told, in order."""
    records = await read_committed(kafka, kafka.topic_set.call_sessions)
    told = [session_events.decode(one.value) for one in records]
    return [one.session.agent.extension or "" for one in told if isinstance(one, CallStarted)]


def settings_of(kafka: KafkaSettings) -> ProcessorsSettings:
    """The processors of these topics."""
    return ProcessorsSettings(
        **{name.lower(): value for name, value in kafka_environment(kafka).items()},  # type: ignore[arg-type]
        processors_application=f"processors-{kafka.kafka_topic_prefix}",
        processors_session_timeout_s=6,
    )


async def position(runner: Runner) -> int:
    """How far partition 0 is worked out; -1 while nothing is consumed."""
    return runner.next_offset(0) if runner.is_consuming(0) else -1


async def end(running: "asyncio.Task[None]") -> None:
    """Stop the processors."""
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


def _flood(monkeypatch: pytest.MonkeyPatch, flood: Callable[[], Awaitable[None]], flooded: asyncio.Event) -> None:
    """Have the flood come after the loss is seen and before the log's end is asked for."""
    take_over = Owner._take_over

    async def later(owner: Owner, transactions: Transactions) -> Task:
        if owner._has_lost_tail and not flooded.is_set():
            await flood()
            flooded.set()
        return await take_over(owner, transactions)

    monkeypatch.setattr(Owner, "_take_over", later)


@pytest.mark.parametrize("meanwhile", ["running", "stopped", "flooded", "ahead"])
async def test_what_comes_at_offsets_used_before_is_worked_out_and_the_loss_is_counted(
    own_broker: AnyBroker, topic_prefix: str, meanwhile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`flooded`: when the partition is taken over again, more has come than was lost.

    `ahead`: ingest's clock is, of the broker's, by more than the broker was away.
    """
    if not isinstance(own_broker, Broker):
        pytest.skip("the log of a broker in a container is not ours to cut")
    kafka = KafkaSettings(
        kafka_bootstrap_servers=own_broker.bootstrap_servers, kafka_topic_prefix=topic_prefix, kafka_topic_partitions=1
    )
    await ensure_topics(kafka)
    settings, metrics = settings_of(kafka), Metrics("processors")

    def run() -> tuple[Runner, "asyncio.Task[None]"]:
        runner = Runner(settings, {DEFAULT_PBX: Pbx()}, metrics)
        return runner, asyncio.create_task(runner.run())

    began_s = AHEAD_S + (datetime.now(UTC) - T0).total_seconds() if meanwhile == "ahead" else 0
    log = Log(0, now_s=began_s)
    runner, running = run()
    written = traffic(log, CALLS, began_s)
    await write(kafka, written)

    await eventually(partial(position, runner), lambda seen: seen == len(written), 60)
    # A broker that is killed now can leave the markers out, and the webhooks of that transaction are about to be lost.
    await eventually(partial(undecided, settings, 0), operator.not_)
    if meanwhile == "stopped":
        await end(running)
    new = [CALLS[-1] + 5 * number for number in range(1, 3 if meanwhile != "flooded" else 40)]
    again = traffic(log, new, began_s)
    assert (KEPT + len(again) < len(written)) == (meanwhile != "flooded"), "at offsets that were used before"
    flooded = asyncio.Event()
    if meanwhile == "flooded":
        _flood(monkeypatch, lambda: write(kafka, again), flooded)
    own_broker.kill()
    cut(own_broker, kafka, KEPT)
    own_broker.spawn()
    await asyncio.to_thread(own_broker.wait_until_answering)
    await (asyncio.wait_for(flooded.wait(), 60) if meanwhile == "flooded" else write(kafka, again))
    if meanwhile == "stopped":
        runner, running = run()
    await eventually(partial(position, runner), lambda seen: seen == KEPT + len(again), 60)
    assert await started(kafka) == [str(200 + number) for number in (*CALLS, *new)], "each once"
    assert metrics.registry.get_sample_value("threecx_processors_lost_tails_total") == 1
    await end(running)


async def test_a_new_leader_that_tells_of_too_low_an_end_has_lost_nothing(
    kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it has heard from the other copies; the reader begins at the beginning again meanwhile."""
    metrics, asked = Metrics("processors"), asyncio.Event()
    runner = Runner(settings_of(kafka), {DEFAULT_PBX: Pbx()}, metrics)
    running = asyncio.create_task(runner.run())
    log = Log(0)
    await write(kafka, traffic(log, CALLS))
    await eventually(partial(position, runner), lambda seen: seen == len(log.records), 60)

    def too_low(_consumer: AIOKafkaConsumer, _partition: TopicPartition) -> int:
        asked.set()
        return KEPT

    take = Owner.take

    def with_a_new_leader(owner: Owner, records: list[InputRecord]) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(AIOKafkaConsumer, "highwater", too_low)
            take(owner, records)

    monkeypatch.setattr(Owner, "take", with_a_new_leader)
    runner._consumer.seek(TopicPartition(kafka.topic_set.webhooks, 0), 0)
    await asyncio.wait_for(asked.wait(), 60)
    monkeypatch.setattr(Owner, "take", take)
    new = [CALLS[-1] + 5 * number for number in range(1, 3)]
    await write(kafka, traffic(log, new))
    await eventually(partial(position, runner), lambda seen: seen == len(log.records), 60)
    assert await started(kafka) == [str(200 + number) for number in (*CALLS, *new)], "each once"
    assert not metrics.registry.get_sample_value("threecx_processors_lost_tails_total")
    await end(running)
