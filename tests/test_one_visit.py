"""SQLite with one visit to its thread per statement: the same rows, also of what is streamed, and fewer visits."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiosqlite.core import Connection
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

from projections import one_visit
from projections.store import Store, open_store

NUMBERS = text("with recursive n(x) as (select 0 union all select x + 1 from n where x < :last) select x from n")


@pytest.fixture
async def embedded(tmp_path: Path) -> AsyncIterator[Store]:
    """A store on a file of SQLite."""
    store = await open_store(make_url(f"sqlite+aiosqlite:///{tmp_path / 'views.sqlite'}"), "sessions")
    yield store
    await store.close()


@pytest.mark.parametrize("count", [0, 1, one_visit.FETCHED_AT_ONCE, one_visit.FETCHED_AT_ONCE + 1, 2_500])
async def test_all_rows_are_fetched_at_once_or_as_they_are_asked_for(embedded: Store, count: int) -> None:
    async with embedded.reading() as connection:
        expected = list(range(count)) or [0]
        found = await connection.execute(NUMBERS, {"last": count - 1})
        assert list(found.scalars()) == expected
        streamed = await connection.stream(NUMBERS, {"last": count - 1})
        assert [row.x async for row in streamed] == expected


async def test_what_is_closed_before_its_end_holds_nothing_back(tmp_path: Path) -> None:
    connection = await one_visit.connected(str(tmp_path / "few.sqlite"), isolation_level=None)
    reading: Any = connection.cursor()
    other: Any = connection.cursor()
    await other.execute("create table few (x integer)")
    await other.executemany("insert into few values (?)", [(one,) for one in range(3_000)])
    await reading.execute("select x from few")
    assert [await reading.fetchone(), *await reading.fetchmany(2)] == [(0,), (1,), (2,)]
    await reading.close()
    await other.execute("drop table few")  # SQLite refuses while it is being read
    await connection.close()


async def test_a_statement_is_one_visit_and_its_error_says_what(
    embedded: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    visits = 0
    execute: Any = Connection._execute

    async def counted(self: Connection, *arguments: Any) -> Any:
        nonlocal visits
        visits += 1
        return await execute(self, *arguments)

    async with embedded.writing() as connection:
        monkeypatch.setattr(Connection, "_execute", counted)
        assert (await connection.execute(NUMBERS, {"last": 9})).scalars().all() == list(range(10))
        updated = await connection.execute(text("update meta set generation = generation + 1"))
        assert (updated.rowcount, visits) == (1, 2)
        with pytest.raises(OperationalError, match="no such table: nowhere"):
            await connection.execute(text("select * from nowhere"))
        monkeypatch.undo()
