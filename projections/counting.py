"""Counting calls in the database: tallies, tallies per span of time, and how long calls were."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Integer, cast, func, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from projections.figures import Tally
from projections.tables import calls

_TIMED: Final = calls.c.duration_s.is_not(None).label("timed")
KINDS: Final = (calls.c.direction, calls.c.outcome, calls.c.status, _TIMED)
"""What a tally's calls have in common."""
AMOUNTS: Final = (func.count().label("calls"), func.coalesce(func.sum(calls.c.duration_s), 0).label("talk_s"))
DURATION_BOUNDS_S: Final = (10, 30, 60, 120, 300, 600, 1_200, 1_800, 3_600)


def tally_of(row: Any) -> Tally:
    """The tally in a row of `KINDS` and `AMOUNTS`."""
    return Tally(row.direction, row.outcome, row.status, bool(row.timed), row.calls, int(row.talk_s))


async def tallies(connection: AsyncConnection, wanted: Sequence[ColumnElement[bool]]) -> list[Tally]:
    """All calls like that, tallied."""
    rows = await connection.execute(select(*KINDS, *AMOUNTS).where(*wanted).group_by(*KINDS))
    return [tally_of(row) for row in rows]


async def day_tallies(connection: AsyncConnection, days: Mapping[str, str]) -> dict[str, list[Tally]]:
    """For each PBX the calls that began on its day."""
    return {
        pbx: await tallies(connection, [calls.c.pbx == pbx, calls.c.day == day]) for pbx, day in sorted(days.items())
    }


async def bucket_tallies(
    connection: AsyncConnection, wanted: Sequence[ColumnElement[bool]], begin: datetime, bucket_s: int
) -> dict[int, list[Tally]]:
    """The calls like that, tallied by the number of the bucket in which they began; `begin` is a whole second."""
    number = (_epoch_s(connection) - int(begin.timestamp())) // bucket_s
    bucket = number.label("bucket")
    rows = await connection.execute(select(bucket, *KINDS, *AMOUNTS).where(*wanted).group_by(bucket, *KINDS))
    found: dict[int, list[Tally]] = {}
    for row in rows:
        found.setdefault(int(row.bucket), []).append(tally_of(row))
    return found


def _epoch_s(connection: AsyncConnection) -> ColumnElement[int]:
    """The whole second in which a call began."""
    if connection.dialect.name == "sqlite":
        return cast(func.strftime("%s", calls.c.began_at, type_=Integer), Integer)
    return cast(func.floor(func.extract("epoch", calls.c.began_at)), BigInteger)


async def durations(connection: AsyncConnection, wanted: Sequence[ColumnElement[bool]]) -> list[int]:
    """How many reported durations lie below each bound (not below the one before); the last: the rest."""
    length = calls.c.duration_s
    edges = (None, *DURATION_BOUNDS_S, None)
    counts = [
        func.count().filter(
            *([] if low is None else [length >= low]), *([] if high is None else [length < high]), literal(1) == 1
        )
        for low, high in pairwise(edges)
    ]
    row = (await connection.execute(select(*counts).where(*wanted, length.is_not(None)))).one()
    return [int(count) for count in row]
