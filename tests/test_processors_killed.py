"""The processors killed at every named point, stopped and woken: none lost, none twice, none out of order.

The short version of ``python -m tests.kills``.
"""

from pathlib import Path
from random import Random

import pytest

from tests.kills.plan import plan
from tests.kills.points import POINTS
from tests.kills.run import Run, settings_for

KILLS = len(POINTS) + 2
ZOMBIES = 2
WORKERS = 5
RATE = 120.0
FAULTS_TIMEOUT_S = 180.0
"""A busy machine needs three times what a quiet one does."""


@pytest.mark.timeout(360)
async def test_kills_at_every_point_and_zombies_change_no_byte(
    bootstrap_servers: str, topic_prefix: str, tmp_path: Path
) -> None:
    seed = Random().randrange(10**6)
    faults = plan(seed, KILLS, each_point=1, zombies=ZOMBIES, thirds=0)
    run = Run(settings_for(bootstrap_servers, topic_prefix), tmp_path, seed, RATE, say=print)
    async with run.watching():
        report = await run.go(faults, WORKERS, FAULTS_TIMEOUT_S)
    assert not report.problems, f"seed {seed}, evidence in {tmp_path}: {report.problems}"
    assert all(report.at_points[point] == 1 for point in POINTS)
    assert (report.kills, report.zombies) == (KILLS, ZOMBIES)
