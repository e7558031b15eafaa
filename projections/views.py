"""Reading the views: agents, calls, snapshots; what the API and the event stream show, from the same queries."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from heapq import merge
from typing import Any, Final

import orjson
from sqlalchemy import ColumnElement, Select, and_, func, or_, select, union
from sqlalchemy.ext.asyncio import AsyncConnection

from events.pbx import DEFAULT_PBX, Pbx
from events.session import Status
from projections import counting, filters
from projections.agent_status import Moment, agent_of
from projections.call_log import row_of
from projections.facts import AgentKey, Asked, agent_facts
from projections.feeds import Feed, FeedReason, Feeds
from projections.figures import Tally, figures_of
from projections.filters import CallFilter
from projections.sources import NOW, Source, Sources, known_by
from projections.store import Store
from projections.tables import calls, revisions

SNAPSHOT_CALLS: Final = 50
"""Closed ones, of each PBX."""
LATELY: Final = timedelta(hours=6)
FIGURES_SHARE: Final = 0.1
"""Of the time: what counting a day's calls for the event stream may take, which is the longer the more there are."""
FIGURES_S_MAX: Final = 10.0
"""And yet no figure is older: a count that took long may only have waited for the disk."""
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page ended: calls are ordered newest first by these two, which corrections never change."""

    first_received_at: datetime
    session_id: str


class Views:
    """The read side of the store, with the feeds in memory."""

    def __init__(self, store: Store, feeds: Feeds, pbxs: Mapping[str, Pbx], wrap_up_s: float = 0.0) -> None:
        """`wrap_up_s`: of PBXs that have none of their own.

        `untold`: how often rows turned out to have changed without our clients being told.
        `owed`: the PBXs whose figures clients are still to be told.
        `_wrap_ups`: until when which agent's wrap-up lasts, of those that the stream's clients were told of.
        """
        self.untold = 0
        self.owed: set[str] = set()
        self._figures_from_s = 0.0
        self.store = store
        self.feeds = feeds
        self.pbxs = pbxs
        self._default_wrap_up_s = wrap_up_s
        self._wrap_ups: dict[AgentKey, datetime] = {}

    def days(self, now: datetime) -> dict[str, str]:
        """The local day of each configured PBX."""
        return {name: now.astimezone(pbx.zone).date().isoformat() for name, pbx in self.pbxs.items()}

    def span_of(self, day: str, pbx: str | None) -> tuple[datetime, datetime] | None:
        """When that day begins and ends at that PBX (null: at the first and at the last of all); null: out of time."""
        midnight = datetime.fromisoformat(day)
        zones = [one.zone for one in (self.pbxs.values() if pbx is None else (self._pbx(pbx),))]
        try:
            following = midnight + timedelta(days=1)
            begins, ends = ([at.replace(tzinfo=zone).astimezone(UTC) for zone in zones] for at in (midnight, following))
        except OverflowError:
            return None
        return min(begins), max(ends)

    async def agents(self, connection: AsyncConnection, keys: Sequence[AgentKey] | None = None) -> list[Json]:
        """The agents (null: all), in order of PBX and extension."""
        now, monotonic_s = datetime.now(UTC), time.monotonic()
        facts = await agent_facts(connection, partial(self._asked, now), keys)
        moment = cache(lambda pbx, partition: self._moment(pbx, partition, now, monotonic_s))
        return [agent_of(one, moment(one.pbx, partition)) for one, partition in facts]

    async def agents_then(
        self, connection: AsyncConnection, at: datetime, keys: Sequence[AgentKey] | None = None
    ) -> list[Json]:
        """The agents as they were known at that time."""
        sources = await self.known_by(connection, at)
        facts = await agent_facts(connection, partial(self._asked, at), keys, sources)
        return [agent_of(one, self._moment_then(one.pbx, partition, at)) for one, partition in facts]

    async def known_by(self, connection: AsyncConnection, at: datetime | None) -> Sources:
        """The call log as it was known at that time (null: as it is now)."""
        if at is None:
            return NOW
        zones = {name: pbx.zone for name, pbx in self.pbxs.items()}
        return await known_by(connection, at, lambda told: row_of(told, zones, zones[DEFAULT_PBX]))

    def wrapped_up(self, now: datetime) -> list[AgentKey]:
        """Whose wrap-up clients were told of, has ended by now, and is still shown to them."""
        return sorted(key for key, until in self._wrap_ups.items() if until <= now)

    def _asked(self, now: datetime, pbx: str) -> Asked:
        day = now.astimezone(self._pbx(pbx).zone).date().isoformat()
        wrap_up = timedelta(seconds=self._wrap_up_s(pbx))
        asked = Asked(day=day, lately_from=now - LATELY)
        return {**asked, "ended_from": now - wrap_up, "ended_to": now + wrap_up} if wrap_up else asked

    def _moment(self, pbx: str, partition: int, now: datetime, monotonic_s: float) -> Moment:
        return Moment(
            now,
            self._asked(now, pbx)["day"],
            self.feeds.as_of(partition),
            self.feeds.unknown_because(partition, now, monotonic_s),
            self._wrap_up_s(pbx),
        )

    def _moment_then(self, pbx: str, partition: int, at: datetime) -> Moment:
        """Whether a feed was silent at some time is not kept: what the views have not come to is unknown."""
        known = self.feeds.as_of(partition)
        is_known = known is not None and at - known <= timedelta(seconds=self.feeds.silent_s)
        as_of = at if known is not None and known >= at else known
        why = None if is_known else FeedReason.BEHIND
        return Moment(at, self._asked(at, pbx)["day"], as_of, why, self._wrap_up_s(pbx))

    def _pbx(self, name: str) -> Pbx:
        return self.pbxs.get(name, self.pbxs[DEFAULT_PBX])

    def _wrap_up_s(self, pbx: str) -> float:
        own = self._pbx(pbx).wrap_up_s
        return self._default_wrap_up_s if own is None else own

    def pbx_feeds(self) -> list[Feed]:
        """The feed of each PBX, now."""
        return self.feeds.of_pbxs(self.pbxs, datetime.now(UTC), time.monotonic())

    async def calls(
        self,
        connection: AsyncConnection,
        wanted: CallFilter,
        limit: int,
        after: Cursor | None = None,
        sources: Sources = NOW,
    ) -> tuple[list[Json], Cursor | None]:
        """A page of calls, newest first, and where the next one begins (null: this was the last)."""
        parts = [
            (await connection.execute(self.matching(part, source, after).limit(limit + 1))).all()
            for source in sources
            for part in filters.by_side(wanted)
        ]
        rows = list(merge(*parts, key=lambda row: (row.first_received_at, row.session_id), reverse=True))
        page = [orjson.loads(row.document) for row in rows[:limit]]
        last = rows[limit - 1] if len(rows) > limit else None
        return page, None if last is None else Cursor(last.first_received_at, last.session_id)

    def matching(self, wanted: CallFilter, source: Source = NOW[0], after: Cursor | None = None) -> Select[Any]:
        """The query for calls, newest first."""
        c = source.table.c
        conditions = self.conditions(wanted, source)
        if after is not None:
            same = and_(c.first_received_at == after.first_received_at, c.session_id < after.session_id)
            conditions.append(or_(c.first_received_at < after.first_received_at, same))
        return (
            select(c.first_received_at, c.session_id, c.document)
            .where(*conditions)
            .order_by(c.first_received_at.desc(), c.session_id.desc())
        )

    def conditions(self, wanted: CallFilter, source: Source) -> list[ColumnElement[bool]]:
        """What the rows of `wanted` have in common."""
        return list(filters.conditions(wanted, source, self.pbxs[DEFAULT_PBX].country))

    async def tallies(self, connection: AsyncConnection, wanted: CallFilter, sources: Sources = NOW) -> list[Tally]:
        """The calls, tallied."""
        found: list[Tally] = []
        for source in sources:
            found += await counting.tallies(connection, source.table, self.conditions(wanted, source))
        return found

    async def bucket_tallies(
        self, connection: AsyncConnection, wanted: CallFilter, begin: datetime, bucket_s: int, sources: Sources
    ) -> dict[int, list[Tally]]:
        """The calls, tallied by the number of the bucket in which they began; `begin` is a whole second."""
        found: dict[int, list[Tally]] = {}
        for source in sources:
            conditions = self.conditions(wanted, source)
            counted = await counting.bucket_tallies(connection, source.table, conditions, begin, bucket_s)
            for number, tally in counted:
                found.setdefault(number, []).append(tally)
        return found

    async def durations(self, connection: AsyncConnection, wanted: CallFilter, sources: Sources) -> list[int]:
        """How many of the calls lasted how long; see `counting.durations`."""
        parts = [
            await counting.durations(connection, source.table, self.conditions(wanted, source)) for source in sources
        ]
        return [sum(counts) for counts in zip(*parts, strict=True)]

    async def today(self, connection: AsyncConnection, pbxs: Iterable[str] | None = None) -> list[Json]:
        """For each of these PBXs (null: every configured one) the figures of the calls of its local day."""
        now = datetime.now(UTC)
        days = {pbx: self._asked(now, pbx)["day"] for pbx in sorted(self.pbxs if pbxs is None else pbxs)}
        return [
            {"pbx": pbx, "day": day, **figures_of(await counting.tallies_of_day(connection, pbx, day))}
            for pbx, day in days.items()
        ]

    async def call(self, connection: AsyncConnection, session_id: str, sources: Sources = NOW) -> Json | None:
        """One call."""
        for source in sources:
            c = source.table.c
            statement = select(c.document).where(c.session_id == session_id, *source.where)
            found = (await connection.execute(statement)).scalar()
            if found is not None:
                told: Json = orjson.loads(found)
                return told
        return None

    async def open_calls(self, connection: AsyncConnection) -> dict[str, int]:
        """How many calls are open at each PBX that has any."""
        rows = await connection.execute(
            select(calls.c.pbx, func.count()).where(calls.c.status == Status.OPEN.value).group_by(calls.c.pbx)
        )
        return {pbx: count for pbx, count in rows}  # noqa: C416 - rows, not pairs

    async def why(self, connection: AsyncConnection, session_id: str) -> list[Json]:
        """Every revision of a call as it was told, oldest first."""
        statement = select(revisions.c.event).where(revisions.c.session_id == session_id).order_by(revisions.c.revision)
        return [orjson.loads(row.event) for row in await connection.execute(statement)]

    async def legs(self, connection: AsyncConnection, session_id: str) -> list[str]:
        """The other legs of the same external call that the rules linked with this one, either way."""
        c = calls.c
        proved = select(c.linked_session_id).where(c.session_id == session_id, c.linked_session_id.is_not(None))
        proven = select(c.session_id).where(c.linked_session_id == session_id)
        return sorted((await connection.execute(union(proved, proven))).scalars())

    async def snapshot(self) -> Json:
        """All that a wallboard needs: agents, open calls, the last closed ones, feeds, figures; at one position."""
        async with self.store.reading() as connection:
            seen = await self.store.seen(connection)
            opened, _ = await self.calls(connection, CallFilter(status="open"), 1_000)
            agents = await self.agents(connection)
            feeds = self.pbx_feeds()
            latest = await self._latest(connection, {*(one.pbx for one in feeds), *(one["pbx"] for one in agents)})
            # Whoever is sent it is told of these; what others were told before still holds for them.
            self._wrap_ups |= _wrap_ups_in(agents)
            return {
                "agents": agents,
                "calls": [*opened, *latest],
                "feeds": [feed.model_dump(mode="json") for feed in feeds],
                "figures": await self.today(connection),
                **seen.stamp(),
            }

    async def _latest(self, connection: AsyncConnection, pbxs: Iterable[str]) -> list[Json]:
        """The last closed calls of each PBX: a board may show one of them, however busy the others are."""
        pages = [await self.calls(connection, CallFilter(pbx=pbx, closed=True), SNAPSHOT_CALLS) for pbx in sorted(pbxs)]
        return [call for page, _ in pages for call in page]

    async def change(self, connection: AsyncConnection, calls_told: Sequence[Json], keys: Sequence[AgentKey]) -> Json:
        """What has changed: these calls, these agents, their PBXs' figures; all as this transaction sees it.

        Each change of a busy day would count all its calls anew. That may take a tenth of the time: until then the
        figures are owed, and told by a later change. Say `told` of what clients were sent.
        """
        self.owed |= {call["pbx"] for call in calls_told} | {pbx for pbx, _ in keys}
        figures = await self._figures_in_turn(connection)
        with self.store.shortly(connection, len(keys)):
            agents = await self.agents(connection, keys) if keys else []
            stamp = (await self.store.seen(connection)).stamp()
        return {"calls": list(calls_told), "agents": agents, "figures": figures, **stamp}

    async def _figures_in_turn(self, connection: AsyncConnection) -> list[Json]:
        began_s = time.monotonic()
        if began_s < self._figures_from_s:
            return []
        found = await self.today(connection, sorted(self.owed))
        took_s = time.monotonic() - began_s
        self._figures_from_s = began_s + min(took_s / FIGURES_SHARE, FIGURES_S_MAX)
        return found

    def told(self, change: Json) -> None:
        """Clients were sent this change, and what it tells is no longer owed."""
        self.owed -= {one["pbx"] for one in change["figures"]}
        for agent in change["agents"]:
            self._wrap_ups.pop(_key(agent), None)
        self._wrap_ups |= _wrap_ups_in(change["agents"])

    def told_all(self, snapshot: Json) -> None:
        """Every client was sent this snapshot: whoever is not in it is shown no more."""
        self._wrap_ups.clear()
        self.told(snapshot)


def _key(agent: Json) -> AgentKey:
    return agent["pbx"], agent["extension"]


def _wrap_ups_in(agents: Iterable[Json]) -> dict[AgentKey, datetime]:
    """Until when these agents are shown to wrap up."""
    return {_key(agent): agent["wrap_up_until"] for agent in agents if agent["wrap_up_until"] is not None}
