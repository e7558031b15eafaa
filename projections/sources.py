"""Where calls are read from: the call log as it is now, or as it was known at some time.

The call log as known then is two sources together, so that what never changed since is read where it lies, with its
indexes: 1. calls of which nothing was told after that time; 2. of the calls of which something was, the last revision
known by then, in a temporary table that ends with the transaction. These are the calls that went on at that time, or
were corrected later, however long ago it was; more than `CHANGED_MAX` are refused.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Column, ColumnElement, MetaData, Table, and_, exists, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from projections.call_log import Row, Told, told_in
from projections.tables import calls, revisions

CHANGED_MAX: Final = 50_000
_THEN: Final = Table(
    "calls_then",
    MetaData(),
    *(Column(column.name, column.type, nullable=column.nullable) for column in calls.columns),
    prefixes=["TEMPORARY"],
)

RowOf = Callable[[Told], Row]


class TooManyChangedError(Exception):
    """More than `CHANGED_MAX` calls that were known at that time have changed since."""


@dataclass(frozen=True, slots=True)
class Source:
    """A table with the columns of `calls`, and which of its rows count."""

    table: Table
    where: tuple[ColumnElement[bool], ...] = ()


Sources = tuple[Source, ...]
NOW: Final[Sources] = (Source(calls),)


async def known_by(connection: AsyncConnection, at: datetime, row_of: RowOf) -> Sources:
    """The call log as it was known at that time, for the rest of this transaction; raises TooManyChangedError."""
    r, c = revisions.c, calls.c
    changed_since = select(r.session_id).where(r.known_at > at)
    last = (
        select(r.session_id, func.max(r.revision).label("revision"))
        .where(r.session_id.in_(changed_since), r.known_at <= at)
        .group_by(r.session_id)
        .limit(CHANGED_MAX + 1)
        .subquery()
    )
    then = (
        select(c.partition, r.event)
        .join(last, and_(r.session_id == last.c.session_id, r.revision == last.c.revision))
        .join(calls, c.session_id == last.c.session_id)
    )
    found = (await connection.execute(then)).all()
    if len(found) > CHANGED_MAX:
        raise TooManyChangedError
    await connection.run_sync(lambda plain: _THEN.create(plain, checkfirst=False))
    if found:
        rows = [row_of(told_in(row.partition, row.event.encode())) for row in found]
        await connection.execute(insert(_THEN), rows)
    # Nothing is known of a call before its first receipt: what came later need not be looked at.
    untouched = ~exists().where(r.session_id == c.session_id, r.known_at > at)
    return Source(calls, (c.first_received_at <= at, untouched)), Source(_THEN)
