"""How fast answers come from a large call log: the service itself over HTTP, one request at a time, p50 and p99.

``READING_CALLS`` (2,000,000) calls of 90 days, 200 agents and 3 PBXs lie in the table; the day at hand has its share.
"""

import asyncio
import os
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import insert, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import create_async_engine

from bench.databases import database
from bench.filling import insertion
from bench.load import Connection
from bench.report import Line
from events.kafka import KafkaSettings
from projections.store import open_store
from projections.tables import agents, calls
from tests import postgres
from tests.system import System

CALLS = int(os.environ.get("READING_CALLS", "2000000"))
DAYS = 90
AGENTS = 200
PBXS = ("default", "geneva", "zurich")
OPEN = 60
REQUESTS = int(os.environ.get("READING_REQUESTS", "300"))
NOON_H = 12
WARM_UP = 20
SEED = 20261125

Row = dict[str, Any]
Paths = Callable[[random.Random], str]


async def fill(url: URL, topic: str, now: datetime) -> None:
    """Tables as the migrations make them; indexes of `calls` are made after the rows, which takes less time."""
    store = await open_store(url, topic)
    await store.close()
    engine = create_async_engine(url)
    if url.drivername.startswith("sqlite"):
        async with engine.connect() as connection:
            await connection.exec_driver_sql("pragma journal_mode=wal")
    async with engine.begin() as connection:
        for index in calls.indexes:
            await connection.run_sync(index.drop)
        await connection.exec_driver_sql(
            insertion(url.get_backend_name(), CALLS, DAYS, AGENTS, OPEN, int(now.timestamp()))
        )
        for index in calls.indexes:
            await connection.run_sync(index.create)
        await connection.execute(insert(agents), [_agent(pbx, number, now) for pbx in PBXS for number in range(AGENTS)])
    async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        # What filling left to write and to clear up is done before anything is measured.
        for statement in ("analyze",) if url.drivername.startswith("sqlite") else ("vacuum analyze", "checkpoint"):
            await connection.execute(text(statement))
    await engine.dispose()


def _agent(pbx: str, number: int, now: datetime) -> Row:
    extension = str(100 + number)
    named = {"email": f"{extension}@company.com", "email_at": now, "email_call": f"{0:024x}"}
    last = {"last_at": now, "last_call": f"{CALLS - 1:024x}", "partition": PBXS.index(pbx)}
    return {"pbx": pbx, "extension": extension, **named, **last}


def _span(rng: random.Random) -> str:
    begin = datetime.now(UTC) - timedelta(hours=rng.randrange(24, DAYS * 24))
    return f"from={begin:%Y-%m-%dT%H:%M:%SZ}&to={begin + timedelta(hours=8):%Y-%m-%dT%H:%M:%SZ}"


KINDS: dict[str, Paths] = {
    "agents": lambda _: "/api/v1/agents",
    "newest calls": lambda _: "/api/v1/calls",
    "calls of an agent": lambda rng: f"/api/v1/calls?pbx={rng.choice(PBXS)}&agent={100 + rng.randrange(AGENTS)}",
    "calls of a status": lambda rng: f"/api/v1/calls?status={rng.choice(['open', 'end_missed', 'ended'])}",
    "calls of an outcome": lambda rng: (
        f"/api/v1/calls?pbx={rng.choice(PBXS)}&outcome={rng.choice(['missed', 'answered'])}"
    ),
    "calls of a time": lambda rng: f"/api/v1/calls?{_span(rng)}",
    "calls of a number": lambda rng: f"/api/v1/calls?number=022{rng.randrange(200_000):07}",
    "calls to a number": lambda rng: f"/api/v1/calls?number=%2B41225550{rng.randrange(10):03}",
}


async def measure(kafka: KafkaSettings, folder: Path) -> list[Line]:
    """PostgreSQL (the one given, else one of its own), then SQLite."""
    lines: list[Line] = []
    with postgres.server() as server:
        async with database(server) as url:
            lines += await _measured(kafka, folder, url, "PostgreSQL", 50)
    sqlite = make_url(f"sqlite+aiosqlite:///{folder}/reading.sqlite")
    return lines + await _measured(kafka, folder, sqlite, "SQLite", 150)


async def _measured(kafka: KafkaSettings, folder: Path, url: URL, what: str, limit_ms: int) -> list[Line]:
    await fill(url, kafka.topic_set.call_sessions, datetime.now(UTC))
    own = folder / what
    own.mkdir()
    pbxs = own / "pbxs.toml"
    pbxs.write_text("".join(f'[pbx.{name}]\ntimezone = "{_zone(datetime.now(UTC))}"\n' for name in PBXS))
    database_url = url.render_as_string(hide_password=False)
    system = System(kafka, own, PROJECTIONS_DATABASE_URL=database_url, PBX_CONFIG=str(pbxs))
    system.start("projections")
    try:
        async with httpx.AsyncClient(base_url=system.board, timeout=60) as client:
            while not await answers(client):
                await asyncio.sleep(0.1)
        # A raw one: what the client itself takes is no part of the answer.
        port = int(system.board.rsplit(":", 1)[1])
        _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port)
        where = f"{what}, {CALLS:,} calls"
        lines = [await _line(connection, name, paths, where, limit_ms) for name, paths in KINDS.items()]
        connection.close()
        return lines
    finally:
        system.kill()


def _zone(now: datetime) -> str:
    """Where it is afternoon, and the day (the table's are UTC's) has had most of its calls, or all of them."""
    return "UTC" if now.hour >= NOON_H else "Etc/GMT+12"


async def answers(client: httpx.AsyncClient) -> bool:
    """Whether the service is up, its database and Kafka with it."""
    try:
        return (await client.get("/health")).is_success
    except httpx.TransportError:
        return False


async def _line(connection: Connection, name: str, paths: Paths, where: str, limit_ms: int) -> Line:
    rng = random.Random(SEED)
    taken: list[float] = []
    for number in range(WARM_UP + REQUESTS):
        asked = f"GET {paths(rng)} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
        began = time.perf_counter()
        status = await connection.exchange(asked)
        if number >= WARM_UP:
            taken.append(time.perf_counter() - began)
        if status != b"200":
            raise RuntimeError(f"{name}: answered {status.decode()}")
    taken.sort()
    p50, p99 = (taken[int(share * (len(taken) - 1))] * 1e3 for share in (0.5, 0.99))
    return Line(f"{name}, {where}, p50 / p99", f"{p50:.1f} / {p99:.1f} ms", f"{limit_ms} ms", f"{p99 / limit_ms:.2f}")
