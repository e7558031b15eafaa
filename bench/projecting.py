"""Projected events per second (consume, fold, rows and offsets in one commit), against bare upserts of its rows."""

import asyncio
import time
from pathlib import Path
from zoneinfo import ZoneInfo

from sqlalchemy.engine import make_url

from bench.report import Line, compared
from events import session_events
from events.kafka import KafkaSettings
from events.metrics import Metrics
from events.pbx import DEFAULT_PBX, Pbx
from events.session_events import FeedProgress
from processors.task import InputRecord
from projections.call_log import Told, row_of
from projections.feeds import Feeds
from projections.projector import Projector
from projections.settings import ProjectionsSettings
from projections.store import open_store
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
    """Rounds in turn, each on a fresh SQLite."""
    events = records()
    await append(kafka, events, kafka.topic_set.call_sessions)
    decoded = [session_events.decode(one.value or b"") for one in events]
    told = [
        Told(0, event, raw.value or b"")
        for event, raw in zip(decoded, events, strict=True)
        if not isinstance(event, FeedProgress)
    ]
    pairs = []
    for number in range(ROUNDS):
        ours = await _ours(kafka, folder / f"ours-{number}.sqlite", len(events), number)
        bare = await _bare(folder / f"bare-{number}.sqlite", told)
        pairs.append((len(told) / ours, len(told) / bare))
    return [compared("projected events, SQLite (bare: upserts)", "/s", pairs)]


async def _ours(kafka: KafkaSettings, path: Path, count: int, number: int) -> float:
    settings = ProjectionsSettings(
        **{name.lower(): value for name, value in kafka_environment(kafka).items()},  # type: ignore[arg-type]
        projections_application=f"bench-{kafka.kafka_topic_prefix}-{number}",
        projections_batch_records_max=BATCH,
    )
    store = await open_store(make_url(f"sqlite+aiosqlite:///{path}"), settings.topic_set.call_sessions)
    metrics = Metrics("projections")
    views = Views(store, Feeds(30, settings.kafka_topic_partitions), {DEFAULT_PBX: Pbx()})
    projector = Projector(settings, store, views, Stream("bench", metrics, 1, 1, 1), metrics)
    began = time.perf_counter()
    await projector.start()
    while (await store.positions()).get(0) is None or (await store.positions())[0].next_offset < count:
        await asyncio.sleep(0.02)
    seconds = time.perf_counter() - began
    await projector.stop()
    await store.close()
    return seconds


async def _bare(path: Path, told: list[Told]) -> float:
    """One upsert per event's row, `BATCH` to a commit, nothing else."""
    store = await open_store(make_url(f"sqlite+aiosqlite:///{path}"), "bare")
    zones = {DEFAULT_PBX: ZoneInfo("UTC")}
    rows = [row_of(one, zones, zones[DEFAULT_PBX]) for one in told]
    began = time.perf_counter()
    for first in range(0, len(rows), BATCH):
        async with store.writing() as connection:
            await store.put_calls(connection, rows[first : first + BATCH])
    seconds = time.perf_counter() - began
    await store.close()
    return seconds
