"""A replay of five times as much: its time against five times the time, and what memory it takes.

Five replays of the short log run one after the other beside the one of the long log: a machine that is shared has slow
minutes, and they are to hit both. Each replay is a process of its own, as an operator starts it. Closed calls are kept
for a few minutes only, so that the state is as large at the end of the short log as at that of the long one.
"""

import asyncio
import os
import re
import sys
import time
from statistics import fmean

from aiokafka import AIOKafkaProducer

from bench.report import Line
from events.kafka import KafkaSettings, ensure_topics, forwarder_producer
from tests.builders import Log, end, start
from tests.system import kafka_environment

RECORDS = int(os.environ.get("BENCH_REPLAY_RECORDS", "100000"))
"""Records of the shorter log; with 1,000,000 it takes about twenty minutes."""
TIMES = 5
AGENTS = 400
CLOSED_KEPT_S = 120
CHUNK_CALLS = 5_000
MIB = 1024 * 1024


async def measure(kafka: KafkaSettings) -> list[Line]:
    """Replay the short log, again and again, and beside it the long one."""
    short, long = [await _filled(kafka, count) for count in (RECORDS, RECORDS * TIMES)]
    (long_s, long_cpu_s, long_peak), again = await asyncio.gather(_replayed(long, 0), _one_after_the_other(short))
    short_s, short_cpu_s, short_peak = (fmean(one) for one in zip(*again, strict=True))
    return [
        Line(
            f"replay of {RECORDS * TIMES:,} records (bare: of {RECORDS:,}, the mean of {TIMES} beside it), time",
            f"{long_s:,.1f} s",
            f"{short_s:,.1f} s",
            f"{long_s / short_s:.2f}",
        ),
        Line("the same, CPU", f"{long_cpu_s:,.1f} s", f"{short_cpu_s:,.1f} s", f"{long_cpu_s / short_cpu_s:.2f}"),
        Line(
            "the same, memory at its highest",
            f"{long_peak / MIB:,.0f} MiB",
            f"{short_peak / MIB:,.0f} MiB",
            f"{long_peak / short_peak:.2f}",
        ),
    ]


async def _filled(kafka: KafkaSettings, count: int) -> KafkaSettings:
    """A topic set of its own with so many webhooks in one partition."""
    prefix = f"{kafka.kafka_topic_prefix}-replay-{count}"
    fresh = kafka.model_copy(update={"kafka_topic_prefix": prefix, "kafka_topic_partitions": 1})
    await ensure_topics(fresh)
    await _fill(fresh, count)
    return fresh


async def _one_after_the_other(kafka: KafkaSettings) -> list[tuple[float, float, int]]:
    return [await _replayed(kafka, number) for number in range(TIMES)]


async def _fill(kafka: KafkaSettings, count: int) -> None:
    """Write so many records: starts, ends and ticks, some 50 webhooks a second."""
    producer = AIOKafkaProducer(**forwarder_producer(kafka))
    await producer.start()
    log, number, written = Log(), 0, 0
    while written < count:
        for _ in range(CHUNK_CALLS):
            agent, party, t = str(1000 + number % AGENTS), f"+4122{number:07}", number * 0.04
            log.webhook(t, start(agent, party, t=t))
            log.webhook(t + 0.02, end(agent, party, t=t, duration=0, callId=str(number)))
            number += 1
        part, log.records = log.records[: count - written], []
        topic = kafka.topic_set.webhooks
        sent = [await producer.send(topic, one.value, one.key, partition=0, headers=list(one.headers)) for one in part]
        await asyncio.gather(*sent)
        written += len(part)
    await producer.stop()


async def _replayed(kafka: KafkaSettings, number: int) -> tuple[float, float, int]:
    """Seconds from start to end of the command, of its CPU, and its resident memory in bytes at the highest."""
    to_prefix = f"{kafka.kafka_topic_prefix}-{number}"
    environment = kafka_environment(kafka) | {"PROCESSORS_CLOSED_KEPT_S": str(CLOSED_KEPT_S)}
    began = time.perf_counter()
    # GNU time would have to be installed; the process itself tells its peak at exit.
    watched = "import atexit, resource, runpy, sys; "
    watched += "used = lambda: resource.getrusage(resource.RUSAGE_SELF); "
    watched += "atexit.register(lambda: print('used', used().ru_utime + used().ru_stime, used().ru_maxrss)); "
    watched += "sys.argv[0] = 'processors'; runpy.run_module('processors', run_name='__main__')"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", watched, "replay", "--to-prefix", to_prefix),
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    said, _ = await process.communicate()
    seconds = time.perf_counter() - began
    used = re.search(rb"used ([\d.]+) (\d+)", said)
    if process.returncode or used is None:
        message = f"the replay ended with {process.returncode}: {said.decode()}"
        raise AssertionError(message)
    return seconds, float(used[1]), int(used[2]) * 1024
