"""The services with compiled inner loops: the same bytes, and the tests of what is compiled hold on them, too."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.compiled import MODULES
from tests import odd_records
from tests.replaying import replayed

ROOT = Path(__file__).parent.parent
TESTS = (
    *("backfill", "changelog", "dates", "durations", "events_contract", "live_time", "numbers", "pairing", "reading"),
    *("scenarios", "task", "unread", "witness"),
)
SEEDS = 60
ODD_RECORDS = 1_500

pytestmark = pytest.mark.timeout(300)
"""The first of them compiles."""


@pytest.fixture(scope="module")
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which the compiled services stand in for the source."""
    folder = tmp_path_factory.mktemp("compiled")
    build = [sys.executable, "-m", "deploy.compiled", str(folder), "--optimisation", "0"]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return {**os.environ, "PYTHONSAFEPATH": "1", "PYTHONPATH": f"{folder}:{ROOT}"}


def test_every_module_that_is_named_is_compiled(surroundings: dict[str, str]) -> None:
    modules = [f"{package}.{name}" for package, names in MODULES.items() for name in names]
    code = f"import importlib; print(*(importlib.import_module(one).__file__ for one in {modules}))"
    done = subprocess.run([sys.executable, "-c", code], env=surroundings, capture_output=True, text=True, check=True)
    assert [Path(one).suffix for one in done.stdout.split()] == [".so"] * len(modules)


@pytest.mark.parametrize("name", MODULES["events"])
def test_nothing_that_reads_a_body_makes_a_float_of_a_whole_number(name: str) -> None:
    signatures = re.findall(r"^ *def .*?:$", (ROOT / f"events/{name}.py").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert not [one for one in signatures if re.search(r"\bfloat\b", one)], "see events.digits.Number"


def test_a_log_leads_to_the_same_bytes(surroundings: dict[str, str]) -> None:
    words = [sys.executable, "-m", "tests.replaying", "0"]
    done = subprocess.run(words, env=surroundings, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == replayed()


def test_odd_records_lead_to_the_same_bytes(surroundings: dict[str, str]) -> None:
    words = [sys.executable, "-m", "tests.odd_records", "7", str(ODD_RECORDS)]
    done = subprocess.run(words, env=surroundings, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == odd_records.digest(7, ODD_RECORDS), done.stderr[-3000:]


def test_call_centres_end_as_the_model_says(surroundings: dict[str, str]) -> None:
    words = [sys.executable, "-m", "tests.simulation", "--seeds", str(SEEDS), "--first", "7000"]
    done = subprocess.run(words, env=surroundings, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]


def test_the_tests_of_what_is_compiled_hold(surroundings: dict[str, str]) -> None:
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=append"]
    words += [f"tests/test_{name}.py" for name in TESTS]
    done = subprocess.run(words, env=surroundings, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(r"\b[1-9]\d{2,} passed", done.stdout), done.stdout[-300:]


def test_the_image_is_compiled_by_the_compiler_that_these_tests_use() -> None:
    mine, image = (
        dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / path).read_text("utf-8"), re.MULTILINE))
        for path in ("requirements-dev.txt", "deploy/image/requirements-compiler.txt")
    )
    assert {name: mine.get(name) for name in image} == image
