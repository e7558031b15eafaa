"""What the tables say about agents, now or as it was known at some time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NotRequired, TypedDict

from sqlalchemy import ColumnElement, Select, Table, and_, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from events.session import Outcome, Status
from projections.agent_status import AgentFacts, OpenCall
from projections.counting import amounts, kinds, tallies_of
from projections.sources import NOW, Source, Sources
from projections.tables import agents

AgentKey = tuple[str, str]
Found = dict[AgentKey, tuple[AgentFacts, int]]
"""The facts of some agents, each with the partition of its last call."""
KEYS_PER_QUERY: Final = 400
"""SQLite takes a bounded number of parameters in one statement."""


class Asked(TypedDict):
    """What is asked about the agents of one PBX: the day of their figures; for wrap-up, when answered calls ended.

    `lately_from`: since when most of them have had a call, as a guess; it changes how long it takes, not what is found.
    """

    day: str
    lately_from: datetime
    ended_from: NotRequired[datetime]
    ended_to: NotRequired[datetime]


@dataclass(frozen=True, slots=True)
class _FactQueries:
    """What is asked about the agents of some PBXs. Built once: building them anew took longer than running them."""

    agents: Select[Any]
    open_calls: Select[Any]
    tallies: Select[Any]
    answered: Select[Any]


_SHOWN: Final = (agents.c.pbx, agents.c.extension, agents.c.email, agents.c.last_call, agents.c.partition)


def _fact_queries(source: Source, *, of_some: bool) -> _FactQueries:
    def these(statement: Select[Any], table: Table) -> Select[Any]:
        mine = statement.where(_of_pbxs(table), *(source.where if table is source.table else ()))
        return mine.where(table.c.extension.in_(bindparam("extensions", expanding=True))) if of_some else mine

    c = source.table.c
    # One step into the index per agent, however many calls it ever had. PostgreSQL copies all of an index page that is
    # in the range before it looks at one: of the last hours there are few, and who has none there is asked for again.
    of_agent = and_(c.pbx == agents.c.pbx, c.extension == agents.c.extension, *source.where)
    ever = select(func.max(c.closed_at)).where(of_agent)
    lately = ever.where(c.closed_at >= bindparam("lately_from"))
    free = func.coalesce(lately.scalar_subquery(), ever.scalar_subquery(), type_=c.closed_at.type).label("free")
    near = c.closed_at.between(bindparam("ended_from"), bindparam("ended_to"))
    taken = and_(of_agent, near, c.status == Status.ENDED.value, c.outcome == Outcome.ANSWERED.value)
    until = select(func.max(c.closed_at)).where(taken).scalar_subquery().label("until")
    groups = (c.pbx, c.extension, *kinds(source.table))
    tallies = select(*groups, *amounts(source.table))
    return _FactQueries(
        these(select(*_SHOWN, free), agents).order_by(agents.c.pbx, agents.c.extension),
        these(select(c.pbx, c.extension, c.session_id, c.began_at).where(c.status == Status.OPEN.value), source.table),
        these(tallies.where(c.day == bindparam("day")), source.table).group_by(*groups),
        these(select(agents.c.pbx, agents.c.extension, until), agents),
    )


def _of_pbxs(table: Table) -> ColumnElement[bool]:
    return table.c.pbx.in_(bindparam("pbxs", expanding=True))


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
    found: Found = {}
    pbxs = await _pbxs(connection, keys)
    for given in _parts(pbxs, asked, keys):
        if sources is NOW:
            found |= await _facts(connection, _SOME if "extensions" in given else _ALL, given)
        else:
            found |= await _facts_then(connection, sources, given)
    place = {pbx: number for number, pbx in enumerate(pbxs)}
    return sorted(found.values(), key=lambda told: place[told[0].pbx])  # a PBX's own are in order already


async def _pbxs(connection: AsyncConnection, keys: Sequence[AgentKey] | None) -> list[str]:
    """Whose agents are asked for, in order."""
    if keys is None:
        return list((await connection.execute(_PBXS)).scalars())
    return sorted({pbx for pbx, _ in keys})


def _parts(
    pbxs: Sequence[str], asked: Callable[[str], Asked], keys: Sequence[AgentKey] | None
) -> Iterator[dict[str, Any]]:
    """What each set of queries is given: all agents of the PBXs of which the same is asked, or some of one PBX."""
    if keys is None:
        alike: dict[object, list[str]] = {}
        for pbx in pbxs:
            alike.setdefault(tuple(asked(pbx).items()), []).append(pbx)
        for some in alike.values():
            for begin in range(0, len(some), KEYS_PER_QUERY):
                yield {"pbxs": some[begin : begin + KEYS_PER_QUERY], **asked(some[0])}
        return
    for pbx in pbxs:
        mine = sorted(extension for key, extension in keys if key == pbx)
        for begin in range(0, len(mine), KEYS_PER_QUERY):
            yield {"pbxs": [pbx], "extensions": mine[begin : begin + KEYS_PER_QUERY], **asked(pbx)}


async def _facts(connection: AsyncConnection, queries: _FactQueries, given: Mapping[str, Any]) -> Found:
    found: Found = {}
    rows = (await connection.execute(queries.agents, given)).all()  # all at once: row by row costs more than the query
    for pbx, extension, email, last_call, partition, free in rows:
        found[pbx, extension] = AgentFacts(pbx, extension, email, last_call, free), partition
    for pbx, extension, session_id, began_at in (await connection.execute(queries.open_calls, given)).all():
        if (pbx, extension) in found:
            found[pbx, extension][0].open_calls.append(OpenCall(session_id, began_at))
    for pbx, extension, *counted in (await connection.execute(queries.tallies, given)).all():
        if (pbx, extension) in found:
            found[pbx, extension][0].tallies.extend(tallies_of(counted))
    if "ended_from" in given:
        for pbx, extension, until in (await connection.execute(queries.answered, given)).all():
            if (pbx, extension) in found:
                found[pbx, extension][0].answered_until = until
    return found


async def _facts_then(connection: AsyncConnection, sources: Sources, given: Mapping[str, Any]) -> Found:
    """The facts from all the sources together; e-mail and last call are of the newest call that was known."""
    of_some = "extensions" in given
    parts = [await _facts(connection, _fact_queries(source, of_some=of_some), given) for source in sources]
    last = await _newest(connection, sources, given, named=False)
    named = await _newest(connection, sources, given, named=True)
    found: Found = {}
    for key, call in last.items():
        mine = [part[key][0] for part in parts]
        facts = AgentFacts(
            *key,
            named[key].email if key in named else None,
            call.session_id,
            max((one.free_since for one in mine if one.free_since is not None), default=None),
            max((one.answered_until for one in mine if one.answered_until is not None), default=None),
            [opened for one in mine for opened in one.open_calls],
            [tally for one in mine for tally in one.tallies],
        )
        found[key] = facts, call.partition
    return found


async def _newest(
    connection: AsyncConnection, sources: Sources, given: Mapping[str, Any], *, named: bool
) -> dict[AgentKey, Any]:
    """The newest call of each agent (`named`: that names an e-mail), in order of PBX and extension."""
    rows: list[Any] = []
    for source in sources:
        c = source.table.c
        of_agent = [c.pbx == agents.c.pbx, c.extension == agents.c.extension, *source.where]
        newest = select(c.session_id).where(*of_agent, *([c.email.is_not(None)] if named else []))
        newest = newest.order_by(c.first_received_at.desc(), c.session_id.desc()).limit(1)
        of_each = select(newest.scalar_subquery().label("session_id")).where(_of_pbxs(agents))
        if "extensions" in given:
            of_each = of_each.where(agents.c.extension.in_(bindparam("extensions", expanding=True)))
        columns = (c.pbx, c.extension, c.first_received_at, c.session_id, c.email, c.partition)
        rows += await connection.execute(select(*columns).where(c.session_id.in_(of_each)), given)
    ordered = sorted(rows, key=lambda row: (row.pbx, row.extension, row.first_received_at, row.session_id))
    return {(row.pbx, row.extension): row for row in ordered}
