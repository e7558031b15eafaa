"""Versions of the views beside the live ones, in the same database: made, exchanged for the live ones, dropped.

The live tables have the plain names. ``new_…`` is a version that is being built, ``old_…`` the one that the last
exchange replaced, ``gone_…`` what is dropped as soon as nobody waits for it. An exchange renames tables: whoever reads
or writes the views asks for the plain names and finds the other version in its next transaction, with its own offsets.
"""

import fcntl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, func, inspect, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from events.settings import ConfigurationError
from projections.tables import LIVE, Version

NEW: Final = "new"
OLD: Final = "old"
GONE: Final = "gone"
LEAVING: Final = "leaving"
ADVISORY_LOCK: Final = 0x63616C6D


def has_version(connection: Connection, prefix: str) -> bool:
    """Whether there are tables with this prefix."""
    return all(inspect(connection).has_table(f"{prefix}_{table.name}") for table in LIVE)


def drop(connection: Connection, *prefixes: str) -> None:
    """Drop the tables with these prefixes, where there are any."""
    for prefix in prefixes:
        for table in LIVE:
            connection.execute(text(f"drop table if exists {prefix}_{table.name}"))


def create(connection: Connection, version: Version) -> None:
    """Make the tables of a version."""
    for table in version:
        table.create(connection)


async def exchange(connection: AsyncConnection, incoming: str) -> None:
    """Make the version with the prefix `incoming` the live one; the live one becomes ``old``, that one ``gone``.

    1. lock, in the order in which readers go; 2. rename. In the caller's transaction: all at once, or not at all.
    """
    names = [table.name for table in LIVE]
    if connection.dialect.name == "postgresql":
        await connection.execute(text(f"lock table {', '.join(names)} in access exclusive mode"))
    await _rename(connection, names, "", f"{LEAVING}_")
    await _rename(connection, names, f"{incoming}_", "")
    if await connection.run_sync(has_version, OLD):
        await _rename(connection, names, f"{OLD}_", f"{GONE}_")
    await _rename(connection, names, f"{LEAVING}_", f"{OLD}_")


async def _rename(connection: AsyncConnection, names: Iterable[str], before: str, after: str) -> None:
    for name in names:
        await connection.execute(text(f"alter table {before}{name} rename to {after}{name}"))


@asynccontextmanager
async def alone(engine: AsyncEngine) -> AsyncIterator[None]:
    """One process at a time, for the length of the block; raises ConfigurationError when another one is at it."""
    busy = "the views are being rebuilt by another process; wait for it, or end it"
    if engine.dialect.name == "postgresql":
        async with engine.connect() as connection:
            if not (await connection.execute(select(func.pg_try_advisory_lock(ADVISORY_LOCK)))).scalar_one():
                raise ConfigurationError(busy)
            await connection.commit()
            try:
                yield
            finally:
                await connection.execute(select(func.pg_advisory_unlock(ADVISORY_LOCK)))
        return
    with Path(f"{engine.url.database}-rebuild").open("w", encoding="utf-8") as lock:  # noqa: ASYNC230 - empty
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigurationError(busy) from None
        yield
