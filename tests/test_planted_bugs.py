"""The suite finds bugs: each patch of `planted_bugs/` plants one, and the tests that it names must then fail.

A test that cannot fail proves nothing. A patch that no longer applies must be made anew: it fails here too.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PATCHES = sorted((Path(__file__).parent / "planted_bugs").glob("*.patch"))
COPIED = ("events", "ingest", "processors", "projections", "tests", "deploy", "pyproject.toml")
TIMEOUT_S = 240
TESTS_FAILED = 1
"""pytest's exit code; another one means that the tests did not even run."""


def outcome_of(patch: Path, folder: Path) -> tuple[int, str]:
    """The exit code and the output of the tests that a patch names, in a copy of the tree with the bug in it."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    outside_any_repository = os.environ | {"GIT_CEILING_DIRECTORIES": str(folder.parent)}
    apply = ["git", "apply", str(patch)]
    patched = subprocess.run(apply, cwd=folder, env=outside_any_repository, capture_output=True, text=True, check=False)
    assert patched.returncode == 0, patched.stderr
    finder = patch.read_text("utf-8").splitlines()[1].removeprefix("Found by: ")
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", finder]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    return ran.returncode, ran.stdout[-2000:]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Path, Future[tuple[int, str]]]]:
    """Every bug is looked for, two at a time."""
    pool = ThreadPoolExecutor(2)
    yield {patch: pool.submit(outcome_of, patch, tmp_path_factory.mktemp(patch.stem)) for patch in PATCHES}
    pool.shutdown(cancel_futures=True)


def test_there_are_at_least_as_many_as_were_asked_for() -> None:
    assert len(PATCHES) >= 25


@pytest.mark.parametrize("patch", PATCHES, ids=[patch.stem for patch in PATCHES])
def test_the_bug_is_found(patch: Path, outcomes: dict[Path, Future[tuple[int, str]]]) -> None:
    code, output = outcomes[patch].result()
    assert code == TESTS_FAILED, output
    assert " failed" in output
