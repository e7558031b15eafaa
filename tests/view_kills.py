"""``python -m tests.view_kills``: the projector killed 200 times on each database, and PostgreSQL 50 times under it.

After every kill of the projector the rows and offsets that it left are compared with the fold of the session topic up
to these offsets; at the end, and for PostgreSQL, with the fold of all. The short form is tests/test_view_kills.py.
"""

import argparse
import asyncio
import shutil
import tempfile
from pathlib import Path
from random import Random

from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine

from deploy.local.broker import say_on_stderr
from deploy.local.brokers import running
from events.kafka import KafkaSettings, ensure_topics
from projections.store import Store, open_store
from tests.postgres import Cluster, own_cluster
from tests.system import System, append
from tests.views_folded import difference, folded_rows, session_records, stored_rows
from tests.waiting import eventually

RECORDS_A_LIFE = 40
MOVE_TIMEOUT_S = 120
TOLD_EVERY = 10
PARTITION = 1
PREY = ("projector on SQLite", "projector on PostgreSQL", "PostgreSQL")


class Prey:
    """A projector on a topic that grows, and what its views must be."""

    def __init__(self, kafka: KafkaSettings, folder: Path, url: str, seed: int, lives: int) -> None:
        """`url`: of an empty database; `lives`: for so many there are records."""
        self.system = System(kafka, folder, PROJECTIONS_DATABASE_URL=url, PROJECTIONS_BATCH_RECORDS_MAX="7")
        self.system.environment["PROJECTIONS_PORT"] = "0"  # nobody asks it, and a fixed one may be taken between lives
        self._kafka, self._url = kafka, url
        self._rng = Random(seed)
        self._records = session_records(lives * RECORDS_A_LIFE // 6 + 10, PARTITION)
        self._written = 0
        self._lives = 0

    @property
    def topic(self) -> str:
        """The session topic."""
        return self._kafka.topic_set.call_sessions

    async def open(self) -> Store:
        """The test's own view of the database."""
        return await open_store(make_url(self._url), self.topic)

    async def write_more(self) -> None:
        """More records for the topic."""
        more = self._records[self._written : self._written + RECORDS_A_LIFE]
        await append(self._kafka, more, self.topic)
        self._written += len(more)

    def live(self) -> None:
        """Start the projector; each life is a group of its own, and need not wait for the dead one to time out."""
        self._lives += 1
        self.system.environment["PROJECTIONS_APPLICATION"] = f"{self._kafka.kafka_topic_prefix}-{self._lives}"
        self.system.start("projections")

    async def reached(self, store: Store, offset: int) -> int:
        """Wait until the views stand there, or further."""

        async def position() -> int:
            service = self.system.services["projections"]
            assert service.returncode is None, f"ended by itself: {service.log.read_text('utf-8', 'replace')[-500:]}"
            try:
                found = (await store.positions()).get(PARTITION)
            except (SQLAlchemyError, OSError):
                return 0
            return 0 if found is None else found.next_offset

        return await eventually(position, lambda seen: seen >= offset, MOVE_TIMEOUT_S)

    async def kill(self, store: Store) -> list[str]:
        """One life: more records, killed somewhere in the middle of them; how its rows differ from the fold."""
        before = self._written
        await self.write_more()
        self.live()
        await self.reached(store, before + self._rng.randrange(RECORDS_A_LIFE - 5))
        await asyncio.sleep(self._rng.random() * 0.02)
        self.system.services["projections"].kill()
        return await self.differs(store)

    async def differs(self, store: Store) -> list[str]:
        """How the views differ from the fold up to where they stand."""
        # All at one position: the commit of a projector that was killed may still be on its way.
        seen = await stored_rows(store)
        here = max((next_offset for _, _, next_offset, _ in seen["offsets"]), default=0)
        return difference(seen, folded_rows(self._records[:here], self.topic))

    async def all_of_it(self, store: Store) -> list[str]:
        """How the views differ in the end."""
        await self.reached(store, self._written)
        return await self.differs(store)


async def kill_projectors(kafka: KafkaSettings, folder: Path, url: str, seed: int, kills: int) -> list[str]:
    """Kill the projector so many times; what was wrong."""
    prey = Prey(kafka, folder, url, seed, kills + 1)
    store = await prey.open()
    wrong: list[str] = []
    try:
        for number in range(kills):
            wrong += [f"after kill {number + 1}: {one}" for one in await prey.kill(store)]
            tell(number + 1, kills, wrong)
        await prey.write_more()
        prey.live()
        wrong += [f"at the end: {one}" for one in await prey.all_of_it(store)]
    finally:
        prey.system.kill()
        await store.close()
    return wrong


async def kill_database(kafka: KafkaSettings, folder: Path, cluster: Cluster, seed: int, kills: int) -> list[str]:
    """Kill PostgreSQL so many times under one projector, which lives on; what was wrong."""
    url = await new_database(cluster, f"views_{seed}")
    prey, rng = Prey(kafka, folder, url, seed, kills + 1), Random(seed)
    store = await prey.open()
    wrong: list[str] = []
    prey.live()
    try:
        for number in range(kills):
            seen = await prey.reached(store, number * RECORDS_A_LIFE)
            writing = asyncio.create_task(prey.write_more())
            await prey.reached(store, seen + rng.randrange(1, RECORDS_A_LIFE - 5))
            cluster.kill()
            await writing
            await asyncio.sleep(rng.random() * 0.2)
            cluster.start()
            if prey.system.services["projections"].returncode is not None:
                wrong.append(f"kill {number + 1}: the projector ended")
                break
            tell(number + 1, kills, wrong)
        wrong += await prey.all_of_it(store)
    finally:
        prey.system.kill()
        await store.close()
    return wrong


def tell(number: int, kills: int, wrong: list[str]) -> None:
    """Now and then how far it is."""
    if number % TOLD_EVERY == 0:
        say_on_stderr(f"{number} of {kills} kills, {len(wrong)} wrong")


async def new_database(cluster: Cluster, name: str) -> str:
    """URL of a fresh database."""
    engine = create_async_engine(f"{cluster.url}/postgres", isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text(f"create database {name}"))
    await engine.dispose()
    return f"{cluster.url}/{name}"


async def _all(servers: str, folder: Path, seed: int, kills: int, database_kills: int) -> int:
    failures = 0
    with own_cluster() as cluster:
        for number, what in enumerate(PREY):
            here = folder / str(number)
            here.mkdir()
            prefix = f"view-kills-{seed}-{number}"
            kafka = KafkaSettings(kafka_bootstrap_servers=servers, kafka_topic_prefix=prefix, kafka_topic_partitions=2)
            await ensure_topics(kafka)
            say_on_stderr(f"{what}, seed {seed}")
            if number == 0:
                wrong = await kill_projectors(kafka, here, f"sqlite+aiosqlite:///{here}/views.sqlite", seed, kills)
            elif number == 1:
                url = await new_database(cluster, f"killed_{seed}")
                wrong = await kill_projectors(kafka, here, url, seed, kills)
            else:
                wrong = await kill_database(kafka, here, cluster, seed, database_kills)
            count = database_kills if number == len(PREY) - 1 else kills
            print(f"{what}: {count} kills, seed {seed}: {wrong or 'views equal the fold'}", flush=True)
            failures += bool(wrong)
    return failures


def main() -> None:
    """Run what the arguments say; the exit status is 0 when nothing failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.view_kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="of the projector, on each database (200)")
    parser.add_argument("--database-kills", type=int, default=50, help="of PostgreSQL (50)")
    parser.add_argument("--seed", type=int, default=Random().randrange(10**6))
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="callstream-view-kills-"))
    say_on_stderr(f"logs and databases are in {folder}, and stay there unless all is well")
    with running(folder / "kafka") as broker:
        work = _all(broker.bootstrap_servers, folder, options.seed, options.kills, options.database_kills)
        failures = asyncio.run(work)
    print("RED" if failures else "GREEN")
    if not failures:
        shutil.rmtree(folder)
    raise SystemExit(bool(failures))


if __name__ == "__main__":
    main()
