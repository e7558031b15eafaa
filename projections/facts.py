"""What the tables say about agents, now or as it was known at some time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NotRequired, TypedDict

from sqlalchemy import Select, Table, and_, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from events.session import Outcome, Status
from projections.agent_status import AgentFacts, OpenCall
from projections.counting import amounts, kinds, tally_of
from projections.sources import NOW, Source, Sources
from projections.tables import agents

AgentKey = tuple[str, str]
KEYS_PER_QUERY: Final = 400
"""SQLite takes a bounded number of parameters in one statement."""


class Asked(TypedDict):
    """What is asked about the agents of one PBX: the day of their figures; for wrap-up, when answered calls ended."""

    day: str
    ended_from: NotRequired[datetime]
    ended_to: NotRequired[datetime]


@dataclass(frozen=True, slots=True)
class _FactQueries:
    """What is asked about the agents of one PBX. Built once: building them anew took longer than running them."""

    agents: Select[Any]
    open_calls: Select[Any]
    tallies: Select[Any]
    answered: Select[Any]


_SHOWN: Final = (agents.c.pbx, agents.c.extension, agents.c.email, agents.c.last_call, agents.c.partition)


def _fact_queries(source: Source, *, of_some: bool) -> _FactQueries:
    def these(statement: Select[Any], table: Table) -> Select[Any]:
        mine = statement.where(table.c.pbx == bindparam("pbx"), *(source.where if table is source.table else ()))
        return mine.where(table.c.extension.in_(bindparam("extensions", expanding=True))) if of_some else mine

    c = source.table.c
    # One step into the index per agent, however many calls it ever had.
    of_agent = and_(c.pbx == agents.c.pbx, c.extension == agents.c.extension, *source.where)
    free = select(func.max(c.closed_at)).where(of_agent).scalar_subquery().label("free")
    near = c.closed_at.between(bindparam("ended_from"), bindparam("ended_to"))
    taken = and_(of_agent, near, c.status == Status.ENDED.value, c.outcome == Outcome.ANSWERED.value)
    until = select(func.max(c.closed_at)).where(taken).scalar_subquery().label("until")
    groups = (c.extension, *kinds(source.table))
    tallies = select(*groups, *amounts(source.table))
    return _FactQueries(
        these(select(*_SHOWN, free), agents).order_by(agents.c.extension),
        these(select(c.extension, c.session_id, c.began_at).where(c.status == Status.OPEN.value), source.table),
        these(tallies.where(c.day == bindparam("day")), source.table).group_by(*groups),
        these(select(agents.c.extension, until), agents),
    )


_PBXS: Final = select(agents.c.pbx).distinct().order_by(agents.c.pbx)
_ALL: Final = _fact_queries(NOW[0], of_some=False)
_SOME: Final = _fact_queries(NOW[0], of_some=True)


async def agent_facts(
    connection: AsyncConnection,
    asked: Callable[[str], Asked],
    keys: Sequence[AgentKey] | None,
    sources: Sources = NOW,
) -> list[tuple[AgentFacts, int]]:
    """What the tables say about these agents (null: all), each with its partition, in order of PBX and extension.

    `asked`: for a PBX, of which day the figures and from which time on the answered calls' ends are.
    """
    found: list[tuple[AgentFacts, int]] = []
    for pbx, some in await _parts(connection, keys):
        given = {"pbx": pbx, **asked(pbx), **({} if some is None else {"extensions": some})}
        if sources is NOW:
            told = await _facts(connection, _ALL if some is None else _SOME, given)
        else:
            told = await _facts_then(connection, sources, given, of_some=some is not None)
        found += told.values()
    return found


async def _parts(connection: AsyncConnection, keys: Sequence[AgentKey] | None) -> list[tuple[str, list[str] | None]]:
    """Of whom each query is: of all agents of a PBX, or of some."""
    if keys is None:
        return [(pbx, None) for pbx in (await connection.execute(_PBXS)).scalars()]
    by_pbx: dict[str, list[str]] = {}
    for pbx, extension in sorted(keys):
        by_pbx.setdefault(pbx, []).append(extension)
    return [
        (pbx, extensions[begin : begin + KEYS_PER_QUERY])
        for pbx, extensions in by_pbx.items()
        for begin in range(0, len(extensions), KEYS_PER_QUERY)
    ]


async def _facts(
    connection: AsyncConnection, queries: _FactQueries, given: Mapping[str, Any]
) -> dict[str, tuple[AgentFacts, int]]:
    found: dict[str, tuple[AgentFacts, int]] = {}
    rows = (await connection.execute(queries.agents, given)).all()  # all at once: row by row costs more than the query
    for pbx, extension, email, last_call, partition, free in rows:
        found[extension] = AgentFacts(pbx, extension, email, last_call, free), partition
    for row in await connection.execute(queries.open_calls, given):
        if row.extension in found:
            found[row.extension][0].open_calls.append(OpenCall(row.session_id, row.began_at))
    for row in (await connection.execute(queries.tallies, given)).all():
        if row[0] in found:
            found[row[0]][0].tallies.append(tally_of(row))
    if "ended_from" in given:
        for row in await connection.execute(queries.answered, given):
            if row.extension in found:
                found[row.extension][0].answered_until = row.until
    return found


async def _facts_then(
    connection: AsyncConnection, sources: Sources, given: Mapping[str, Any], *, of_some: bool
) -> dict[str, tuple[AgentFacts, int]]:
    """The facts from all the sources together; e-mail and last call are of the newest call that was known."""
    parts = [await _facts(connection, _fact_queries(source, of_some=of_some), given) for source in sources]
    last = await _newest(connection, sources, given, of_some=of_some, named=False)
    named = await _newest(connection, sources, given, of_some=of_some, named=True)
    found: dict[str, tuple[AgentFacts, int]] = {}
    for extension, call in last.items():
        mine = [part[extension][0] for part in parts]
        email = named[extension].email if extension in named else None
        facts = AgentFacts(
            given["pbx"],
            extension,
            email,
            call.session_id,
            max((one.free_since for one in mine if one.free_since is not None), default=None),
            max((one.answered_until for one in mine if one.answered_until is not None), default=None),
            [opened for one in mine for opened in one.open_calls],
            [tally for one in mine for tally in one.tallies],
        )
        found[extension] = facts, call.partition
    return found


async def _newest(
    connection: AsyncConnection, sources: Sources, given: Mapping[str, Any], *, of_some: bool, named: bool
) -> dict[str, Any]:
    """The newest call of each agent (`named`: that names an e-mail), in order of extensions."""
    rows: list[Any] = []
    for source in sources:
        c = source.table.c
        of_agent = [c.pbx == agents.c.pbx, c.extension == agents.c.extension, *source.where]
        newest = select(c.session_id).where(*of_agent, *([c.email.is_not(None)] if named else []))
        newest = newest.order_by(c.first_received_at.desc(), c.session_id.desc()).limit(1)
        of_each = select(newest.scalar_subquery().label("session_id")).where(agents.c.pbx == bindparam("pbx"))
        if of_some:
            of_each = of_each.where(agents.c.extension.in_(bindparam("extensions", expanding=True)))
        columns = (c.extension, c.first_received_at, c.session_id, c.email, c.partition)
        rows += await connection.execute(select(*columns).where(c.session_id.in_(of_each)), given)
    ordered = sorted(rows, key=lambda row: (row.extension, row.first_received_at, row.session_id))
    return {row.extension: row for row in ordered}
