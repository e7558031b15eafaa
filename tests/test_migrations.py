"""The views' schema on both databases: made by migrations alone, upgraded without losing a row, never downgraded."""

import asyncio
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine

from events.pbx import DEFAULT_PBX
from events.settings import ConfigurationError
from projections import migrating
from projections import store as opening
from projections.call_log import Told, folded, row_of
from projections.folding import agent_rows, revision_rows
from projections.store import Store, open_store
from projections.tables import agents, calls, metadata, offsets, revisions
from tests.builders import at
from tests.test_views import ZONES, put, some_calls

TOGETHER = 6


async def opened(url: str) -> Store:
    return await open_store(make_url(url), "sessions")


async def rows_of(store: Store) -> dict[str, list[Any]]:
    async with store.reading() as connection:
        return {
            table.name: sorted(map(tuple, (await connection.execute(select(table))).all()), key=repr)
            for table in (calls, agents, offsets, revisions)
        }


def make_schema_2(connection: Connection) -> None:
    """The tables as releases before migrations made them: no table of Alembic's."""
    config = Config()
    config.set_main_option("script_location", str(migrating.FOLDER))
    config.attributes["connection"] = connection
    command.upgrade(config, "2")
    connection.execute(text("drop table alembic_version"))


async def schema_2(url: str, told: list[Told]) -> None:
    """A database of schema 2 with calls in it."""
    engine = create_async_engine(make_url(url))
    async with engine.begin() as connection:
        await connection.run_sync(make_schema_2)
        rows = [row_of(one, ZONES, ZONES[DEFAULT_PBX]) for one in folded(told).values()]
        then = [{name: value for name, value in row.items() if not name.endswith("_key")} for row in rows]
        await connection.execute(calls.insert(), then)
        old = [{"s": one["session_id"], "r": one["revision"], "e": one["event"]} for one in revision_rows(told)]
        await connection.execute(text("insert into revisions (session_id, revision, event) values (:s, :r, :e)"), old)
        await connection.execute(agents.insert(), agent_rows(rows))
        await connection.execute(
            offsets.insert().values(topic="sessions", partition=0, next_offset=7, stream_time=at(9))
        )
    await engine.dispose()


async def test_migrations_make_exactly_the_tables_that_the_code_knows(database_url: str) -> None:
    store = await opened(database_url)
    async with store.reading() as connection:
        different = await connection.run_sync(
            lambda one: compare_metadata(MigrationContext.configure(one, opts={"compare_type": True}), metadata)
        )
    await store.close()
    assert different == []


async def test_a_database_of_schema_2_is_upgraded_without_losing_a_row(database_url: str, tmp_path: Path) -> None:
    told = some_calls(1)
    await schema_2(database_url, told)
    store = await opened(database_url)
    fresh = await opened(f"sqlite+aiosqlite:///{tmp_path}/fresh.sqlite")
    await put(fresh, told)
    upgraded, expected = await rows_of(store), await rows_of(fresh)
    assert len(upgraded["revisions"]) == len({one.key for one in told})
    assert upgraded | {"offsets": []} == expected, "known_at is the event's own time"
    assert upgraded["offsets"] == [("sessions", 0, 7, at(9))]
    await put(store, some_calls(2))
    await store.close()
    await fresh.close()


async def test_processes_that_start_at_once_migrate_once(database_url: str) -> None:
    await schema_2(database_url, some_calls(1))
    stores = await asyncio.gather(*(opened(database_url) for _ in range(TOGETHER)))
    for store in stores:
        await store.close()


async def test_processes_that_start_at_once_on_nothing_make_the_tables_once(database_url: str) -> None:
    stores = await asyncio.gather(*(opened(database_url) for _ in range(TOGETHER)))
    for store in stores:
        await store.close()


async def test_a_new_file_to_which_another_process_writes_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "views.sqlite"
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("create table other (x)")
    writer.execute("begin immediate")
    asyncio.get_running_loop().call_later(0.5, writer.execute, "commit")
    store = await opened(f"sqlite+aiosqlite:///{path}")
    await store.close()
    writer.close()


async def test_while_a_new_file_is_waited_for_everything_else_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one who writes to it may be another connection of the same process."""
    monkeypatch.setattr(opening, "WAL_RETRY_S", 2.0)
    path, gaps_s = tmp_path / "views.sqlite", []
    writer = sqlite3.connect(path, isolation_level=None)
    writer.executescript("create table other (x); begin immediate")
    asyncio.get_running_loop().call_later(0.5, writer.execute, "commit")

    async def tick() -> None:
        while True:
            began_s = time.monotonic()
            await asyncio.sleep(0.02)
            gaps_s.append(time.monotonic() - began_s)

    ticking = asyncio.create_task(tick())
    await (await opened(f"sqlite+aiosqlite:///{path}")).close()
    ticking.cancel()
    writer.close()
    assert sum(gaps_s) > 1.5, "it was waited for"
    assert max(gaps_s) < 1.5


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        ("update alembic_version set version_num = '99'", "schema 99, newer than this release"),
        ("drop table alembic_version; update meta set schema_version = 1", "use an empty database"),
    ],
)
async def test_a_schema_that_cannot_be_read_is_one_sentence_and_nothing_changes(
    database_url: str, damage: str, complaint: str
) -> None:
    await (await opened(database_url)).close()
    engine = create_async_engine(make_url(database_url))
    async with engine.begin() as connection:
        for one in damage.split("; "):
            await connection.execute(text(one))
    with pytest.raises(ConfigurationError, match=complaint):
        await opened(database_url)
    async with engine.connect() as connection:
        tables = await connection.run_sync(lambda one: inspect(one).get_table_names())
    await engine.dispose()
    assert ("alembic_version" in tables) == ("99" in damage)


async def test_a_migration_that_fails_leaves_everything_as_it_was(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last statement of schema 3 fails: nothing of it stays, and the next start upgrades."""
    told = some_calls(1)
    await schema_2(database_url, told)
    with monkeypatch.context() as patched:
        patched.setattr("alembic.op.add_column", lambda *_args: (_ for _ in ()).throw(SQLAlchemyError("no")))
        with pytest.raises(ConfigurationError, match="cannot be used"):
            await opened(database_url)
    store = await opened(database_url)
    assert len((await rows_of(store))["calls"]) == len(folded(told))
    await store.close()


async def test_a_release_before_migrations_refuses_a_newer_database(tmp_path: Path) -> None:
    """It looks into `meta`, finds something else than 2 there, and stops."""
    await (await opened(f"sqlite+aiosqlite:///{tmp_path}/views.sqlite")).close()
    with sqlite3.connect(tmp_path / "views.sqlite") as database:
        assert database.execute("select schema_version from meta").fetchall() == [(3,)]


async def test_a_days_figures_are_counted_from_the_index_alone(tmp_path: Path) -> None:
    await (await opened(f"sqlite+aiosqlite:///{tmp_path}/views.sqlite")).close()
    query = """select direction, outcome, status, duration_s is not null, count(*), sum(duration_s) from calls
        where pbx = 'default' and day = '2026-11-24' group by direction, outcome, status, duration_s is not null"""
    with sqlite3.connect(tmp_path / "views.sqlite") as database:
        plan = [row[3] for row in database.execute("explain query plan " + query)]
    assert "SEARCH calls USING COVERING INDEX calls_of_day (pbx=? AND day=?)" in plan
