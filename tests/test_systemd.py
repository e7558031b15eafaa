"""The systemd units: hardened as systemd itself measures it, and in step with what the services need."""

import re
import subprocess
from pathlib import Path

import pytest

from events.settings import BAD_CONFIGURATION

UNITS = sorted((Path(__file__).parent.parent / "deploy" / "systemd").glob("*.service"))
MODULES = {"poller": "ingest poll"}
"""Units whose command is not their name."""
EXPOSURE_TENTHS_MAX = 15


def test_there_is_a_unit_for_each_service() -> None:
    assert [unit.stem.removeprefix("callstream-") for unit in UNITS] == [
        "ingest",
        *MODULES,
        "processors",
        "projections",
    ]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_its_exposure_is_at_most_1_5(unit: Path) -> None:
    words = ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_TENTHS_MAX}", "--no-pager"]
    done = subprocess.run([*words, str(unit)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-300:] + done.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_it_runs_the_service_lets_it_drain_and_does_not_start_a_wrong_configuration_again(unit: Path) -> None:
    lines = unit.read_text("utf-8").splitlines()
    name = unit.stem.removeprefix("callstream-")
    assert f"ExecStart=/opt/callstream/bin/python -m {MODULES.get(name, name)}" in lines
    assert f"RestartPreventExitStatus={BAD_CONFIGURATION}" in lines
    assert "TimeoutStopSec=30" in lines
    assert not any(re.search("SECRET|PASSWORD|TOKEN", line) for line in lines)
