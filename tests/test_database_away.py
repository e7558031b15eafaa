"""A database that is away when the projections start is waited for; one that is set wrongly is told at once."""

import asyncio
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from deploy.local.broker import free_port
from events.away import GAVE_UP
from events.kafka import KafkaSettings
from events.settings import ConfigurationError
from projections.reached import is_away
from projections.store import open_store, store_at
from tests.postgres import Cluster, own_cluster
from tests.system import System, kafka_environment
from tests.waiting import eventually


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with own_cluster() as running:
        yield running


@pytest.fixture(scope="module")
def guarded(cluster: Cluster) -> Cluster:
    """With a role that needs a password, and one that may make no tables."""
    hba = cluster.data / "pg_hba.conf"
    hba.write_text("host all locked 127.0.0.1/32 scram-sha-256\n" + hba.read_text("utf-8"))
    asyncio.run(_guard(cluster))
    return cluster


async def _guard(cluster: Cluster) -> None:
    roles = ("create role locked login password 'right'", "create role reader login")
    latin = "create database latin encoding 'LATIN1' lc_collate 'C' lc_ctype 'C' template template0"
    await _done(f"{cluster.url}/postgres", *roles, "create database empty", latin, "select pg_reload_conf()")
    await _done(f"{cluster.url}/empty", "revoke create on schema public from public")


async def _done(url: str, *statements: str) -> None:
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        for statement in statements:
            await connection.execute(text(statement))
    await engine.dispose()


async def test_projections_that_start_before_their_database_wait_for_it_and_say_so(
    cluster: Cluster, kafka: KafkaSettings, tmp_path: Path
) -> None:
    cluster.stop()
    (cluster.data / "standby.signal").touch()
    (cluster.data / "postgresql.auto.conf").write_text("hot_standby = off\n")
    system = System(kafka, tmp_path, PROJECTIONS_DATABASE_URL=f"{cluster.url}/postgres", LOG_FORMAT="json")
    system.start("projections")
    async with httpx.AsyncClient(base_url=system.board) as client:

        async def seen() -> tuple[int, int]:
            try:
                return (await client.get("/")).status_code, (await client.get("/health")).status_code
            except httpx.TransportError:
                return 0, 0

        try:
            await eventually(seen, lambda status: status == (200, 503))
            assert (await client.get("/api/v1/agents")).status_code == httpx.codes.SERVICE_UNAVAILABLE
            assert "threecx_projections_database_up 0.0" in (await client.get("/metrics")).text
            cluster.start(lets_in=False)
            assert await seen() == (200, 503), "it starts up, and lets nobody in"
            cluster.stop()
            (cluster.data / "standby.signal").unlink()
            cluster.start()
            await eventually(seen, lambda status: status == (200, 200))
            assert (await client.get("/api/v1/agents")).json()["agents"] == []
        finally:
            assert system.stop()["projections"] == 0
    told = (tmp_path / "projections.log").read_text("utf-8")
    assert told.count("what is needed is away; waiting") == 1, "now and then, not at each attempt"
    assert "what was needed is there" in told


def test_after_its_patience_the_start_ends_with_a_status_that_lets_it_be_started_again(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    environment = {
        **kafka_environment(kafka),
        "DATA_DIR": str(tmp_path),
        "PROJECTIONS_PORT": str(free_port()),
        "PROJECTIONS_DATABASE_URL": f"postgresql://callstream:secret@127.0.0.1:{free_port()}/callstream",
        "PROJECTIONS_DATABASE_WAIT_S": "0",
    }
    words = [sys.executable, "-m", "projections"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == GAVE_UP, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("projections: the database did not come within PROJECTIONS_DATABASE_WAIT_S, 0 s: postgresql")
    assert "refused" in last
    assert "secret" not in done.stderr


@pytest.mark.parametrize(
    ("who", "where", "complaint"),
    [
        ("callstream", "nowhere", 'database "nowhere" does not exist'),
        ("nobody", "postgres", 'role "nobody" does not exist'),
        ("locked:wrong", "postgres", 'password authentication failed for user "locked"'),
        ("reader", "empty", "permission denied for schema public"),
        ("callstream", "postgres?ssl=require", "rejected SSL upgrade"),
        ("callstream", "latin", "its encoding is LATIN1, and names come in any script"),
    ],
)
async def test_what_no_time_cures_is_told_at_once(guarded: Cluster, who: str, where: str, complaint: str) -> None:
    url = make_url(f"{guarded.url}/{where}".replace("callstream@", f"{who}@"))
    with pytest.raises(ConfigurationError) as error:
        await open_store(url, "sessions")
    assert str(error.value).startswith("PROJECTIONS_DATABASE_URL: postgresql")
    assert complaint in str(error.value)
    assert "wrong" not in str(error.value)


async def test_a_server_that_vanishes_is_noticed_within_20_seconds(cluster: Cluster) -> None:
    """By the kernel, whatever goes on; a cut network is in `make chaos`."""
    store = store_at(make_url(f"{cluster.url}/postgres"), "sessions")
    async with store.engine.connect() as connection:
        raw = await connection.get_raw_connection()
        driver: Any = raw.driver_connection
        peer = driver._transport.get_extra_info("socket")
        assert peer.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
    await store.close()


async def test_a_file_that_another_process_holds_is_away_and_one_that_is_no_database_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database, and long enough to be looked at" * 100)
    with pytest.raises(ConfigurationError, match="file is not a database"):
        await open_store(make_url(f"sqlite+aiosqlite:///{tmp_path}/text"), "sessions")
    with pytest.raises(ConfigurationError, match="unable to open database file"):
        await open_store(make_url(f"sqlite+aiosqlite:///{tmp_path}/nowhere/views"), "sessions")
    held = sqlite3.connect(tmp_path / "held")
    held.execute("begin immediate")
    with pytest.raises(sqlite3.OperationalError) as locked:
        sqlite3.connect(tmp_path / "held", timeout=0).execute("begin immediate")
    assert is_away(DBAPIError(None, None, locked.value))


@pytest.mark.parametrize(
    ("state", "away"),
    [("57P03", True), ("53300", True), ("08006", True), ("25006", True), ("28P01", False), ("42501", False)],
)
def test_a_state_says_whether_time_cures_it(state: str, *, away: bool) -> None:
    class _Told(Exception):  # noqa: N818 - as a driver's
        sqlstate = state

    assert is_away(DBAPIError(None, None, _Told())) is away


def test_a_command_does_not_wait_and_says_that_it_is_no_mistake(tmp_path: Path) -> None:
    url = f"postgresql://callstream@127.0.0.1:{free_port()}/callstream"
    ended = subprocess.run(
        [sys.executable, "-m", "projections", "forget", "+41225551234"],
        env={**os.environ, "DATA_DIR": str(tmp_path), "PROJECTIONS_DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == GAVE_UP
    assert "cannot be reached" in ended.stderr
