"""The views' database: rows and the next offset of each partition in one transaction, on PostgreSQL or SQLite.

Views may use the loose durability settings, because offsets roll back together with the rows; nothing is lost that
the topic does not give again.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NotRequired, TypedDict

from sqlalchemy import (
    Select,
    Table,
    and_,
    bindparam,
    case,
    event,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from events import times
from events.session import Outcome, Status
from events.settings import ConfigurationError
from projections.agent_status import AgentFacts, OpenCall
from projections.call_log import Row
from projections.counting import AMOUNTS, KINDS, tally_of
from projections.migrating import UnknownSchemaError, migrate
from projections.tables import agents, calls, offsets, revisions

IMMEDIATE: Final = "callstream_immediate"

AgentKey = tuple[str, str]
Upsert = postgresql.Insert | sqlite.Insert
KEYS_PER_QUERY: Final = 400
"""SQLite takes a bounded number of parameters in one statement."""


_MAIL_COLUMNS: Final = ("email", "email_at", "email_call")
_LAST_COLUMNS: Final = ("last_at", "last_call", "partition")


_ADVANCE: Final = (
    update(offsets)
    .where(
        offsets.c.topic == bindparam("at_topic"),
        offsets.c.partition == bindparam("at_partition"),
        offsets.c.next_offset == bindparam("expected"),
    )
    .values(next_offset=bindparam("next_offset"), stream_time=bindparam("stream_time"))
)


class Asked(TypedDict):
    """What is asked about the agents of one PBX: the day of their figures; for wrap-up, when answered calls ended."""

    day: str
    ended_from: NotRequired[datetime]
    ended_to: NotRequired[datetime]


class ForeignWriterError(Exception):
    """The offset in the database is not the one that this process wrote: another one writes. Stop."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a partition is folded into the views, and up to when its feed was known then."""

    next_offset: int
    stream_time: datetime | None


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

    def stamp(self) -> dict[str, str | int | None]:
        """The fields that say what an answer is as of."""
        return {"as_of": None if self.as_of is None else times.to_text(self.as_of), "position": self.position}


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
        # Built once: building a statement anew takes longer than running it.
        upsert = sqlite.insert if engine.dialect.name == "sqlite" else postgresql.insert
        self._put_calls = _newer_call_wins(upsert(calls))
        self._put_revisions = upsert(revisions).on_conflict_do_nothing()
        self._put_agents = _newer_agent_wins(upsert(agents))

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

    async def seen(self, connection: AsyncConnection) -> Seen:
        """The position of everything that this transaction reads."""
        found = await connection.execute(select(offsets).where(offsets.c.topic == self._topic))
        rows = found.all()
        times = {row.partition: row.stream_time for row in rows}
        return Seen(sum(row.next_offset for row in rows), times)

    async def advance(self, connection: AsyncConnection, steps: Iterable[Advance]) -> None:
        """Move the offsets, guarded by the expected ones; raises ForeignWriterError when one is not as expected."""
        for step in steps:
            values = {"next_offset": step.position.next_offset, "stream_time": step.position.stream_time}
            place = {"at_topic": self._topic, "at_partition": step.partition, "expected": step.expected}
            done = await connection.execute(_ADVANCE, {**place, **values})
            if done.rowcount == 1:
                continue
            where = and_(offsets.c.topic == self._topic, offsets.c.partition == step.partition)
            found = (await connection.execute(select(offsets.c.next_offset).where(where))).scalar()
            if found is not None or step.expected:
                message = f"partition {step.partition}: expected offset {step.expected}, found {found}: another writer"
                raise ForeignWriterError(message)
            await connection.execute(insert(offsets).values(topic=self._topic, partition=step.partition, **values))

    async def put_calls(self, connection: AsyncConnection, rows: Sequence[Row]) -> None:
        """Write call rows, one per session at the most; a lower or equal revision changes nothing."""
        if rows:
            await connection.execute(self._put_calls, rows)

    async def put_revisions(self, connection: AsyncConnection, rows: Sequence[Row]) -> None:
        """Write session events as they came; one that is there already stays."""
        if rows:
            await connection.execute(self._put_revisions, rows)

    async def put_agents(self, connection: AsyncConnection, rows: Sequence[Row]) -> None:
        """Write agents, one row per agent at the most.

        The newest call is the last one, and the newest that names an e-mail gives it, in whatever order they come.
        """
        if rows:
            await connection.execute(self._put_agents, rows)

    async def agent_facts(
        self, connection: AsyncConnection, asked: Callable[[str], Asked], keys: Sequence[AgentKey] | None
    ) -> list[tuple[AgentFacts, int]]:
        """What the tables say about these agents (null: all), each with its partition, in order of PBX and extension.

        `asked`: for a PBX, of which day the figures and from which time on the answered calls' ends are.
        """
        found: list[tuple[AgentFacts, int]] = []
        if keys is None:
            pbxs = (await connection.execute(_PBXS)).scalars().all()
            for pbx in pbxs:
                found += await _facts(connection, _ALL, {"pbx": pbx, **asked(pbx)})
            return found
        by_pbx: dict[str, list[str]] = {}
        for pbx, extension in sorted(keys):
            by_pbx.setdefault(pbx, []).append(extension)
        for pbx, extensions in by_pbx.items():
            for begin in range(0, len(extensions), KEYS_PER_QUERY):
                some = extensions[begin : begin + KEYS_PER_QUERY]
                found += await _facts(connection, _SOME, {"pbx": pbx, "extensions": some, **asked(pbx)})
        return found


def _newer_call_wins(statement: Upsert) -> Upsert:
    new = {column.name: statement.excluded[column.name] for column in calls.columns if column.name != "session_id"}
    return statement.on_conflict_do_update(
        index_elements=["session_id"], set_=new, where=statement.excluded.revision > calls.c.revision
    )


def _newer_agent_wins(statement: Upsert) -> Upsert:
    new, old = statement.excluded, agents.c
    newer = or_(new.last_at > old.last_at, and_(new.last_at == old.last_at, new.last_call >= old.last_call))
    same_call = and_(new.email_at == old.email_at, new.email_call >= old.email_call)
    mailed = and_(new.email.is_not(None), or_(old.email.is_(None), new.email_at > old.email_at, same_call))
    changes = {name: case((mailed, new[name]), else_=old[name]) for name in _MAIL_COLUMNS}
    changes |= {name: case((newer, new[name]), else_=old[name]) for name in _LAST_COLUMNS}
    return statement.on_conflict_do_update(index_elements=["pbx", "extension"], set_=changes)


@dataclass(frozen=True, slots=True)
class _FactQueries:
    """What is asked about the agents of one PBX. Built once: building them anew took longer than running them."""

    agents: Select[Any]
    open_calls: Select[Any]
    tallies: Select[Any]
    answered: Select[Any]


def _fact_queries(*, of_some: bool) -> _FactQueries:
    def these(statement: Select[Any], table: Table) -> Select[Any]:
        mine = statement.where(table.c.pbx == bindparam("pbx"))
        return mine.where(table.c.extension.in_(bindparam("extensions", expanding=True))) if of_some else mine

    c = calls.c
    # One step into the index per agent, however many calls it ever had.
    of_agent = and_(c.pbx == agents.c.pbx, c.extension == agents.c.extension)
    free = select(func.max(c.closed_at)).where(of_agent).scalar_subquery().label("free")
    near = c.closed_at.between(bindparam("ended_from"), bindparam("ended_to"))
    taken = and_(of_agent, near, c.status == Status.ENDED.value, c.outcome == Outcome.ANSWERED.value)
    until = select(func.max(c.closed_at)).where(taken).scalar_subquery().label("until")
    groups = (c.extension, *KINDS)
    tallies = select(*groups, *AMOUNTS)
    return _FactQueries(
        these(select(agents, free), agents).order_by(agents.c.extension),
        these(select(c.extension, c.session_id, c.began_at).where(c.status == Status.OPEN.value), calls),
        these(tallies.where(c.day == bindparam("day")), calls).group_by(*groups),
        these(select(agents.c.extension, until), agents),
    )


_PBXS: Final = select(agents.c.pbx).distinct().order_by(agents.c.pbx)
_ALL: Final = _fact_queries(of_some=False)
_SOME: Final = _fact_queries(of_some=True)


async def _facts(
    connection: AsyncConnection, queries: _FactQueries, given: dict[str, Any]
) -> list[tuple[AgentFacts, int]]:
    found: dict[str, tuple[AgentFacts, int]] = {}
    for row in await connection.execute(queries.agents, given):
        facts = AgentFacts(row.pbx, row.extension, row.email, row.last_call, row.free)
        found[row.extension] = facts, row.partition
    for row in await connection.execute(queries.open_calls, given):
        if row.extension in found:
            found[row.extension][0].open_calls.append(OpenCall(row.session_id, row.began_at))
    for row in await connection.execute(queries.tallies, given):
        if row.extension in found:
            found[row.extension][0].tallies.append(tally_of(row))
    if "ended_from" in given:
        for row in await connection.execute(queries.answered, given):
            if row.extension in found:
                found[row.extension][0].answered_until = row.until
    return list(found.values())


async def open_store(url: URL, topic: str) -> Store:
    """Connect, and bring the tables to this release's schema; raises ConfigurationError with what to do."""
    where = url.render_as_string(hide_password=True)
    engine = (
        create_async_engine(url, pool_size=8, pool_pre_ping=True) if url.drivername.startswith("postgres") else None
    )
    if engine is None:
        engine = create_async_engine(url, connect_args={"timeout": 10})
        _prepare_sqlite(engine)
    try:
        async with engine.execution_options(**{IMMEDIATE: True}).begin() as connection:
            await connection.run_sync(migrate)
    except (SQLAlchemyError, OSError) as error:
        reason = str(error.orig) if isinstance(error, DBAPIError) else str(error)
        message = f"PROJECTIONS_DATABASE_URL: {where} cannot be used ({reason.splitlines()[0]}); start it or correct it"
        await engine.dispose()
        raise ConfigurationError(message) from None
    except UnknownSchemaError as error:
        await engine.dispose()
        raise ConfigurationError(f"PROJECTIONS_DATABASE_URL: {where}: {error}") from None
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
