"""A large state: what an open call costs in memory, an event in time, and how fast the state comes back.

Memory and time are of a process of its own; the restore is compared with a bare drain of the same changelog.
"""

import asyncio
import gc
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from bench.report import Line, compared
from events.envelope import Envelope, Type, encode
from events.kafka import KafkaSettings, committed_reader, ensure_topics, forwarder_producer
from events.memory import collect_garbage_seldom
from events.pbx import DEFAULT_PBX, Pbx
from processors.restore import restored_task
from processors.settings import ProcessorsSettings
from processors.task import Batch, InputRecord
from tests.builders import at, cut, end, new_task, start
from tests.system import kafka_environment

CALLS = int(os.environ.get("BENCH_OPEN_CALLS", "200000"))
"""Open calls; 1,000,000 takes some minutes more."""
FEW = 1_000
CALLS_PER_AGENT = 1
TIMED = 2_000
PACE_S = 0.0005
"""Between two webhooks: all of them lie within the grace, so that every call stays open."""
ROUNDS = 3
BATCH = 200


async def measure(kafka: KafkaSettings, folder: Path) -> list[Line]:
    """Cost per event with few and with many calls open, memory per call, restore against a drain."""
    few, many = _child(FEW), _child(CALLS)
    lines = [
        Line(
            f"cost of an event, {CALLS:,} calls open (bare: {FEW:,})",
            f"{many['event_us']:.0f} µs",
            f"{few['event_us']:.0f} µs",
            f"{many['event_us'] / few['event_us']:.2f}",
        ),
        Line(f"memory of an open call, of {CALLS:,}", f"{many['bytes_per_call']:.0f} B", "-", "-"),
    ]
    pairs = await _restores(kafka, folder)
    return [*lines, compared(f"restored calls, of {CALLS:,} (bare: drain)", "/s", pairs)]


def _child(calls: int) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.state", str(calls)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(ran.stdout)
    return found


def _starts(calls: int) -> Iterator[InputRecord]:
    for number in range(calls):
        body = start(str(1000 + number % max(1, calls // CALLS_PER_AGENT)), f"+4122{number:07}", t=number * PACE_S)
        yield _record(number, body)


def _record(number: int, body: dict[str, object]) -> InputRecord:
    identity = str(uuid.UUID(int=number))
    said = Envelope(
        identity, DEFAULT_PBX, Type.WEBHOOK_RECEIVED, at(number * PACE_S), "application/json", "ingest-1", number
    )
    return InputRecord(0, number, DEFAULT_PBX.encode(), json.dumps(body).encode(), encode(said))


def _state(calls: int) -> None:
    """Open so many calls in this process; print what one takes, and what start and end of one more do."""
    collect_garbage_seldom()
    task = new_task()
    more: list[InputRecord] = []
    for number in range(TIMED):
        # None of the agents that have an open call, else what is timed is a second call, with a million only.
        agent, party, t = f"9{number:06}", f"+4133{number:07}", (calls + number) * PACE_S
        more.append(_record(calls + 2 * number, start(agent, party, t=t)))
        more.append(_record(calls + 2 * number + 1, end(agent, party, t=t, duration=0)))
    gc.collect()
    before = _resident()
    buffer: list[InputRecord] = []
    for record in _starts(calls):
        buffer.append(record)
        if len(buffer) == BATCH:
            task.process(buffer)
            buffer.clear()
    gc.collect()
    per_call = (_resident() - before) / calls
    took = []
    for part in cut(more, BATCH):
        # The process's own time: nothing is waited for, and others may run beside it.
        began = time.process_time()
        task.process(part)
        took.append((time.process_time() - began) / len(part))
    print(json.dumps({"bytes_per_call": per_call, "event_us": sorted(took)[len(took) // 2] * 1e6}))


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def _restores(kafka: KafkaSettings, _folder: Path) -> list[tuple[float, float]]:
    fresh = kafka.model_copy(update={"kafka_topic_prefix": f"{kafka.kafka_topic_prefix}-state"})
    await ensure_topics(fresh)
    settings = ProcessorsSettings(
        **{name.lower(): value for name, value in kafka_environment(fresh).items()}  # type: ignore[arg-type]
    )
    collect_garbage_seldom()
    await _fill(fresh)
    pairs = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        task = await restored_task(settings, {DEFAULT_PBX: Pbx()}, 0)
        ours = time.perf_counter() - began
        if task.open_calls != CALLS:
            message = f"{task.open_calls} calls restored of {CALLS}"
            raise AssertionError(message)
        del task
        gc.collect()
        pairs.append((CALLS / ours, CALLS / await _drained(fresh)))
    return pairs


async def _fill(kafka: KafkaSettings) -> None:
    """The changelog of a task with so many open calls."""
    producer = AIOKafkaProducer(**forwarder_producer(kafka))
    await producer.start()
    task = new_task()
    records = list(_starts(CALLS))
    for part in cut(records, BATCH):
        await _send(producer, kafka.topic_set.changelog, task.process(part))
        await asyncio.sleep(0)
    await producer.stop()


async def _send(producer: AIOKafkaProducer, topic: str, batch: Batch) -> None:
    builder = producer.create_batch()
    deliveries = []
    for key, value in batch.changelog.items():
        if builder.append(key=key, value=value, timestamp=None) is None:
            deliveries.append(await producer.send_batch(builder, topic, partition=0))
            builder = producer.create_batch()
            builder.append(key=key, value=value, timestamp=None)
    deliveries.append(await producer.send_batch(builder, topic, partition=0))
    await asyncio.gather(*deliveries)


async def _drained(kafka: KafkaSettings) -> float:
    """Seconds to read the same changelog and do nothing with it."""
    changelog = TopicPartition(kafka.topic_set.changelog, 0)
    began = time.perf_counter()
    consumer = AIOKafkaConsumer(**committed_reader(kafka), group_id=None)
    await consumer.start()
    consumer.assign([changelog])
    last = (await consumer.end_offsets([changelog]))[changelog]
    await consumer.seek_to_beginning(changelog)
    while await consumer.position(changelog) < last:
        await consumer.getmany(changelog, timeout_ms=500, max_records=10_000)
    seconds = time.perf_counter() - began
    await consumer.stop()
    return seconds


if __name__ == "__main__":
    _state(int(sys.argv[1]))
