"""Counting calls in the database: tallies, tallies per span of time, and how long calls were. Each of one source."""

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any, Final

from sqlalchemy import BigInteger, Column, ColumnElement, Integer, Table, bindparam, cast, func, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from projections.figures import Tally
from projections.tables import calls

DURATION_BOUNDS_S: Final = (10, 30, 60, 120, 300, 600, 1_200, 1_800, 3_600)


def kinds(table: Table) -> tuple[ColumnElement[Any], ...]:
    """What the calls of a row have in common: columns that follow one another in an index, whose order groups them."""
    c = table.c
    return c.direction, c.outcome, c.status


def amounts(table: Table) -> tuple[ColumnElement[Any], ...]:
    """How many there are, how many of them have a reported duration, and their talk time."""
    length = table.c.duration_s
    talk_s = cast(func.coalesce(func.sum(length), 0), BigInteger)
    return func.count().label("calls"), func.count(length).label("timed"), talk_s.label("talk_s")


def tallies_of(row: Sequence[Any]) -> list[Tally]:
    """The tallies in a row of `kinds` and `amounts`: of the calls with a duration, and of those without."""
    direction, outcome, status, calls, timed, talk_s = row
    found: list[Tally] = []
    if timed:
        found.append(Tally(direction, outcome, status, has_duration=True, calls=timed, talk_s=talk_s))
    if calls > timed:
        found.append(Tally(direction, outcome, status, has_duration=False, calls=calls - timed, talk_s=0))
    return found


async def tallies(connection: AsyncConnection, table: Table, wanted: Sequence[ColumnElement[bool]]) -> list[Tally]:
    """All calls like that, tallied."""
    groups = kinds(table)
    rows = await connection.execute(select(*groups, *amounts(table)).where(*wanted).group_by(*groups))
    return [tally for row in rows for tally in tallies_of(row)]


_OF_DAY: Final = (
    select(*kinds(calls), *amounts(calls))
    .where(calls.c.pbx == bindparam("pbx"), calls.c.day == bindparam("day"))
    .group_by(*kinds(calls))
)
"""Built once: it is asked with every change, and building it anew took longer than running it."""


async def tallies_of_day(connection: AsyncConnection, pbx: str, day: str) -> list[Tally]:
    """The calls of a PBX that began on its local day, tallied."""
    rows = await connection.execute(_OF_DAY, {"pbx": pbx, "day": day})
    return [tally for row in rows for tally in tallies_of(row)]


async def bucket_tallies(
    connection: AsyncConnection, table: Table, wanted: Sequence[ColumnElement[bool]], begin: datetime, bucket_s: int
) -> list[tuple[int, Tally]]:
    """The calls like that, tallied by the number of the bucket in which they began; `begin` is a whole second."""
    number = (_epoch_s(connection, table.c.began_at) - int(begin.timestamp())) // bucket_s
    groups = number.label("bucket"), *kinds(table)
    rows = await connection.execute(select(*groups, *amounts(table)).where(*wanted).group_by(*groups))
    return [(int(number), tally) for number, *row in rows for tally in tallies_of(row)]


def _epoch_s(connection: AsyncConnection, began_at: Column[Any]) -> ColumnElement[int]:
    """The whole second in which a call began."""
    if connection.dialect.name == "sqlite":
        return cast(func.strftime("%s", began_at, type_=Integer), Integer)
    return cast(func.floor(func.extract("epoch", began_at)), BigInteger)


async def durations(connection: AsyncConnection, table: Table, wanted: Sequence[ColumnElement[bool]]) -> list[int]:
    """How many reported durations lie below each bound (not below the one before); the last: the rest."""
    length = table.c.duration_s
    edges = (None, *DURATION_BOUNDS_S, None)
    counts = [
        func.count().filter(
            *([] if low is None else [length >= low]), *([] if high is None else [length < high]), literal(1) == 1
        )
        for low, high in pairwise(edges)
    ]
    row = (await connection.execute(select(*counts).where(*wanted, length.is_not(None)))).one()
    return [int(count) for count in row]
