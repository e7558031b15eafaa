"""Projected events per second (consume, fold, rows and offsets in one commit), against bare upserts of its rows."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection

from bench.report import Line, compared
from events.kafka import KafkaSettings
from events.metrics import Metrics
from events.pbx import DEFAULT_PBX, Pbx
from processors.task import InputRecord
from projections.feeds import Feeds
from projections.folding import Advance, Rows
from projections.projector import Projector
from projections.settings import ProjectionsSettings
from projections.store import Store, open_store
from projections.stream import Stream
from projections.views import Views
from tests.builders import Log, end, run, start
from tests.system import append, kafka_environment

CALLS = 8_000
ROUNDS = 3
BATCH = 1_000


def records() -> list[InputRecord]:
    """What the processors would have written."""
    log = Log()
    for number in range(CALLS):
        log.webhook(number * 0.05, start(str(1000 + number % 200), f"+4122{number:08}", t=number // 20))
        log.webhook(number * 0.05, end(str(1000 + number % 200), f"+4122{number:08}", t=number // 20, duration=0))
    out = [one for batch in run(log.records).batches for one in batch.session_events]
    return [InputRecord(0, number, one.key, one.value, one.headers) for number, one in enumerate(out)]


async def measure(kafka: KafkaSettings, folder: Path) -> list[Line]:
    """Rounds in turn, each on a fresh SQLite; the bare side writes the rows that ours wrote, in as many commits."""
    events = records()
    await append(kafka, events, kafka.topic_set.call_sessions)
    pairs, costs = [], []
    for number in range(ROUNDS):
        ours = await _ours(kafka, folder / f"ours-{number}.sqlite", len(events), number)
        bare = await _bare(folder / f"bare-{number}.sqlite", ours.written)
        pairs.append((len(events) / ours.seconds, len(events) / bare.seconds))
        costs.append((ours.cpu_s / len(events) * 1e6, bare.cpu_s / len(events) * 1e6))
    return [
        compared("projected events, SQLite (bare: upserts)", "/s", pairs),
        compared("CPU of an event (bare: its upserts)", "µs", costs),
    ]


@dataclass(slots=True)
class Side:
    """How long one side took, what it cost, and the rows of each of its commits."""

    seconds: float
    cpu_s: float
    written: list[tuple[Rows, list[Advance]]]


class Recorded(Store):
    """A store that remembers what was put into it."""

    written: list[tuple[Rows, list[Advance]]]

    async def put(self, connection: AsyncConnection, rows: Rows, steps: Iterable[Advance]) -> None:
        """As the store does."""
        kept = list(steps)
        self.written.append((rows, kept))
        await super().put(connection, rows, kept)


async def _ours(kafka: KafkaSettings, path: Path, count: int, number: int) -> Side:
    settings = ProjectionsSettings(
        **{name.lower(): value for name, value in kafka_environment(kafka).items()},  # type: ignore[arg-type]
        projections_application=f"bench-{kafka.kafka_topic_prefix}-{number}",
        projections_batch_records_max=BATCH,
    )
    opened = await open_store(make_url(f"sqlite+aiosqlite:///{path}"), settings.topic_set.call_sessions)
    store = Recorded(opened.engine, settings.topic_set.call_sessions)
    store.written = []
    metrics = Metrics("projections")
    views = Views(store, Feeds(30, settings.kafka_topic_partitions), {DEFAULT_PBX: Pbx()})
    projector = Projector(settings, store, views, Stream("bench", metrics, 1, 1, 1), metrics)
    began, began_cpu = time.perf_counter(), time.process_time()
    await projector.start()
    while (await store.positions()).get(0) is None or (await store.positions())[0].next_offset < count:
        await asyncio.sleep(0.02)
    side = Side(time.perf_counter() - began, time.process_time() - began_cpu, store.written)
    await projector.stop()
    await store.close()
    return side


async def _bare(path: Path, written: Sequence[tuple[Rows, list[Advance]]]) -> Side:
    """The same rows, made beforehand, in the same transactions, and nothing else."""
    topic = "bare"
    store = await open_store(make_url(f"sqlite+aiosqlite:///{path}"), topic)
    began, began_cpu = time.perf_counter(), time.process_time()
    for rows, steps in written:
        async with store.writing() as connection:
            await store.put(connection, rows, steps)
    side = Side(time.perf_counter() - began, time.process_time() - began_cpu, [])
    await store.close()
    return side
