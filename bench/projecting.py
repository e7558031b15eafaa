"""Projected events per second (consume, fold, rows and offsets in one commit), against bare upserts of its rows."""

import asyncio
import sqlite3
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from bench.databases import database
from bench.report import Line, compared
from events.kafka import KafkaSettings
from events.memory import collect_garbage_seldom
from events.metrics import Metrics
from events.pbx import DEFAULT_PBX, Pbx
from processors.task import InputRecord
from projections.app import SWITCH_S
from projections.feeds import Feeds
from projections.folding import Advance, Rows
from projections.projector import Projector
from projections.settings import ProjectionsSettings
from projections.store import Store, open_store, prepare_sqlite
from projections.stream import Stream
from projections.upserts import Given
from projections.views import Views
from tests import postgres
from tests.builders import Log, end, run, start
from tests.system import append, kafka_environment

CALLS = 12_000
ROUNDS = 3
BATCH = 1_000
BARE_OFFSET = (
    "INSERT INTO offsets VALUES ('bare', $1, $2, NULL)"
    " ON CONFLICT (topic, partition) DO UPDATE SET next_offset = excluded.next_offset"
)


def records() -> list[InputRecord]:
    """What the processors would have written."""
    log = Log()
    for number in range(CALLS):
        log.webhook(number * 0.05, start(str(1000 + number % 200), f"+4122{number:07}", t=number // 20))
        log.webhook(number * 0.05, end(str(1000 + number % 200), f"+4122{number:07}", t=number // 20, duration=0))
    out = [one for batch in run(log.records).batches for one in batch.session_events]
    return [InputRecord(0, number, one.key, one.value, one.headers) for number, one in enumerate(out)]


async def measure(kafka: KafkaSettings, folder: Path) -> list[Line]:
    """On SQLite, where everything is in this process; the same with a client on the event stream; on PostgreSQL."""
    sys.setswitchinterval(SWITCH_S)
    collect_garbage_seldom()
    events = records()
    await append(kafka, events, kafka.topic_set.call_sessions)
    lines: list[Line] = []
    for what, clients in (("SQLite", 0), ("SQLite, one event stream", 1)):
        urls = [sqlite(folder / f"{what}-{number}.sqlite") for number in range(3 * ROUNDS)]
        lines += await _rounds(kafka, len(events), what, urls, clients)
    with postgres.server() as server:
        async with AsyncExitStack() as stack:
            urls = [await stack.enter_async_context(database(server)) for _ in range(3 * ROUNDS)]
            lines += await _rounds(kafka, len(events), "PostgreSQL", urls, 0)
    return lines


def sqlite(path: Path) -> URL:
    """Of a file."""
    return make_url(f"sqlite+aiosqlite:///{path}")


async def _rounds(kafka: KafkaSettings, count: int, what: str, urls: Sequence[URL], clients: int) -> list[Line]:
    """Rounds in turn, each on a fresh database; the bare side writes the rows that ours wrote, in as many commits."""
    rates, driven, costs = [], [], []
    for url, bare_url, driver_url in zip(urls[::3], urls[1::3], urls[2::3], strict=True):
        ours = await _ours(kafka, url, count, clients)
        bare = await _bare(bare_url, ours.written)
        alone = await _driver(driver_url, ours.written)
        rates.append((1 / ours.event_s, 1 / bare.event_s))
        driven.append((1 / ours.event_s, 1 / alone.event_s))
        costs.append((ours.event_cpu_s * 1e6, bare.event_cpu_s * 1e6))
    return [
        compared(f"projected events, {what} (bare: upserts)", "/s", rates),
        compared(f"the same, {what} (bare: the driver alone)", "/s", driven),
        compared(f"CPU of an event, {what} (bare: its upserts)", "µs", costs),
    ]


@dataclass(frozen=True, slots=True)
class Batch:
    """What one commit wrote, as the driver takes it and as it was folded."""

    given: Given
    rows: Rows
    steps: list[Advance]

    @property
    def end(self) -> int:
        """The next offset, of the one partition that there is."""
        return self.steps[-1].position.next_offset


Written = list[Batch]


@dataclass(slots=True)
class Side:
    """How long an event took on one side, what it cost this process, and the rows of each of its commits."""

    event_s: float
    event_cpu_s: float
    written: Written


class Recorded(Store):
    """A store that remembers what was put into it, and when what was committed."""

    def __init__(self, engine: AsyncEngine, topic: str) -> None:
        """Nothing yet."""
        super().__init__(engine, topic)
        self.written: Written = []
        self._given: list[tuple[Given, Rows]] = []
        self.committed: asyncio.Queue[int] = asyncio.Queue()

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """As the store does."""
        async with super().writing() as connection:
            yield connection
        if self.written:
            self.committed.put_nowait(self.written[-1].end)

    def given(self, rows: Rows) -> Given:
        """As the store does."""
        given = super().given(rows)
        self._given.append((given, rows))
        return given

    async def put(self, connection: AsyncConnection, given: Given, steps: Iterable[Advance]) -> None:
        """As the store does."""
        kept = list(steps)
        self.written.append(Batch(given, next(rows for one, rows in self._given if one is given), kept))
        await super().put(connection, given, kept)


class Watch:
    """Time and this process's CPU per event, from the end of the first commit on: no joining of a group."""

    def __init__(self, first: int) -> None:
        """Begins now."""
        self._first = first
        self._began, self._began_cpu = time.perf_counter(), time.process_time()

    def side(self, count: int, written: Written) -> Side:
        """Ends now."""
        seconds, cpu_s = time.perf_counter() - self._began, time.process_time() - self._began_cpu
        return Side(seconds / (count - self._first), cpu_s / (count - self._first), written)


async def _ours(kafka: KafkaSettings, url: URL, count: int, clients: int) -> Side:
    settings = ProjectionsSettings(
        **{name.lower(): value for name, value in kafka_environment(kafka).items()},  # type: ignore[arg-type]
        projections_application=f"bench-{uuid.uuid4().hex[:8]}",
        projections_batch_records_max=BATCH,
    )
    opened = await open_store(url, settings.topic_set.call_sessions)
    store = Recorded(opened.engine, settings.topic_set.call_sessions)
    metrics = Metrics("projections")
    views = Views(store, Feeds(30, settings.kafka_topic_partitions), {DEFAULT_PBX: Pbx()})
    stream = Stream("bench", metrics, 1, 100, 100, 100_000_000)
    projector = Projector(settings, store, views, stream, metrics)
    reading = [asyncio.create_task(_read(await stream.subscribe(None, views.snapshot))) for _ in range(clients)]
    await projector.start()
    watch = Watch(await store.committed.get())
    while await store.committed.get() < count:
        pass
    side = watch.side(count, store.written)
    await projector.stop()
    for one in reading:
        one.cancel()
    await store.close()
    return side


async def _read(messages: AsyncIterator[bytes]) -> None:
    async for _ in messages:
        pass


async def _bare(url: URL, written: Written) -> Side:
    """The same rows, made beforehand, in the same transactions, by SQLAlchemy's ``execute(upsert, rows)``."""
    store = await open_store(url, "bare")
    watch = Watch(0)
    for batch in written:
        async with store.writing() as connection:
            tables = batch.rows.calls, batch.rows.revisions, batch.rows.agents
            for upsert, rows in zip(store.upserts, tables, strict=True):
                await connection.execute(upsert.statement, rows)
            await store.advance(connection, batch.steps)
        if batch is written[0]:
            watch = Watch(batch.end)
    side = watch.side(written[-1].end, [])
    await store.close()
    return side


async def _driver(url: URL, written: Written) -> Side:
    """The same once more, by the database's driver alone and on no thread of its own."""
    store = await open_store(url, "bare")
    await store.close()
    sqls = [upsert.sql for upsert in store.upserts]
    put = _with_sqlite3 if store.engine.dialect.name == "sqlite" else _with_asyncpg
    watch = Watch(0)
    async for batch in put(url, sqls, written):
        if batch is written[0]:
            watch = Watch(batch.end)
    return watch.side(written[-1].end, [])


async def _with_sqlite3(url: URL, sqls: Sequence[str], written: Written) -> AsyncIterator[Batch]:
    connection = sqlite3.connect(str(url.database), isolation_level=None)
    prepare_sqlite(connection.cursor(), time.sleep)
    for batch in written:
        connection.execute("BEGIN IMMEDIATE")
        for sql, rows in zip(sqls, batch.given, strict=True):
            connection.executemany(sql, rows)
        connection.execute("REPLACE INTO offsets VALUES ('bare', 0, ?, NULL)", (batch.end,))
        connection.execute("COMMIT")
        yield batch
    connection.close()


async def _with_asyncpg(url: URL, sqls: Sequence[str], written: Written) -> AsyncIterator[Batch]:
    connection = await asyncpg.connect(url.set(drivername="postgresql").render_as_string(hide_password=False))
    for batch in written:
        async with connection.transaction():
            for sql, rows in zip(sqls, batch.given, strict=True):
                await connection.executemany(sql, rows)
            await connection.execute(BARE_OFFSET, 0, batch.end)
        yield batch
    await connection.close()
