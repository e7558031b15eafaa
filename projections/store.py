"""The views' database: rows and the next offset of each partition in one transaction, on PostgreSQL or SQLite.

Views may use the loose durability settings, because offsets roll back together with the rows; nothing is lost that
the topic does not give again.
"""

import asyncio
import secrets
import socket
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    Select,
    Table,
    Update,
    and_,
    bindparam,
    delete,
    event,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.util import await_only

from events import times
from events.away import AwayError
from events.settings import ConfigurationError
from projections.folding import Advance, Position, Rows
from projections.forgetting import Entry, Forgotten
from projections.migrating import EncodingError, UnknownSchemaError, migrate
from projections.one_visit import connected, staying
from projections.reached import is_away, reason_of
from projections.tables import LIVE, Version, beside, forgotten, meta
from projections.upserts import Given, Insert, insert_of, newer_agent_wins, newer_call_wins, upserts_of

IMMEDIATE: Final = "callstream_immediate"

LOCK_TIMEOUT_MS: Final = 10_000
CONNECT_TIMEOUT_S: Final = 5
PEER_TIMEOUT_S: Final = 20
"""A server that acknowledges nothing for so long is gone (its machine died, it moved, the network is cut): the kernel
alone would wait a quarter of an hour, and the views would stand still though a successor were there."""
KEEP_ALIVE: Final = {socket.TCP_KEEPIDLE: 10, socket.TCP_KEEPINTVL: 5, socket.TCP_USER_TIMEOUT: PEER_TIMEOUT_S * 1_000}
"""Seconds, seconds, milliseconds."""
BUSY_TIMEOUT_S: Final = 30
"""Several processes that start at once migrate one after the other."""
WAL_RETRY_S: Final = 0.05
SHORT_MAX: Final = 32
"""What concerns so few rows takes SQLite less than waking its thread for it."""


class ForeignWriterError(Exception):
    """The offset in the database is not the one that this process wrote: another one writes. Stop."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one answer is as of.

    `position`: the session events folded into it, of all partitions together: it grows with every commit, so two
    answers of one database with the same position tell of the same rows.
    `stream_times`: up to when each partition is known.
    """

    position: int
    stream_times: Mapping[int, datetime | None]

    @property
    def as_of(self) -> datetime | None:
        """Up to when every partition is known."""
        known = [at for at in self.stream_times.values() if at is not None]
        return min(known) if known and len(known) == len(self.stream_times) else None

    def stamp(self, at: datetime | None = None) -> dict[str, str | int | None]:
        """The fields that say what an answer is as of; `at`: it is of what was known then, if all of that is known."""
        as_of = self.as_of if at is None or self.as_of is None else min(at, self.as_of)
        return {"as_of": None if as_of is None else times.to_text(as_of), "position": self.position}


class Store:
    """The database. Open it with `open_store`."""

    def __init__(self, engine: AsyncEngine, topic: str, version: Version = LIVE) -> None:
        """`topic` is whose offsets are kept; `version`: in which tables the views are."""
        self.version = version
        self.engine = engine
        self._topic = topic
        # Built once: building a statement anew takes longer than running it.
        self._advance = _advance_in(version.offsets)
        self._all_offsets = select(version.offsets).where(version.offsets.c.topic == topic)
        self.upserts = upserts_of(version, engine.dialect)

    async def prepare(self) -> None:
        """Bring the tables to this release's schema.

        Raises AwayError when the database is away, and ConfigurationError with what to do when no time cures it.
        """
        where = self.engine.url.render_as_string(hide_password=True)
        try:
            async with self.engine.execution_options(**{IMMEDIATE: True}).begin() as connection:
                await connection.run_sync(migrate)
        except (SQLAlchemyError, OSError) as error:
            reason = reason_of(error)
            if is_away(error):
                raise AwayError(f"{where} cannot be reached ({reason})") from None
            message = f"PROJECTIONS_DATABASE_URL: {where} cannot be used ({reason}); correct it"
            raise ConfigurationError(message) from None
        except (UnknownSchemaError, EncodingError) as error:
            raise ConfigurationError(f"PROJECTIONS_DATABASE_URL: {where}: {error}") from None

    async def close(self) -> None:
        """Let go of every connection."""
        await self.engine.dispose()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection on which everything is seen at one position."""
        async with self.engine.connect() as connection:
            if self.engine.dialect.name == "postgresql":
                await connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction: committed at the end of the block, rolled back when it raises.

        While one lasts nobody is `changing` the views; SQLite has one writer at a time anyway.
        """
        async with self.engine.execution_options(**{IMMEDIATE: True}).begin() as connection:
            if connection.dialect.name == "postgresql":
                await connection.execute(_GENERATION.with_for_update(read=True))
            yield connection

    def shortly(self, connection: AsyncConnection, count: int) -> AbstractContextManager[None]:
        """For statements about so many rows: SQLite's run in the caller's thread in this block, if they are few."""
        if count > SHORT_MAX or self.engine.dialect.name != "sqlite" or connection.sync_connection is None:
            return nullcontext()
        return staying(connection.sync_connection.connection.driver_connection)

    @asynccontextmanager
    async def changing(self, lock_timeout_ms: int = LOCK_TIMEOUT_MS) -> AsyncIterator[AsyncConnection]:
        """A transaction that changes rows for another reason than session events; no fold is in the middle of one."""
        async with self.engine.execution_options(**{IMMEDIATE: True}).begin() as connection:
            if connection.dialect.name == "postgresql":
                await connection.execute(_LOCK_TIMEOUT, {"span": f"{lock_timeout_ms}ms"})
            await connection.execute(update(meta).values(generation=meta.c.generation + 1))
            yield connection

    async def generation(self) -> int:
        """Grows whenever rows change for another reason than session events."""
        async with self.reading() as connection:
            return int((await connection.execute(_GENERATION)).scalar_one())

    async def generation_in(self, connection: AsyncConnection) -> int:
        """The same as this transaction sees it."""
        return int((await connection.execute(_GENERATION)).scalar_one())

    async def forgotten(self) -> Forgotten:
        """All who were forgotten; with a new salt when nobody was yet."""
        async with self.reading() as connection:
            return await self.forgotten_in(connection)

    async def forgotten_in(self, connection: AsyncConnection) -> Forgotten:
        """The same as this transaction sees it."""
        rows = (await connection.execute(select(forgotten))).all()
        entries = [Entry(row.digest, row.digits, row.whole, row.forgotten_at) for row in rows]
        return Forgotten(rows[0].salt if rows else secrets.token_hex(16), entries)

    async def put_forgotten(self, connection: AsyncConnection, salt: str, entries: Iterable[Entry]) -> None:
        """Write down whom to forget; of two entries with the same digits the whole and the later one count."""
        known = (await self.forgotten_in(connection)).entries
        for entry in entries:
            old = known.get(entry.digest, entry)
            row = {"digits": entry.digits, "whole": entry.whole or old.whole, "salt": salt}
            row |= {"forgotten_at": max(entry.forgotten_at, old.forgotten_at)}
            await connection.execute(delete(forgotten).where(forgotten.c.digest == entry.digest))
            await connection.execute(insert(forgotten).values(digest=entry.digest, **row))

    def beside(self, prefix: str) -> "Store":
        """The version of the views in the tables with this prefix, in the same database."""
        return Store(self.engine, self._topic, beside(prefix))

    async def positions(self) -> dict[int, Position]:
        """Where each partition stands."""
        async with self.reading() as connection:
            return await self.positions_in(connection)

    async def positions_in(self, connection: AsyncConnection) -> dict[int, Position]:
        """Where each partition stands for this transaction."""
        rows = await connection.execute(self._all_offsets)
        return {row.partition: Position(row.next_offset, row.stream_time) for row in rows}

    async def seen(self, connection: AsyncConnection) -> Seen:
        """The position of everything that this transaction reads."""
        positions = await self.positions_in(connection)
        times = {partition: position.stream_time for partition, position in positions.items()}
        return Seen(sum(position.next_offset for position in positions.values()), times)

    async def advance(self, connection: AsyncConnection, steps: Iterable[Advance]) -> None:
        """Move the offsets, guarded by the expected ones; raises ForeignWriterError when one is not as expected."""
        for step in steps:
            values = {"next_offset": step.position.next_offset, "stream_time": step.position.stream_time}
            place = {"at_topic": self._topic, "at_partition": step.partition, "expected": step.expected}
            done = await connection.execute(self._advance, {**place, **values})
            if done.rowcount == 1:
                continue
            offsets = self.version.offsets
            where = and_(offsets.c.topic == self._topic, offsets.c.partition == step.partition)
            found = (await connection.execute(select(offsets.c.next_offset).where(where))).scalar()
            if found is not None or step.expected:
                message = f"partition {step.partition}: expected offset {step.expected}, found {found}: another writer"
                raise ForeignWriterError(message)
            await connection.execute(insert(offsets).values(topic=self._topic, partition=step.partition, **values))

    def given(self, rows: Rows) -> Given:
        """A batch's rows as the driver takes them: without the database, so it can be done before its turn comes."""
        tables = rows.calls, rows.revisions, rows.agents
        return [upsert.given(table) for upsert, table in zip(self.upserts, tables, strict=True)]

    async def put(self, connection: AsyncConnection, given: Given, steps: Iterable[Advance]) -> None:
        """A batch: its rows and its steps.

        A call's lower or equal revision changes nothing, nor does an event that is there already. An agent's newest
        call is the last one, and the newest that names an e-mail gives it, in whatever order they come.
        """
        for upsert, table in zip(self.upserts, given, strict=True):
            await upsert.execute(connection, table)
        await self.advance(connection, steps)

    async def keep_calls(self, connection: AsyncConnection, other: Version, ids: Sequence[str]) -> int:
        """Take from another version what is missing or older here of these sessions; how many calls that were."""
        mine, theirs = self.version, other
        revisions = select(theirs.revisions).where(theirs.revisions.c.session_id.in_(ids))
        await connection.execute(self._insert(mine.revisions, revisions).on_conflict_do_nothing())
        calls = select(theirs.calls).where(theirs.calls.c.session_id.in_(ids))
        return (await connection.execute(newer_call_wins(self._insert(mine.calls, calls)))).rowcount

    async def keep_agents(self, connection: AsyncConnection, other: Version, partitions: Sequence[int]) -> None:
        """Take from another version what is missing or older here of the agents of these partitions."""
        rows = select(other.agents).where(other.agents.c.partition.in_(partitions))
        await connection.execute(newer_agent_wins(self._insert(self.version.agents, rows)))

    def _insert(self, table: Table, rows: Select[Any]) -> Insert:
        # SQLite's parser wants a WHERE between SELECT and ON CONFLICT; these have one.
        return insert_of(self.engine.dialect)(table).from_select([column.name for column in table.c], rows)


def _advance_in(offsets: Table) -> Update:
    return (
        update(offsets)
        .where(
            offsets.c.topic == bindparam("at_topic"),
            offsets.c.partition == bindparam("at_partition"),
            offsets.c.next_offset == bindparam("expected"),
        )
        .values(next_offset=bindparam("next_offset"), stream_time=bindparam("stream_time"))
    )


_LOCK_TIMEOUT: Final = text("select set_config('lock_timeout', :span, true)")
_GENERATION: Final = select(meta.c.generation)


def store_at(url: URL, topic: str) -> Store:
    """The database there; nothing is connected before its first use."""
    if url.drivername.startswith("postgres"):
        # Parameters are hidden: they are numbers and names.
        given = {"timeout": CONNECT_TIMEOUT_S}
        engine = create_async_engine(url, pool_size=8, pool_pre_ping=True, hide_parameters=True, connect_args=given)
        event.listen(engine.sync_engine, "connect", _notice_when_the_server_is_gone)
        return Store(engine, topic)
    engine = create_async_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S}, hide_parameters=True)
    _prepare_sqlite_engine(engine)
    return Store(engine, topic)


async def open_store(url: URL, topic: str) -> Store:
    """The database there, prepared; raises as `Store.prepare` does."""
    store = store_at(url, topic)
    try:
        await store.prepare()
    except BaseException:
        await store.close()
        raise
    return store


def _notice_when_the_server_is_gone(connection: Any, _record: Any) -> None:
    peer = connection.driver_connection._transport.get_extra_info("socket")  # noqa: SLF001 - there is no public way
    if peer.family != socket.AF_UNIX:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEP_ALIVE.items():
            peer.setsockopt(socket.IPPROTO_TCP, option, value)


def _use_wal(cursor: Any, wait: Callable[[float], object]) -> None:
    """Switch the file to WAL; while another process writes, SQLite refuses at once, whatever the busy timeout."""
    deadline_s = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline_s:
                raise
            wait(WAL_RETRY_S)
        else:
            return


def prepare_sqlite(cursor: Any, wait: Callable[[float], object]) -> None:
    """What a connection to the file is used with; `wait` lets so many seconds pass."""
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_S * 1000}")
    _use_wal(cursor, wait)
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA secure_delete=ON")  # what is forgotten is not left in the file


def _prepare_sqlite_engine(engine: AsyncEngine) -> None:
    """WAL, so that readers and the writer do not wait for each other; and BEGIN IMMEDIATE for whoever writes."""

    @event.listens_for(engine.sync_engine, "do_connect")
    def before_connect(_dialect: Any, _record: Any, _arguments: Any, options: dict[str, Any]) -> None:
        options["async_creator_fn"] = connected

    @event.listens_for(engine.sync_engine, "connect")
    def on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver must not begin transactions by itself
        cursor = connection.cursor()
        # The loop goes on meanwhile: the one who writes may be another connection of this process.
        prepare_sqlite(cursor, lambda seconds: await_only(asyncio.sleep(seconds)))
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def on_begin(connection: Any) -> None:
        # A deferred transaction that turns into a writing one fails when another wrote in between.
        immediate = connection.get_execution_options().get(IMMEDIATE, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
