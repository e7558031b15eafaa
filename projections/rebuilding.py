"""``python -m projections rebuild``: a new version of the views beside the live one, from the topic; then the exchange.

1. make empty tables beside the live ones; 2. fold the topic into them up to where the live ones stand; 3. keep what the
topic has deleted since; 4. compare row by row, as of one position; 5. hold the projector's next transaction back,
fold what came meanwhile, exchange the tables, let it go on: it finds the offset that it expects. Whatever fails before
the end of 5, the live views were not touched. `--back` is 2 to 5 with the version that the last exchange replaced.
"""

import asyncio
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, tzinfo
from typing import Final

from aiokafka.errors import KafkaError
from sqlalchemy import Table, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from events.kafka import partition_count
from events.pbx import DEFAULT_PBX, pbxs_of
from events.progress import Progress, span
from events.settings import ConfigurationError
from projections import versions
from projections.comparing import Difference, Key, compare, count
from projections.folding import NOTHING, Advance, Position, fold, rows_of
from projections.forgetting import NOBODY
from projections.retention import Retention
from projections.settings import ProjectionsSettings
from projections.store import Store, open_store
from projections.topic import Topic, open_topic

GAP_RECORDS_MAX: Final = 2_000
"""So many records are folded while the projector waits, at the most."""
LOCK_TIMEOUT_MS: Final = 500
EXCHANGE_PATIENCE_S: Final = 120.0
KEPT_AT_ONCE: Final = 1_000
COMPARED: Final = ("calls", "revisions", "agents")
Positions = Mapping[int, Position]


class StoppedError(Exception):
    """The rebuild cannot go on; the live views are as they were. The message says why."""


class _TooFarError(Exception):
    """Too much came meanwhile to fold it while the projector waits."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """`back`: to the version before; `dry_run`: no exchange; `limit`: so many rows of each table are shown."""

    back: bool = False
    dry_run: bool = False
    limit: int = 20


@dataclass(slots=True)
class _Touched:
    """What was folded after the comparison's snapshot was taken."""

    sessions: set[Key] = field(default_factory=set)
    agents: set[Key] = field(default_factory=set)

    def keys(self, table: str) -> set[Key]:
        """Of an agent the whole key, of the other tables the session."""
        return self.agents if table == "agents" else self.sessions


async def rebuild(settings: ProjectionsSettings, wanted: Wanted) -> int:
    """Rebuild, tell, exchange; raises ConfigurationError or StoppedError."""
    live = await open_store(settings.database_url, settings.topic_set.call_sessions)
    try:
        # The topic's own count: a wrong setting must not leave partitions out.
        count = await partition_count(settings, settings.topic_set.call_sessions)
        if count is None:
            raise ConfigurationError(f"KAFKA_TOPIC_PREFIX: there is no topic {settings.topic_set.call_sessions}")
        known = settings.model_copy(update={"kafka_topic_partitions": count})
        async with versions.alone(live.engine), open_topic(known) as topic:
            await _Rebuild(settings, live, topic, wanted).run()
    except (KafkaError, SQLAlchemyError, OSError, TimeoutError) as error:
        reason = str(error.orig) if isinstance(error, DBAPIError) else str(error)
        first = (reason.splitlines() or [""])[0]
        raise StoppedError(f"{type(error).__name__}: {first}; the views are as they were: run it again") from error
    finally:
        await live.close()
    return 0


class _Rebuild:
    def __init__(self, settings: ProjectionsSettings, live: Store, topic: Topic, wanted: Wanted) -> None:
        self._live = live
        self._topic = topic
        self._wanted = wanted
        self._prefix = versions.OLD if wanted.back else versions.NEW
        self._version = live.beside(self._prefix)
        pbxs = pbxs_of(settings)
        self._retention = Retention(settings, pbxs)
        self._zones: Mapping[str, tzinfo] = {name: pbx.zone for name, pbx in pbxs.items()}
        self._progress = Progress("rebuild")
        self._touched = _Touched()
        self._differences = [Difference(name, wanted.limit) for name in COMPARED]
        self._kept = 0
        self._forgotten = NOBODY

    async def run(self) -> None:
        """All steps; what was begun and cannot be ended is dropped."""
        began = time.monotonic()
        target = await self._live.positions()
        # Anew: the service may have folded what came since the topic was opened.
        await self._topic.look(len(self._topic.ends))
        self._refuse_another_topic(target)
        self._forgotten = await self._live.forgotten()
        await self._make()
        try:
            async with self._progress.shown():
                await self._catch_up(target)
                await self._catch_up(await self._live.positions())
            await self._keep()
            await self._retention.expire(self._version, datetime.now(UTC))
            await self._compare()
            await self._exchange()
        finally:
            # The exchanged ones have other names by now.
            with suppress(SQLAlchemyError, OSError):
                await self._drop()
        self._tell(time.monotonic() - began)

    def _refuse_another_topic(self, target: Positions) -> None:
        if not target:
            raise ConfigurationError("PROJECTIONS_DATABASE_URL: there are no views yet; the service fills them")
        for partition, position in sorted(target.items()):
            if position.next_offset > self._topic.ends.get(partition, 0):
                raise ConfigurationError(
                    f"KAFKA_TOPIC_PREFIX: the views stand at offset {position.next_offset} of partition {partition},"
                    f" and {self._topic.name} ends at {self._topic.ends.get(partition, 0)}: it is another topic"
                )

    async def _make(self) -> None:
        async with self._live.writing() as connection:
            if self._wanted.back:
                if not await connection.run_sync(versions.has_version, versions.OLD):
                    raise ConfigurationError("--back: there is no earlier version; only a rebuild leaves one")
                return
            await connection.run_sync(versions.drop, versions.NEW, versions.GONE)
            await connection.run_sync(versions.create, self._version.version)

    async def _drop(self) -> None:
        for prefix in (versions.NEW, versions.GONE):
            async with self._live.writing() as connection:
                await connection.run_sync(versions.drop, prefix)

    async def _catch_up(self, target: Positions, within: AsyncConnection | None = None) -> None:
        """Fold the topic up to `target`: batch by batch, or all of it in the caller's transaction."""
        if within is None:
            positions = await self._version.positions()
        else:
            positions = await self._version.positions_in(within)
        first = {one: positions.get(one, NOTHING).next_offset for one in target}
        end = {one: position.next_offset for one, position in target.items()}
        self._progress.total += sum(end[one] - first[one] for one in end)
        async for records in self._topic.between(first, end):
            batch = fold(records, positions, self._forgotten)
            rows = rows_of(batch, self._zones, self._zones[DEFAULT_PBX])
            self._touched.sessions.update((one.event["session_id"],) for one in batch.told)
            self._touched.agents.update((row["pbx"], row["extension"]) for row in rows.agents)
            if within is None:
                began = time.monotonic()
                async with self._version.writing() as connection:
                    await self._version.put(connection, self._version.given(rows), batch.steps)
                if self._live.engine.dialect.name == "sqlite":
                    await asyncio.sleep(time.monotonic() - began)  # its one writer is the service, too
            else:
                await self._version.put(within, self._version.given(rows), batch.steps)
            positions |= {step.partition: step.position for step in batch.steps}
            self._progress.done += sum(step.position.next_offset - step.expected for step in batch.steps)
        await self._step_over(positions, target, within)

    async def _step_over(self, positions: Positions, target: Positions, within: AsyncConnection | None) -> None:
        """Nothing lies between the last record and the target that the topic still has."""
        steps = [
            Advance(one, positions.get(one, NOTHING).next_offset, position)
            for one, position in target.items()
            if positions.get(one, NOTHING).next_offset < position.next_offset
        ]
        self._progress.done += sum(step.position.next_offset - step.expected for step in steps)
        if within is not None:
            await self._version.advance(within, steps)
        elif steps:
            async with self._version.writing() as connection:
                await self._version.advance(connection, steps)

    async def _keep(self) -> None:
        """Calls, revisions and agents of partitions whose beginning the topic has deleted: what is not there stays.

        The version before may not have come to what was deleted, so that it lacks rows, or the later state of a call.
        """
        cut = [partition for partition, begin in self._topic.begins.items() if begin > 0]
        if not cut:
            return
        calls, last = self._live.version.calls, ""
        while True:
            chunk = select(calls.c.session_id).where(calls.c.session_id > last, calls.c.partition.in_(cut))
            async with self._version.writing() as connection:
                rows = await connection.execute(chunk.order_by(calls.c.session_id).limit(KEPT_AT_ONCE))
                ids = list(rows.scalars())
                if not ids:
                    await self._version.keep_agents(connection, self._live.version, cut)
                    return
                self._kept += await self._version.keep_calls(connection, self._live.version, ids)
            last = ids[-1]

    async def _compare(self) -> None:
        """Both versions as of one position; what came after it is compared again at the exchange."""
        async with self._live.reading() as connection:
            now = await self._live.positions_in(connection)
            self._touched = _Touched()
            await self._catch_up(now)
            for difference in self._differences:
                await compare(connection, *self._tables(difference.table), difference)

    def _tables(self, name: str) -> tuple[Table, Table]:
        return getattr(self._live.version, name), getattr(self._version.version, name)

    async def _exchange(self) -> None:
        """Try until the tables are free; a dry run does the same and then rolls it back."""
        deadline = time.monotonic() + EXCHANGE_PATIENCE_S
        while True:
            await self._catch_up(await self._live.positions())
            try:
                async with self._live.changing(LOCK_TIMEOUT_MS) as connection:
                    now = await self._live.positions_in(connection)
                    differences = await self._catch_up_at_last(now, connection)
                    if self._wanted.dry_run:
                        await connection.rollback()
                    else:
                        await versions.exchange(connection, self._prefix)
            except (_TooFarError, DBAPIError) as error:
                # A reader with a long answer holds the tables: let it end, and those behind us pass.
                if isinstance(error, DBAPIError) and not _is_busy(error):
                    raise
                if time.monotonic() > deadline:
                    raise StoppedError(
                        f"the tables were never free within {EXCHANGE_PATIENCE_S:.0f} s ({type(error).__name__});"
                        " the views are as they were: run it when fewer read"
                    ) from None
                await asyncio.sleep(LOCK_TIMEOUT_MS / 1000)
            else:
                self._differences = differences
                return

    async def _catch_up_at_last(self, now: Positions, connection: AsyncConnection) -> list[Difference]:
        """All that came until now, with what differs at last."""
        there = await self._version.positions_in(connection)
        gap = sum(position.next_offset - there.get(one, NOTHING).next_offset for one, position in now.items())
        if gap > GAP_RECORDS_MAX:
            raise _TooFarError
        await self._catch_up(now, connection)
        found = [replace(one) for one in self._differences]
        for difference in found:
            keys, (before, after) = self._touched.keys(difference.table), self._tables(difference.table)
            difference.forget(keys)
            await compare(connection, before, after, difference, keys)
            difference.rows = await count(connection, before)
        return found

    def _tell(self, took_s: float) -> None:
        lines = [f"folded {self._progress.done:,} records of {self._topic.name} in {span(took_s)}"]
        for difference in self._differences:
            lines += difference.text()
        if self._kept:
            lines.append(f"kept {self._kept:,} calls that the topic no longer holds")
        if self._wanted.dry_run:
            lines.append("not exchanged (--dry-run): the views are as they were")
        else:
            lines.append("exchanged; the version before is kept: python -m projections rebuild --back")
        sys.stdout.write("\n".join(lines) + "\n")


def _is_busy(error: DBAPIError) -> bool:
    """Whether somebody else holds what was wanted: PostgreSQL's lock timeout and deadlock, SQLite's busy timeout."""
    return getattr(error.orig, "sqlstate", None) in {"55P03", "40P01"} or "locked" in str(error.orig)
