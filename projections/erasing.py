"""``python -m projections forget NUMBER``: a party out of the views, and what of it remains in the log until when.

1. write down the digests, so that from this commit on no fold brings the number back; 2. drop the version of the views
that a rebuild left; 3. go through every revision, with its call, and write those anew that name the number; 4. and
through every call, since the history of some is gone before them; 5. tell the service. Killed at any point, it is run
again. The calls stay, without the number: the figures do not change.
"""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError
from sqlalchemy import bindparam, select, text, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from events.kafka import connection as kafka_connection
from events.pbx import DEFAULT_PBX, pbxs_of
from events.settings import ConfigurationError
from projections import versions
from projections.call_log import Told, named_in, told_in
from projections.forgetting import Forgotten, entries_of
from projections.settings import ProjectionsSettings
from projections.store import Store, open_store

AT_ONCE: Final = 1_000
NEVER: Final = "-1"


class Erased:
    """What was found of the party."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.sessions: set[str] = set()
        self.without_history = 0
        self.revisions = 0
        self.webhooks: set[tuple[int, int]] = set()
        self.newest: datetime | None = None

    def note(self, told: Told) -> None:
        """One event of the party."""
        self.sessions.add(told.event["session_id"])
        self.revisions += 1
        self.webhooks.update((cause["partition"], cause["offset"]) for cause in told.event["causes"])
        self.newest = told.time if self.newest is None else max(self.newest, told.time)


async def forget(settings: ProjectionsSettings, number: str) -> int:
    """Forget the number, and tell; raises ConfigurationError."""
    pbxs = pbxs_of(settings)
    store = await open_store(settings.database_url, settings.topic_set.call_sessions)
    try:
        async with versions.alone(store.engine):
            forgotten = await store.forgotten()
            entries = entries_of(number, pbxs[DEFAULT_PBX].country, forgotten.salt, datetime.now(UTC))
            if not entries:
                raise ConfigurationError("NUMBER: it has no digits; give a telephone number in any spelling")
            async with store.changing() as connection:
                await store.put_forgotten(connection, forgotten.salt, entries)
                await connection.run_sync(versions.drop, versions.OLD, versions.NEW, versions.GONE)
            erased = Erased()
            who = Forgotten(forgotten.salt, entries)
            await _sweep(store, who, erased)
            await _sweep_calls(store, who, erased)
            async with store.changing():
                pass  # told once more, now that all is done
            await _overwritten(store)
    finally:
        await store.close()
    await _tell(settings, erased)
    return 0


async def _sweep(store: Store, who: Forgotten, erased: Erased) -> None:
    revisions, last = store.version.revisions.c, ("", 0)
    after = tuple_(revisions.session_id, revisions.revision) > tuple_(bindparam("sid"), bindparam("revision"))
    page = select(store.version.revisions).where(after).order_by(revisions.session_id, revisions.revision)
    while True:
        async with store.writing() as connection:
            rows = (await connection.execute(page.limit(AT_ONCE), {"sid": last[0], "revision": last[1]})).all()
            if not rows:
                return
            last = rows[-1].session_id, rows[-1].revision
            await _sweep_page(connection, store, who, rows, erased)


async def _sweep_page(
    connection: AsyncConnection, store: Store, who: Forgotten, rows: Sequence[Any], erased: Erased
) -> None:
    for row in rows:
        told = told_in(0, row.event.encode())
        redacted = who.redacted(told)
        if redacted is told:
            continue
        erased.note(told)
        revisions, calls = store.version.revisions, store.version.calls
        here = (revisions.c.session_id == row.session_id, revisions.c.revision == row.revision)
        await connection.execute(update(revisions).where(*here).values(event=redacted.value.decode()))
        same = (calls.c.session_id == row.session_id, calls.c.revision == row.revision)
        await connection.execute(update(calls).where(*same).values(named_in(redacted.session)))


async def _sweep_calls(store: Store, who: Forgotten, erased: Erased) -> None:
    """Those that no revision tells of any more: retention takes the history of a call before the call."""
    calls, last = store.version.calls, ""
    page = select(calls.c.session_id, calls.c.revision, calls.c.document).where(calls.c.session_id > bindparam("last"))
    page = page.order_by(calls.c.session_id).limit(AT_ONCE)
    while True:
        async with store.writing() as connection:
            rows = (await connection.execute(page, {"last": last})).all()
            if not rows:
                return
            last = rows[-1].session_id
            for row in rows:
                session = orjson.loads(row.document)
                redacted = who.redacted_call(session)
                if redacted is session:
                    continue
                erased.sessions.add(row.session_id)
                erased.without_history += 1
                same = (calls.c.session_id == row.session_id, calls.c.revision == row.revision)
                await connection.execute(update(calls).where(*same).values(named_in(redacted)))


async def _overwritten(store: Store) -> None:
    """SQLite: the file is written anew; PostgreSQL: its next vacuum overwrites the rows, begun here.

    Whatever `secure_delete` says, SQLite's pages keep bytes of what stood in them before a row moved.
    """
    async with store.engine.connect() as connection:
        plain = await connection.execution_options(isolation_level="AUTOCOMMIT")
        if plain.dialect.name == "sqlite":
            await plain.execute(text("commit"))
            await plain.execute(text("vacuum"))
            await plain.execute(text("pragma wal_checkpoint(truncate)"))
        else:
            await plain.execute(text("vacuum calls, revisions"))


async def _tell(settings: ProjectionsSettings, erased: Erased) -> None:
    names = settings.topic_set
    lines = [
        f"forgotten in {len(erased.sessions):,} calls ({erased.revisions:,} revisions): number, name and recording",
        "the calls stay without them; a rebuild brings nothing back; calls received from now on are shown",
        "the log still holds:",
    ]
    try:
        kept = await _configs(settings, [names.webhooks, names.call_sessions, names.dead_letters])
    except (KafkaError, OSError) as error:
        kept = {}
        lines.append(f"  (the broker does not say how long: {type(error).__name__})")
    counts = {names.webhooks: f"{len(erased.webhooks):,} webhooks", names.call_sessions: f"{erased.revisions:,} events"}
    more, newest = "", erased.newest
    if erased.without_history:
        more, newest = f" and those of {erased.without_history:,} calls without a history here", None
    for topic, count in counts.items():
        lines.append(f"  {topic}: {count}{more}, {_until(kept.get(topic, {}), newest)}")
    lines += [
        f"  {names.changelog}: the calls that the processors keep (PROCESSORS_CLOSED_KEPT_S), until it is compacted",
        f"  {names.dead_letters}: what could not be read, {_until(kept.get(names.dead_letters, {}), None)}",
        "and the journal of ingest what is not forwarded yet, the event stream's history what clients may resume",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


def _until(config: dict[str, str], newest: datetime | None) -> str:
    """When the broker has deleted a record: after its retention, with the segment in which it lies."""
    retention, segment = config.get("retention.ms"), config.get("segment.ms", "0")
    if retention is None:
        return "for as long as its topic keeps it"
    if retention == NEVER:
        return "for ever (retention.ms=-1)"
    span = timedelta(milliseconds=int(retention) + int(segment))
    if newest is None:
        return f"up to {span.days} days after it came"
    return f"until {(newest + span).date().isoformat()} at the latest"


async def _configs(settings: ProjectionsSettings, topics: list[str]) -> dict[str, dict[str, str]]:
    admin = AIOKafkaAdminClient(**kafka_connection(settings), request_timeout_ms=10_000)
    try:
        await admin.start()
        answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in topics])
    finally:
        await admin.close()
    return {
        name: {entry[0]: entry[1] for entry in entries}
        for answer in answers
        for _code, _message, _kind, name, entries in answer.resources
    }
