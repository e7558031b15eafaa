"""The projector and PostgreSQL killed in the middle of the fold, and two projectors at once: views equal the fold.

The short form of ``python -m tests.view_kills``.
"""

from pathlib import Path
from random import Random

import pytest

from events.kafka import KafkaSettings
from tests.postgres import own_cluster
from tests.system import System
from tests.test_rebuilding import Site
from tests.test_rebuilding import site as site  # noqa: PLC0414 - a fixture
from tests.view_kills import kill_database, kill_projectors
from tests.views_folded import session_records
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(300)
KILLS = 2


async def test_a_killed_projector_leaves_rows_and_offsets_of_one_position(
    kafka: KafkaSettings, tmp_path: Path, database_url: str
) -> None:
    seed = Random().randrange(10**6)
    assert await kill_projectors(kafka, tmp_path, database_url, seed, KILLS) == [], f"seed {seed}"


async def test_a_killed_postgresql_loses_nothing_and_the_projector_lives_on(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    seed = Random().randrange(10**6)
    with own_cluster() as cluster:
        assert await kill_database(kafka, tmp_path, cluster, seed, KILLS) == [], f"seed {seed}"


async def test_of_two_projectors_on_one_database_one_stops_and_the_views_are_right(site: Site, tmp_path: Path) -> None:
    other = System(site.kafka, tmp_path, **{**site.system.environment, "PROJECTIONS_APPLICATION": "another-group"})
    systems = (site.system, other)
    try:
        for one in systems:
            one.environment["PROJECTIONS_PORT"] = "0"
            one.start("projections")
        records = session_records(400)

        async def ended() -> list[int]:
            codes = [one.services["projections"].returncode for one in systems]
            return [code for code in codes if code is not None]

        # Until both are there and each has folded what the other did not know of.
        for begin in range(0, len(records), 4):
            await site.append(records[begin : begin + 4])
            await site.caught_up()
            if await ended():
                break
        codes = await eventually(ended, timeout_s=60)
        await site.append(session_records(5, partition=2))
        await site.caught_up()
        assert len(codes) == len(await ended()) == 1
        assert codes != [0]
        assert await site.differs() == []
        assert "another writer" in (tmp_path / "projections.log").read_text("utf-8", "replace")
    finally:
        other.kill()
