"""The views rebuilt beside themselves, on a real Kafka and both databases: exact, at once, and back; or not at all."""

import asyncio
import contextlib
import io
import operator
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from sqlalchemy import Connection, inspect, text
from sqlalchemy.engine import make_url

from events.kafka import KafkaSettings, connection
from events.settings import ConfigurationError
from processors.task import InputRecord
from projections import versions
from projections.rebuilding import StoppedError, Wanted, rebuild
from projections.settings import ProjectionsSettings
from projections.store import Store, open_store
from projections.topic import Topic, open_topic
from tests.system import Service, System, append
from tests.views_folded import difference, folded_rows, session_records, stored_rows
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(300)

DAMAGE = (
    "update calls set day = '1999-01-01' where session_id = (select min(session_id) from calls)",
    "delete from calls where session_id = (select max(session_id) from calls)",
    "update agents set email = 'nobody' where extension = '201'",
    "delete from revisions where revision = 2 and session_id = (select min(session_id) from calls)",
)


class Site:
    """The projections of one test: their service, their database, their topic, and commands beside them."""

    def __init__(self, kafka: KafkaSettings, folder: Path, store: Store, url: str) -> None:
        """Nothing is started yet."""
        self.kafka = kafka
        self.store = store
        self.records: list[InputRecord] = []
        self.system = System(kafka, folder, PROJECTIONS_BATCH_RECORDS_MAX="20", PROJECTIONS_DATABASE_URL=url)
        self.settings = {
            "kafka_bootstrap_servers": kafka.kafka_bootstrap_servers,
            "kafka_topic_prefix": kafka.kafka_topic_prefix,
            "projections_database_url": url,
            "projections_batch_records_max": 20,
        }
        self._folder = folder
        self._count = 0

    @property
    def topic(self) -> str:
        """The session topic."""
        return self.kafka.topic_set.call_sessions

    async def append(self, records: Sequence[InputRecord]) -> None:
        """Write the records to the topic."""
        self.records += records
        await append(self.kafka, records, self.topic)

    async def differs(self) -> list[str]:
        """How the live views differ from the fold of the topic."""
        return difference(await stored_rows(self.store), folded_rows(self.records, self.topic))

    async def caught_up(self) -> None:
        """Wait until the views stand at the topic's end."""

        async def position() -> int:
            return sum(one.next_offset for one in (await self.store.positions()).values())

        await eventually(position, lambda seen: seen == len(self.records), 150)

    def command(self, *arguments: str, **environment: str) -> Service:
        """Start a command of the projections."""
        self._count += 1
        log = self._folder / f"command-{self._count}.log"
        return Service("projections", {**self.system.environment, **environment}, log, *arguments)

    async def rebuild(self, *, back: bool = False, dry_run: bool = False, **changed: Any) -> str:
        """What the command says, run in this process."""
        settings = ProjectionsSettings(**{**self.settings, **changed})
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            assert await rebuild(settings, Wanted(back, dry_run)) == 0
        return said.getvalue()

    async def damage(self) -> None:
        """Make rows wrong, as no code of ours would."""
        async with self.store.writing() as connection:
            for one in DAMAGE:
                await connection.execute(text(one))

    async def delete_before(self, offset: int) -> None:
        """As the topic's retention does, of the partition that the records are on."""
        admin = AIOKafkaAdminClient(**connection(self.kafka))
        await admin.start()
        await admin.delete_records({TopicPartition(self.topic, 1): RecordsToDelete(before_offset=offset)})
        await admin.close()

    async def tables(self) -> set[str]:
        """The names of the database's tables."""
        async with self.store.reading() as connection:
            return set(await connection.run_sync(lambda one: inspect(one).get_table_names()))


@pytest.fixture
async def site(kafka: KafkaSettings, tmp_path: Path, database_url: str) -> AsyncIterator[Site]:
    """An empty site, once on each database."""
    store = await open_store(make_url(database_url), kafka.topic_set.call_sessions)
    one = Site(kafka, tmp_path, store, re.sub(r"\+\w+", "", database_url))
    yield one
    one.system.kill()
    await store.close()


async def watch(site: Site, answers: list[tuple[int, Any]]) -> None:
    """Ask for the calls again and again."""
    async with httpx.AsyncClient() as client:
        while True:
            answer = await client.get(f"{site.system.board}/api/v1/calls", params={"limit": "1000"})
            answers.append((answer.status_code, answer.json()))
            await asyncio.sleep(0.01)


async def test_a_rebuild_mends_the_views_at_once_and_can_go_back(site: Site) -> None:
    records = session_records(60)
    await site.append(records[:100])
    site.system.start("projections")
    await site.caught_up()
    await site.damage()
    damaged = (await stored_rows(site.store))["calls"]
    answers: list[tuple[int, Any]] = []
    watching = asyncio.create_task(watch(site, answers))

    dry = await site.rebuild(dry_run=True)
    assert "not exchanged" in dry
    assert (await stored_rows(site.store))["calls"] == damaged, "a dry run changes nothing"

    feeding = asyncio.create_task(site.append(records[100:]))
    said = await site.rebuild()
    await feeding
    await site.caught_up()
    assert await site.differs() == []
    assert re.search(r"calls: \d+ equal, 1 changed, 0 only before, 1 only after\n  changed columns: day 1\n", said), (
        said
    )
    assert "agents: 8 equal, 1 changed, 0 only before, 0 only after\n  changed columns: email 1\n" in said
    assert re.search(r"revisions: \d+ equal, 0 changed, 0 only before, 1 only after\n", said)
    assert "+41" not in said, "no number of anybody is told"

    back = await site.rebuild(back=True)
    assert "1 only before" in back
    assert any("1999-01-01" in row for row in (await stored_rows(site.store))["calls"])
    assert (await site.store.positions())[1].next_offset == len(records), "folded up to here, too"
    await site.rebuild(back=True)
    assert await site.differs() == []

    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert {status for status, _ in answers} == {200}
    by_position: dict[int, set[int]] = {}
    for _, body in answers:
        by_position.setdefault(body["position"], set()).add(len(body["calls"]))
    assert all(max(sizes) - min(sizes) <= 1 for sizes in by_position.values()), "never a version half built"
    assert await site.tables() >= {"calls", "old_calls"}
    assert not await site.tables() & {"new_calls", "gone_calls"}


async def test_a_rebuild_that_is_killed_midway_harms_nothing_and_the_next_one_does(site: Site) -> None:
    await site.append(session_records(100))
    site.system.start("projections")
    await site.caught_up()
    for share in (0.1, 0.6):
        command = site.command("rebuild", PROJECTIONS_BATCH_RECORDS_MAX="5")
        await eventually(partial(built, site), partial(operator.lt, share * len(site.records)), 60)
        command.kill()
        assert await site.differs() == []
    await site.append(session_records(20, partition=2))
    await site.caught_up()
    assert await site.differs() == [], "the service goes on"
    command = site.command("rebuild")

    async def ended() -> int | None:
        return command.returncode

    assert await eventually(ended, lambda seen: seen is not None, 60) == 0
    said = command.log.read_text("utf-8")
    assert "calls: 120 equal, 0 changed, 0 only before, 0 only after" in said
    assert re.search(r"rebuild: (\d+) / \1 records \(100 %\), [\d,]+ records/s, ETA 0:00", said), said
    assert await site.differs() == []


async def built(site: Site) -> int:
    """How far the version that is being built has come."""
    if "new_offsets" not in await site.tables():
        return 0
    async with site.store.reading() as connection:
        return int(
            (await connection.execute(text("select coalesce(sum(next_offset), 0) from new_offsets"))).scalar_one()
        )


async def test_a_rebuild_that_cannot_be_says_so_and_leaves_the_views(site: Site) -> None:
    with pytest.raises(ConfigurationError, match="there are no views yet"):
        await site.rebuild()
    await site.append(session_records(20))
    site.system.start("projections")
    await site.caught_up()
    with pytest.raises(ConfigurationError, match="there is no earlier version"):
        await site.rebuild(back=True)
    with pytest.raises(StoppedError, match="the views are as they were"):
        await site.rebuild(kafka_bootstrap_servers="127.0.0.1:1")
    async with versions.alone(site.store.engine):
        with pytest.raises(ConfigurationError, match="by another process"):
            await site.rebuild()
    assert await site.differs() == []
    async with site.store.writing() as connection:
        await connection.execute(text("update offsets set next_offset = next_offset + 1000"))
    with pytest.raises(ConfigurationError, match="it is another topic"):
        await site.rebuild()


async def test_what_comes_while_a_rebuild_begins_does_not_make_it_another_topic(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.append(session_records(20))
    site.system.start("projections")
    await site.caught_up()

    @asynccontextmanager
    async def opened_before_more_came(settings: ProjectionsSettings) -> AsyncIterator[Topic]:
        async with open_topic(settings) as topic:
            await site.append(session_records(30))
            await site.caught_up()
            yield topic

    monkeypatch.setattr("projections.rebuilding.open_topic", opened_before_more_came)
    await site.rebuild()


async def test_what_the_topic_has_deleted_is_kept(site: Site) -> None:
    await site.append(session_records(30))
    site.system.start("projections")
    await site.caught_up()
    before = await stored_rows(site.store)
    await site.delete_before(40)
    said = await site.rebuild()
    assert re.search(r"kept \d+ calls that the topic no longer holds", said)
    assert await stored_rows(site.store) == before


async def test_the_way_back_loses_nothing_that_the_topic_has_deleted_since(site: Site) -> None:
    records = session_records(30)
    opened = [number for number, one in enumerate(records) if b'"call.started"' in (one.value or b"")]
    await site.append(records[: opened[12] + 1])
    site.system.start("projections")
    await site.caught_up()
    await site.rebuild()
    await site.append(records[opened[12] + 1 :])
    await site.caught_up()
    before = await stored_rows(site.store)
    await site.delete_before(opened[25])
    said = await site.rebuild(back=True, dry_run=True)
    # Those that began and ended meanwhile, and the one that only ended.
    assert "kept 13 calls that the topic no longer holds" in said
    assert await stored_rows(site.store) == before
    await site.rebuild(back=True)
    assert await stored_rows(site.store) == before
    await site.rebuild(back=True)
    assert await stored_rows(site.store) == before


async def test_a_rebuild_needs_no_running_service_and_a_migration_ends_the_way_back(site: Site) -> None:
    await site.append(session_records(20))
    site.system.start("projections")
    await site.caught_up()
    site.system.stop()
    await site.rebuild()
    assert await site.differs() == []
    async with site.store.writing() as connection:
        names = await connection.run_sync(index_names)
        assert all("__" in name for name in names), "a rebuilt version's indexes have names of their own"
        # The last migration once more: it makes an index anew, and needs it under its plain name.
        await connection.execute(text("update alembic_version set version_num = '6'"))
    url = site.store.engine.url
    again = await open_store(url, site.topic)
    tables = await site.tables()
    await again.close()
    assert "old_calls" not in tables
    async with site.store.reading() as connection:
        names = await connection.run_sync(index_names)
    assert {"calls_of_day", "revisions_known"} <= names
    assert not any("__" in name for name in names)


def index_names(connection: Connection) -> set[str]:
    """Of the live tables."""
    found = inspect(connection)
    return {str(index["name"]) for table in ("calls", "revisions") for index in found.get_indexes(table)}
