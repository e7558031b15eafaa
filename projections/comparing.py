"""Two versions of a table compared row by row, in the database; only what differs comes out of it."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from sqlalchemy import ColumnElement, Table, and_, func, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

KEYS_PER_QUERY: Final = 200
BEFORE: Final = "only before"
AFTER: Final = "only after"
Key = tuple[Any, ...]


@dataclass(slots=True)
class Difference:
    """How a table differs: of each differing row the columns that do, or in which version alone it is.

    One entry per differing row, some 0.3 kB each. `rows`: of the version before; `limit`: so many are shown.
    """

    table: str
    limit: int
    rows: int = 0
    found: dict[Key, tuple[str, ...]] = field(default_factory=dict)

    def forget(self, keys: Collection[Key]) -> None:
        """Leave out the rows with these keys (of as many of the key's columns, from the left, as each has)."""
        widths = {len(key) for key in keys}
        self.found = {key: what for key, what in self.found.items() if not any(key[:width] in keys for width in widths)}

    def text(self) -> Iterator[str]:
        """For a person to read: keys and names of columns, no values."""
        kinds = Counter(what if what in {(BEFORE,), (AFTER,)} else ("changed",) for what in self.found.values())
        changed, gone, came = kinds["changed",], kinds[BEFORE,], kinds[AFTER,]
        equal = self.rows - changed - gone
        yield f"{self.table}: {equal:,} equal, {changed:,} changed, {gone:,} only before, {came:,} only after"
        columns = Counter(name for what in self.found.values() for name in what if name not in {BEFORE, AFTER})
        if columns:
            yield "  changed columns: " + ", ".join(f"{name} {count:,}" for name, count in columns.most_common())
        for key, what in islice(sorted(self.found.items()), self.limit):
            yield f"  {self.table} {'/'.join(map(str, key))}: {', '.join(what)}"


async def compare(
    connection: AsyncConnection, before: Table, after: Table, into: Difference, keys: Collection[Key] | None = None
) -> None:
    """Put into `into` how the rows with these keys differ (null: all); keys as in `Difference.forget`."""
    if keys is None:
        await _compare(connection, before, after, into, None)
        return
    left = iter(sorted(keys))
    while some := list(islice(left, KEYS_PER_QUERY)):
        await _compare(connection, before, after, into, some)


async def _compare(
    connection: AsyncConnection, before: Table, after: Table, into: Difference, keys: Sequence[Key] | None
) -> None:
    same_key = and_(*(column == after.c[column.name] for column in before.primary_key))
    names = [column.name for column in before.c if column.name not in before.primary_key]
    differs = [before.c[name].is_distinct_from(after.c[name]) for name in names]
    changed = select(*before.primary_key, *differs).join(after, same_key).where(or_(*differs), *_among(before, keys))
    width = len(before.primary_key)
    shared: dict[tuple[bool, ...], tuple[str, ...]] = {}
    async for row in await connection.stream(changed):
        mask = tuple(map(bool, row[width:]))
        what = shared.setdefault(mask, tuple(name for name, one in zip(names, mask, strict=True) if one))
        into.found[tuple(row[:width])] = what
    for one, other, where in ((before, after, (BEFORE,)), (after, before, (AFTER,))):
        missing = next(iter(other.primary_key)).is_(None)
        alone = select(*one.primary_key).outerjoin(other, same_key).where(missing, *_among(one, keys))
        async for row in await connection.stream(alone):
            into.found[tuple(row)] = where


def _among(table: Table, keys: Sequence[Key] | None) -> list[ColumnElement[bool]]:
    if keys is None:
        return []
    return [tuple_(*list(table.primary_key)[: len(keys[0])]).in_(keys)]


async def count(connection: AsyncConnection, table: Table) -> int:
    """How many rows there are."""
    return int((await connection.execute(select(func.count()).select_from(table))).scalar_one())
