"""SQLite by aiosqlite, with one visit to its thread per statement.

aiosqlite goes there to make a cursor, to execute, to fetch and to close; each time both threads are woken, which on a
busy machine takes longer than the statement. Here a statement is executed and fetched in one visit, and its cursor is
closed in the same one when those were all of its rows: what is streamed fetches the rest as it is asked for.

A dozen short statements in a row, as for each small batch of events, are not worth even one visit each: `staying` has
them executed where they are asked for. Nothing that may wait belongs there: no BEGIN, no COMMIT, no counting of a
whole day.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Self

from aiosqlite.core import Connection

FETCHED_AT_ONCE: Final = 1_000
CHUNK_ROWS: Final = 64
STATEMENTS_KEPT: Final = 16
"""Prepared, per connection: one that takes a thousand rows is a megabyte."""


class Cursor:
    """What SQLAlchemy asks of a cursor of aiosqlite."""

    def __init__(self, visit: Callable[..., Any], connection: sqlite3.Connection) -> None:
        """`visit` has a function called in the connection's thread."""
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self.arraysize = 1
        self._visit = visit
        self._connection = connection
        self._unread: sqlite3.Cursor | None = None
        self._rows: list[Any] = []

    async def __aenter__(self) -> Self:
        """Nothing is to be done yet."""
        return self

    async def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Self:
        """Execute a statement."""
        await self._visit(self._run, sqlite3.Cursor.execute, sql, parameters)
        return self

    async def executemany(self, sql: str, parameters: Iterable[Sequence[Any]]) -> Self:
        """Execute a statement with each of the parameters."""
        await self._visit(self._run, sqlite3.Cursor.executemany, sql, parameters)
        return self

    async def fetchall(self) -> list[Any]:
        """All rows that are left."""
        rest = [] if self._unread is None else await self._visit(self._unread.fetchall)
        found, self._rows = [*self._rows, *rest], []
        return found

    async def fetchmany(self, size: int | None = None) -> list[Any]:
        """So many rows."""
        wanted = self.arraysize if size is None else size
        found, self._rows = self._rows[:wanted], self._rows[wanted:]
        if len(found) < wanted and self._unread is not None:
            found += await self._visit(self._unread.fetchmany, wanted - len(found))
        return found

    async def fetchone(self) -> Any:
        """One row, or null after the last one."""
        return next(iter(await self.fetchmany(1)), None)

    async def close(self) -> None:
        """Let go of what was not fetched."""
        if self._unread is not None:
            await self._visit(self._unread.close)
            self._unread = None

    def _run(self, execute: Callable[..., object], sql: str, parameters: Any) -> None:
        """In the connection's thread."""
        cursor = self._connection.cursor()
        execute(cursor, sql, parameters)
        self.description, self.rowcount, self.lastrowid = cursor.description, cursor.rowcount, cursor.lastrowid
        self._rows = cursor.fetchmany(FETCHED_AT_ONCE) if cursor.description else []
        if len(self._rows) < FETCHED_AT_ONCE:
            cursor.close()
        else:
            self._unread = cursor


class _Connection(Connection):
    stays = False

    def cursor(self) -> Cursor:  # type: ignore[override]  # SQLAlchemy only enters what it gets
        return Cursor(self._stay if self.stays else self._execute, self._conn)

    async def _stay(self, function: Callable[..., Any], *given: Any) -> Any:
        return function(*given)


@contextmanager
def staying(connection: Any) -> Iterator[None]:
    """Until the end of the block what the connection executes is executed by the caller's thread, at once."""
    connection.stays = True
    try:
        yield
    finally:
        connection.stays = False


def connected(path: str, **options: Any) -> Connection:
    """Like ``aiosqlite.connect``: await it."""
    options["check_same_thread"] = False  # two threads, never at the same time
    connection = _Connection(lambda: sqlite3.connect(path, cached_statements=STATEMENTS_KEPT, **options), CHUNK_ROWS)
    connection._thread.daemon = True  # noqa: SLF001 - as SQLAlchemy does: a thread that waits must not keep the process
    return connection
