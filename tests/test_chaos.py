"""Faults of every kind on a whole system, and the verdict: the short form of ``make chaos``.

None is longer than half a second, but for a commit that is held back and a wrong clock; those of the services'
processes and those around them go on side by side.
"""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.chaos.__main__ import say
from tests.chaos.plan import KINDS, Fault, plan
from tests.chaos.run import Run
from tests.chaos.site import SHORT_RULES, Surroundings

LONGEST_S = 0.5
RATE = 20.0


def short(seed: int) -> list[Fault]:
    """One fault of each kind, none longer than need be."""
    return plan(seed, len({*KINDS}), longest_s=LONGEST_S, brokers=1)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where PostgreSQL's own user may go; kept when the test fails."""
    made = Path(tempfile.mkdtemp(prefix="chaos-"))
    made.chmod(0o755)
    yield made
    if not (made / "evidence").exists():
        shutil.rmtree(made)


@pytest.mark.timeout(400)
async def test_faults_of_every_kind_leave_every_number_right(folder: Path) -> None:
    seed = Random().randrange(10**6)
    faults = short(seed)
    assert {fault.kind for fault in faults} == {*KINDS}
    run = Run(folder, seed, RATE, Surroundings(), faults, say, SHORT_RULES)
    report = await run.side_by_side()
    if report.violations:
        (folder / "evidence").write_text("\n".join(report.violations), "utf-8")
    assert not report.violations, f"seed {seed}, evidence in {folder}: {report.violations}"
    assert len(report.lines) == 8, "the views and the stream are judged on both databases"
