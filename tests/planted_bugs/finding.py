"""Plant one bug in a copy of the tree, and see what the run that it names says."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
PAIRING = sorted(Path(__file__).parent.glob("*.patch"))
SERVICES = sorted((Path(__file__).parent / "services").glob("*.patch"))
COPIED = ("events", "ingest", "processors", "projections", "tests", "deploy", "bench", "pyproject.toml")
TIMEOUT_S = 400
RED = 1
"""Exit status of pytest and of our commands; another one means that nothing was even run."""


class Outcome(NamedTuple):
    """What a run came to: its exit status and its output."""

    status: int
    output: str

    @property
    def is_red(self) -> bool:
        """Whether it ran, and found something."""
        return self.status == RED and any(word in self.output for word in (" failed", "RED"))

    @property
    def why(self) -> str:
        """The first line that says what was wrong."""
        telling = ("E  ", "VIOLATION", "PROBLEM", "seed ")
        return next((line.strip()[:160] for line in self.output.splitlines() if line.startswith(telling)), "")


def finder_of(patch: Path) -> str:
    """The run that is to find the bug."""
    return patch.read_text("utf-8").splitlines()[1].removeprefix("Found by: ")


def judge_of(patch: Path) -> str | None:
    """The fault run whose verdict must show the bug; null: none is known to."""
    lines = patch.read_text("utf-8").splitlines()[1:3]
    runs = [line.removeprefix("Found by: ").removeprefix("Judged by: ") for line in lines]
    return next((one for one in reversed(runs) if one.startswith("python -m tests.chaos ")), None)


def copy_tree(folder: Path) -> None:
    """The tree as it is, without a bug."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name)  # with what is compiled: it holds where nothing was changed
        else:
            shutil.copy(source, folder / name)


def apply(patch: Path, folder: Path, *options: str) -> str:
    """Apply the patch in a folder that is in no repository; what is wrong with it, if anything is."""
    outside_any_repository = os.environ | {"GIT_CEILING_DIRECTORIES": str(folder.parent)}
    command = ["git", "apply", *options, str(patch)]
    done = subprocess.run(command, cwd=folder, env=outside_any_repository, capture_output=True, text=True, check=False)
    return done.stderr if done.returncode else ""


def run(finder: str, folder: Path) -> Outcome:
    """Run it there, for a while at the most; nothing of it stays behind."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", finder]
    if finder.startswith("python "):
        command = [sys.executable, *shlex.split(finder)[1:]]
    ran = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        output, _ = ran.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(ran.pid, signal.SIGKILL)
        output, _ = ran.communicate()
        return Outcome(-1, f"{output}\nnot done after {TIMEOUT_S} s")
    return Outcome(ran.returncode, output)


def outcome_of(patch: Path, folder: Path, finder: str | None = None) -> Outcome:
    """With the bug planted, of that run; null: of the one that the patch names first."""
    copy_tree(folder)
    problem = apply(patch, folder)
    assert not problem, problem
    return run(finder or finder_of(patch), folder)
