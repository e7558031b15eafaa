"""How long the views keep what: per PBX, closed calls (with their revisions and agents) and, for less long, revisions.

Age is counted from a call's first receipt, which corrections never change; an open call is never too old. Rows are
deleted some at a time, so that the projector never waits for long; a rebuild leaves out what is too old.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Select, delete, exists, select
from sqlalchemy.ext.asyncio import AsyncConnection

from events.pbx import Pbx
from events.session import Status
from projections.settings import ProjectionsSettings
from projections.store import Store

AT_ONCE: Final = 1_000
FOR_EVER: Final = 0


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
        if all(kept == Kept(FOR_EVER, FOR_EVER) for kept in (self._default, *self._own.values())):
            return found
        async with store.reading() as connection:
            names = list((await connection.execute(select(store.version.calls.c.pbx).distinct())).scalars())
        for pbx in names:
            kept = self._own.get(pbx, self._default)
            if kept.revisions_days != FOR_EVER:
                await _revisions(store, pbx, now - timedelta(days=kept.revisions_days), found)
            if kept.calls_days != FOR_EVER:
                await _calls(store, pbx, now - timedelta(days=kept.calls_days), found)
        return found


def _old(store: Store, pbx: str, before: datetime) -> Select[Any]:
    calls = store.version.calls.c
    closed = (calls.pbx == pbx, calls.status != Status.OPEN.value, calls.first_received_at < before)
    return select(calls.session_id).where(*closed).limit(AT_ONCE)


async def _revisions(store: Store, pbx: str, before: datetime, found: dict[str, int]) -> None:
    revisions, calls = store.version.revisions.c, store.version.calls.c
    has_some = exists().where(revisions.session_id == calls.session_id)
    while True:
        async with store.writing() as connection:
            ids = (await connection.execute(_old(store, pbx, before).where(has_some))).scalars().all()
            if not ids:
                return
            found["revisions"] += await _delete(connection, store, ids, "revisions")


async def _calls(store: Store, pbx: str, before: datetime, found: dict[str, int]) -> None:
    while True:
        async with store.writing() as connection:
            ids = (await connection.execute(_old(store, pbx, before))).scalars().all()
            if not ids:
                break
            for table in ("revisions", "calls"):
                found[table] += await _delete(connection, store, ids, table)
    agents, calls = store.version.agents, store.version.calls.c
    any_call = exists().where(calls.pbx == agents.c.pbx, calls.extension == agents.c.extension)
    gone = delete(agents).where(agents.c.pbx == pbx, agents.c.last_at < before, ~any_call)
    async with store.writing() as connection:
        found["agents"] += (await connection.execute(gone)).rowcount


async def _delete(connection: AsyncConnection, store: Store, ids: Sequence[str], name: str) -> int:
    table = store.version.revisions if name == "revisions" else store.version.calls
    return (await connection.execute(delete(table).where(table.c.session_id.in_(ids)))).rowcount
