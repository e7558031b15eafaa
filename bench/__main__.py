"""``make bench``: every benchmark in one run, on a real broker; prints a table of ratios."""

import asyncio
import logging
import sys
import tempfile
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog
import uvloop

from bench import accepting, latency, pairing, projecting, reading, replaying, state, streaming
from bench.report import Line, shown
from deploy.local.broker import say_on_stderr
from deploy.local.brokers import running
from events.kafka import KafkaSettings, ensure_topics
from processors import task

PARTITIONS = 12
ON_UVLOOP = {"accepting"}
"""Mostly a load generator, which shares the machine with what it measures and is to take little of it."""
Benchmark = Callable[[KafkaSettings, Path], Awaitable[list[Line]]]


async def _pairing(kafka: KafkaSettings, _folder: Path) -> list[Line]:
    return await pairing.measure(kafka)


async def _replaying(kafka: KafkaSettings, _folder: Path) -> list[Line]:
    return await replaying.measure(kafka)


BENCHMARKS: dict[str, Benchmark] = {
    "accepting": accepting.measure,
    "pairing": _pairing,
    "state": state.measure,
    "replaying": _replaying,
    "projecting": projecting.measure,
    "latency": latency.measure,
    "reading": reading.measure,
    "streaming": streaming.measure,
}


async def _measure(name: str, servers: str, folder: Path) -> list[Line]:
    kafka = KafkaSettings(
        kafka_bootstrap_servers=servers,
        kafka_topic_prefix=f"bench-{uuid.uuid4().hex[:8]}",
        kafka_topic_partitions=PARTITIONS,
    )
    await ensure_topics(kafka)
    own = folder / name
    own.mkdir()
    return await BENCHMARKS[name](kafka, own)


def main(names: list[str]) -> None:
    """Run the named benchmarks (none named: all) one after the other."""
    # Its own lines go to stderr; what the measured code logs in this process is not the point.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    lines: list[Line] = []
    with (
        tempfile.TemporaryDirectory(prefix="callstream-bench-") as folder,
        running(Path(folder) / "kafka") as broker,
    ):
        for name in names or list(BENCHMARKS):
            say_on_stderr(f"measuring {name}")
            run = uvloop.run if name in ON_UVLOOP else asyncio.run
            lines += run(_measure(name, broker.bootstrap_servers, Path(folder)))
    print(shown(lines))
    is_compiled = not str(task.__file__).endswith(".py")
    print(f"Inner loops: {'compiled, as in the image' if is_compiled else 'interpreted'}.")


if __name__ == "__main__":
    main(sys.argv[1:])
