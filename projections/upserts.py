"""The statements that put a batch's rows, compiled once, and rows as the driver takes them.

SQLAlchemy works out every value of every row while it executes, which took as long as the database: here that is done
beforehand, while the batch before is being written. SQLite's driver takes Python's lock back after each statement, and
waits for it while something is folded: it is given many rows per statement.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain
from operator import ge, gt, itemgetter
from typing import Any, Final

from sqlalchemy import ColumnElement, Dialect, Table, and_, case, or_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from projections.tables import UtcTime, Version

Insert = postgresql.Insert | sqlite.Insert
Values = Sequence[tuple[Any, ...]]
"""Rows of one table, with their values in the statement's order."""
Given = Sequence[Values]
"""A batch's calls, revisions and agents."""

ROWS_TOGETHER_MIN: Final = 8
"""Fewer rows are given one by one: their statement is prepared already."""
ROWS_TOGETHER_MAX: Final = 1_000
"""A call has 20 values, and a statement of SQLite takes 32,766."""

_TEXT_LENGTH: Final = len("2026-01-01 00:00:00.000000")
_MAIL_COLUMNS: Final = ("email", "email_at", "email_call")
_LAST_COLUMNS: Final = ("last_at", "last_call", "partition")


class Upsert:
    """An upsert into one table."""

    def __init__(self, table: Table, on_conflict: Callable[[Insert], Insert], dialect: Dialect) -> None:
        """`on_conflict` says what becomes of a row that is there already."""
        self.statement = on_conflict(insert_of(dialect)(table))
        compiled = self.statement.compile(dialect=dialect)
        names = list(compiled.positiontup or ())
        self.sql = str(compiled)
        self._values_of = itemgetter(*names)
        self._times: tuple[int, ...] = ()
        self._row = ""
        if dialect.name == "sqlite":
            self._times = tuple(n for n, name in enumerate(names) if isinstance(table.c[name].type, UtcTime))
            self._row = f"({', '.join('?' * len(names))})"

    def given(self, rows: Sequence[Mapping[str, Any]]) -> Values:
        """The rows as the driver takes them."""
        values = map(self._values_of, rows)
        return [*map(self._with_times, values)] if self._times else [*values]

    def _with_times(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        found = list(values)
        for place in self._times:
            if (at := found[place]) is not None:
                found[place] = text_of(at)
        return tuple(found)

    async def execute(self, connection: AsyncConnection, given: Values) -> None:
        """Put the rows, at most one per key."""
        while self._row and len(given) >= ROWS_TOGETHER_MIN:
            together, given = given[:ROWS_TOGETHER_MAX], given[ROWS_TOGETHER_MAX:]
            sql = self.sql.replace(self._row, ", ".join([self._row] * len(together)))
            await connection.exec_driver_sql(sql, tuple(chain.from_iterable(together)))
        if given:
            await connection.exec_driver_sql(self.sql, given)


def upserts_of(version: Version, dialect: Dialect) -> Sequence[Upsert]:
    """Into the calls, the revisions and the agents."""
    return (
        Upsert(version.calls, newer_call_wins, dialect),
        Upsert(version.revisions, lambda insert: insert.on_conflict_do_nothing(), dialect),
        Upsert(version.agents, _last_agent_wins, dialect),
    )


def insert_of(dialect: Dialect) -> Callable[[Table], Insert]:
    """The database's own INSERT, which knows of conflicts."""
    return sqlite.insert if dialect.name == "sqlite" else postgresql.insert


def text_of(at: datetime) -> str:
    """A time as SQLAlchemy keeps it in SQLite: of UTC, six digits, no zone."""
    return at.astimezone(UTC).isoformat(" ", "microseconds")[:_TEXT_LENGTH]


def newer_call_wins(insert: Insert) -> Insert:
    """A call's lower or equal revision changes nothing."""
    columns = insert.table.c
    new = {column.name: insert.excluded[column.name] for column in columns if column.name != "session_id"}
    return insert.on_conflict_do_update(
        index_elements=["session_id"], set_=new, where=insert.excluded.revision > columns.revision
    )


def newer_agent_wins(insert: Insert) -> Insert:
    """An agent's newest call, and the newest that names an e-mail; of the same one what is there stays."""
    return _agent_wins(insert, gt)


def _last_agent_wins(insert: Insert) -> Insert:
    """As the newer one does; of the same call what comes last is its later revision."""
    return _agent_wins(insert, ge)


def _agent_wins(insert: Insert, follows: Callable[..., ColumnElement[bool]]) -> Insert:
    new, old = insert.excluded, insert.table.c
    newer = or_(new.last_at > old.last_at, and_(new.last_at == old.last_at, follows(new.last_call, old.last_call)))
    newer_mail = and_(new.email_at == old.email_at, follows(new.email_call, old.email_call))
    mailed = and_(new.email.is_not(None), or_(old.email.is_(None), new.email_at > old.email_at, newer_mail))
    changes = {name: case((mailed, new[name]), else_=old[name]) for name in _MAIL_COLUMNS}
    changes |= {name: case((newer, new[name]), else_=old[name]) for name in _LAST_COLUMNS}
    return insert.on_conflict_do_update(index_elements=["pbx", "extension"], set_=changes)
