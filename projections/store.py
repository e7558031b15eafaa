"""The views' database: rows and the next offset of each partition in one transaction, on PostgreSQL or SQLite.

Views may use the loose durability settings, because offsets roll back together with the rows; nothing is lost that
the topic does not give again.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    Insert,
    Select,
    Table,
    and_,
    case,
    event,
    func,
    insert,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from events.settings import ConfigurationError
from projections.agent_status import AgentFacts, OpenCall, Tally
from projections.call_log import Row
from projections.tables import SCHEMA_VERSION, agents, calls, meta, metadata, offsets, revisions

IMMEDIATE: Final = "callstream_immediate"

AgentKey = tuple[str, str]
KEYS_PER_QUERY: Final = 400
"""SQLite takes a bounded number of parameters in one statement."""


_MAIL_COLUMNS: Final = ("email", "email_at", "email_call")
_LAST_COLUMNS: Final = ("last_at", "last_call", "partition")


class ForeignWriterError(Exception):
    """The offset in the database is not the one that this process wrote: another one writes. Stop."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a partition is folded into the views, and up to when its feed was known then."""

    next_offset: int
    stream_time: datetime | None


@dataclass(frozen=True, slots=True)
class Advance:
    """A partition's step within one transaction: from the offset expected in the database to the next one."""

    partition: int
    expected: int
    position: Position


class Store:
    """The database. Open it with `open_store`."""

    def __init__(self, engine: AsyncEngine, topic: str) -> None:
        """`topic` is whose offsets are kept."""
        self._engine = engine
        self._topic = topic
        self._insert = sqlite.insert if engine.dialect.name == "sqlite" else postgresql.insert

    async def close(self) -> None:
        """Let go of every connection."""
        await self._engine.dispose()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection on which everything is seen at one position."""
        async with self._engine.connect() as connection:
            if self._engine.dialect.name == "postgresql":
                await connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction: committed at the end of the block, rolled back when it raises."""
        async with self._engine.execution_options(**{IMMEDIATE: True}).begin() as connection:
            yield connection

    async def positions(self) -> dict[int, Position]:
        """Where each partition stands."""
        async with self.reading() as connection:
            rows = await connection.execute(select(offsets).where(offsets.c.topic == self._topic))
            return {row.partition: Position(row.next_offset, row.stream_time) for row in rows}

    async def advance(self, connection: AsyncConnection, steps: Iterable[Advance]) -> None:
        """Move the offsets, guarded by the expected ones; raises ForeignWriterError when one is not as expected."""
        for step in steps:
            values = {"next_offset": step.position.next_offset, "stream_time": step.position.stream_time}
            where = and_(offsets.c.topic == self._topic, offsets.c.partition == step.partition)
            done = await connection.execute(
                update(offsets).where(where, offsets.c.next_offset == step.expected).values(values)
            )
            if done.rowcount == 1:
                continue
            found = (await connection.execute(select(offsets.c.next_offset).where(where))).scalar()
            if found is not None or step.expected:
                message = f"partition {step.partition}: expected offset {step.expected}, found {found}: another writer"
                raise ForeignWriterError(message)
            await connection.execute(insert(offsets).values(topic=self._topic, partition=step.partition, **values))

    async def put_calls(self, connection: AsyncConnection, rows: Sequence[Row]) -> None:
        """Write call rows, one per session at the most; a lower or equal revision changes nothing."""
        if rows:
            await connection.execute(self._newer_wins(calls, ["session_id"]), rows)

    def _newer_wins(self, table: Table, keys: list[str]) -> Insert:
        statement = self._insert(table)
        new = {column.name: statement.excluded[column.name] for column in table.columns if column.name not in keys}
        return statement.on_conflict_do_update(
            index_elements=keys, set_=new, where=statement.excluded.revision > table.c.revision
        )

    async def put_revisions(self, connection: AsyncConnection, rows: Sequence[Row]) -> None:
        """Write session events as they came; one that is there already stays."""
        if rows:
            await connection.execute(self._insert(revisions).on_conflict_do_nothing(), rows)

    async def put_agents(self, connection: AsyncConnection, rows: Sequence[Row]) -> None:
        """Write agents, one row per agent at the most.

        The newest call is the last one, and the newest that names an e-mail gives it, in whatever order they come.
        """
        if not rows:
            return
        statement = self._insert(agents)
        new = statement.excluded
        old = agents.c
        newer = or_(new.last_at > old.last_at, and_(new.last_at == old.last_at, new.last_call >= old.last_call))
        same_call = and_(new.email_at == old.email_at, new.email_call >= old.email_call)
        mailed = and_(new.email.is_not(None), or_(old.email.is_(None), new.email_at > old.email_at, same_call))
        await connection.execute(
            statement.on_conflict_do_update(
                index_elements=["pbx", "extension"],
                set_={
                    **{name: case((mailed, new[name]), else_=old[name]) for name in _MAIL_COLUMNS},
                    **{name: case((newer, new[name]), else_=old[name]) for name in _LAST_COLUMNS},
                },
            ),
            rows,
        )

    async def agent_facts(
        self, connection: AsyncConnection, days: dict[str, str], default_day: str, keys: Sequence[AgentKey] | None
    ) -> list[tuple[AgentFacts, int]]:
        """What the tables say about these agents (null: all), each with its partition, in order of PBX and extension.

        `days`: the local day of each PBX, for the day's figures.
        """
        if keys is None:
            return await self._agent_facts(connection, days, default_day, None)
        found: list[tuple[AgentFacts, int]] = []
        for begin in range(0, len(keys), KEYS_PER_QUERY):
            found += await self._agent_facts(connection, days, default_day, keys[begin : begin + KEYS_PER_QUERY])
        return found

    async def _agent_facts(
        self, connection: AsyncConnection, days: dict[str, str], default_day: str, keys: Sequence[AgentKey] | None
    ) -> list[tuple[AgentFacts, int]]:
        def these(statement: Select[Any], table: Table) -> Select[Any]:
            return statement if keys is None else statement.where(tuple_(table.c.pbx, table.c.extension).in_(keys))

        found: dict[AgentKey, tuple[AgentFacts, int]] = {}
        rows = await connection.execute(these(select(agents), agents).order_by(agents.c.pbx, agents.c.extension))
        for row in rows:
            facts = AgentFacts(row.pbx, row.extension, row.email, row.last_call, None)
            found[row.pbx, row.extension] = facts, row.partition
        open_calls = select(calls.c.pbx, calls.c.extension, calls.c.session_id, calls.c.began_at)
        for row in await connection.execute(these(open_calls.where(calls.c.status == "open"), calls)):
            if (row.pbx, row.extension) in found:
                found[row.pbx, row.extension][0].open_calls.append(OpenCall(row.session_id, row.began_at))
        agent = (calls.c.pbx, calls.c.extension)
        for row in await connection.execute(
            these(select(*agent, func.max(calls.c.closed_at).label("free")), calls).group_by(*agent)
        ):
            if (row.pbx, row.extension) in found:
                found[row.pbx, row.extension][0].free_since = row.free
        for row in await connection.execute(these(_tallies(days, default_day), calls)):
            if (row.pbx, row.extension) in found:
                tally = Tally(row.direction, row.outcome, row.status, row.calls, int(row.talk_s))
                found[row.pbx, row.extension][0].tallies.append(tally)
        return list(found.values())


def _tallies(days: dict[str, str], default_day: str) -> Select[Any]:
    """The day's calls, counted by agent, direction, outcome and status."""
    elsewhere = and_(calls.c.pbx.not_in(list(days)), calls.c.day == default_day)
    is_today = or_(elsewhere, *(and_(calls.c.pbx == pbx, calls.c.day == day) for pbx, day in days.items()))
    groups = (calls.c.pbx, calls.c.extension, calls.c.direction, calls.c.outcome, calls.c.status)
    return (
        select(*groups, func.count().label("calls"), func.coalesce(func.sum(calls.c.duration_s), 0).label("talk_s"))
        .where(is_today)
        .group_by(*groups)
    )


async def open_store(url: URL, topic: str) -> Store:
    """Connect, and make the tables when there are none; raises ConfigurationError with what to do."""
    where = url.render_as_string(hide_password=True)
    engine = (
        create_async_engine(url, pool_size=8, pool_pre_ping=True) if url.drivername.startswith("postgres") else None
    )
    if engine is None:
        engine = create_async_engine(url, connect_args={"timeout": 10})
        _prepare_sqlite(engine)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
            version = (await connection.execute(select(meta.c.schema_version))).scalar()
            if version is None:
                await connection.execute(insert(meta).values(schema_version=SCHEMA_VERSION))
    except (SQLAlchemyError, OSError) as error:
        reason = str(error.orig) if isinstance(error, DBAPIError) else str(error)
        message = f"PROJECTIONS_DATABASE_URL: {where} cannot be used ({reason.splitlines()[0]}); start it or correct it"
        await engine.dispose()
        raise ConfigurationError(message) from None
    if version not in {None, SCHEMA_VERSION}:
        await engine.dispose()
        message = (
            f"PROJECTIONS_DATABASE_URL: the views in {where} have schema {version}, this is {SCHEMA_VERSION};"
            " use an empty database: the views are rebuilt from the topic"
        )
        raise ConfigurationError(message)
    return Store(engine, topic)


def _prepare_sqlite(engine: AsyncEngine) -> None:
    """WAL, so that readers and the writer do not wait for each other; and BEGIN IMMEDIATE for whoever writes."""

    @event.listens_for(engine.sync_engine, "connect")
    def on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver must not begin transactions by itself
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.execute("PRAGMA busy_timeout=10000")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def on_begin(connection: Any) -> None:
        # A deferred transaction that turns into a writing one fails when another wrote in between.
        immediate = connection.get_execution_options().get(IMMEDIATE, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
