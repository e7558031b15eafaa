"""How long the views keep what: per PBX, closed calls (with their revisions and agents) and, for less long, revisions.

Age is counted from a call's first receipt, which corrections never change; an open call is never too old. Rows are
deleted some at a time, so that the projector never waits for long; a rebuild leaves out what is too old.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import bindparam, delete, exists, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from events.pbx import Pbx
from events.session import Status
from projections.settings import ProjectionsSettings
from projections.store import Store
from projections.tables import UtcTime

AT_ONCE: Final = 1_000
FOR_EVER: Final = 0
FIRST: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Kept:
    """Days that calls and revisions are kept; 0: for ever."""

    calls_days: int
    revisions_days: int


class Retention:
    """What is kept how long, of every PBX."""

    def __init__(self, settings: ProjectionsSettings, pbxs: Mapping[str, Pbx]) -> None:
        """A PBX's own days come before those of the settings."""
        calls, revisions = settings.projections_calls_kept_days, settings.projections_revisions_kept_days
        self._default = Kept(calls, revisions)
        self._own = {
            name: Kept(
                calls if pbx.calls_kept_days is None else pbx.calls_kept_days,
                revisions if pbx.revisions_kept_days is None else pbx.revisions_kept_days,
            )
            for name, pbx in pbxs.items()
        }

    async def expire(self, store: Store, now: datetime) -> dict[str, int]:
        """Delete what is too old; how many rows of each table that were."""
        found = dict.fromkeys(("calls", "revisions", "agents"), 0)
        kept = (self._default, *self._own.values())
        if any(one.revisions_days != FOR_EVER for one in kept):
            await self._expire_revisions(store, now, found)
        if any(one.calls_days != FOR_EVER for one in kept):
            await self._expire_calls(store, now, found)
        return found

    async def _expire_revisions(self, store: Store, now: datetime, found: dict[str, int]) -> None:
        """The histories of old calls, found by their revisions, which were not known before the call's first receipt.

        From the calls, every run would go through all whose history is gone already.
        """
        days = min(one.revisions_days for one in (self._default, *self._own.values()) if one.revisions_days != FOR_EVER)
        async for ids in _known_before(store, now - timedelta(days=days)):
            calls = store.version.calls.c
            closed = (calls.session_id.in_(ids), calls.status != Status.OPEN.value)
            async with store.reading() as connection:
                rows = await connection.execute(
                    select(calls.session_id, calls.pbx, calls.first_received_at).where(*closed)
                )
                old = [one.session_id for one in rows if self._is_old(one.pbx, one.first_received_at, now)]
            if old:
                async with store.writing() as connection:
                    found["revisions"] += await _delete(connection, store, old, "revisions")

    def _is_old(self, pbx: str, first_received_at: datetime, now: datetime) -> bool:
        days = self._kept(pbx).revisions_days
        return days != FOR_EVER and first_received_at < now - timedelta(days=days)

    async def _expire_calls(self, store: Store, now: datetime, found: dict[str, int]) -> None:
        async for pbx in _pbxs(store):
            days = self._kept(pbx).calls_days
            if days != FOR_EVER:
                await _calls(store, pbx, now - timedelta(days=days), found)

    def _kept(self, pbx: str) -> Kept:
        return self._own.get(pbx, self._default)


async def _pbxs(store: Store) -> AsyncIterator[str]:
    """Whoever has calls: one step into the index for each, however many calls they are."""
    calls = store.version.calls.c
    following = select(func.min(calls.pbx)).where(calls.pbx > bindparam("last"))
    last: str | None = ""
    while True:
        async with store.reading() as connection:
            last = (await connection.execute(following, {"last": last})).scalar()
        if last is None:
            return
        yield last


async def _known_before(store: Store, before: datetime) -> AsyncIterator[set[str]]:
    """The sessions of the revisions that were known before that time, some at a time, oldest first."""
    revisions = store.version.revisions.c
    place = tuple_(revisions.known_at, revisions.session_id)
    after = place > tuple_(bindparam("known_at", type_=UtcTime), bindparam("session_id"))
    page = select(revisions.known_at, revisions.session_id).where(after, revisions.known_at < before)
    page = page.order_by(revisions.known_at, revisions.session_id).limit(AT_ONCE)
    last: dict[str, Any] = {"known_at": FIRST, "session_id": ""}
    while True:
        async with store.reading() as connection:
            rows = (await connection.execute(page, last)).all()
        if not rows:
            return
        last = {"known_at": rows[-1].known_at, "session_id": rows[-1].session_id}
        yield {row.session_id for row in rows}


async def _calls(store: Store, pbx: str, before: datetime, found: dict[str, int]) -> None:
    c = store.version.calls.c
    closed = (c.pbx == pbx, c.status != Status.OPEN.value, c.first_received_at < before)
    while True:
        async with store.writing() as connection:
            ids = (await connection.execute(select(c.session_id).where(*closed).limit(AT_ONCE))).scalars().all()
            if not ids:
                break
            for table in ("revisions", "calls"):
                found[table] += await _delete(connection, store, ids, table)
    agents = store.version.agents
    any_call = exists().where(c.pbx == agents.c.pbx, c.extension == agents.c.extension)
    gone = delete(agents).where(agents.c.pbx == pbx, agents.c.last_at < before, ~any_call)
    async with store.writing() as connection:
        found["agents"] += (await connection.execute(gone)).rowcount


async def _delete(connection: AsyncConnection, store: Store, ids: Sequence[str], name: str) -> int:
    table = store.version.revisions if name == "revisions" else store.version.calls
    return (await connection.execute(delete(table).where(table.c.session_id.in_(ids)))).rowcount
