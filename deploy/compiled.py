"""``python -m deploy.compiled FOLDER``: the services with what every event goes through as C extensions.

mypyc, which comes with mypy, compiles the modules below from the very source that otherwise runs; nothing else differs,
and whoever has no C compiler loses nothing but speed. FOLDER (made anew) stands in for the source on the module path:
``PYTHONSAFEPATH=1 PYTHONPATH=FOLDER python -m processors``. That both say the same bytes is a test.
"""

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import Final

from mypyc.build import mypycify
from setuptools import setup

ROOT: Final = Path(__file__).parent.parent
SERVICES: Final = ("events", "ingest", "processors", "projections", "conformance")
MODULES: Final = {
    "events": (
        *("bodies", "dates", "digits", "directions", "durations", "envelope", "fields", "numbers", "printed_dates"),
        *("reading", "times", "understanding"),
    ),
    "processors": (
        *("calls", "changelog", "clock_skew", "contradictions", "indexes", "kept", "live_time", "matching", "pairing"),
        *("sessions", "task", "timers", "unread"),
    ),
}


def build(folder: Path, optimisation: str, python: str) -> None:
    """Make the folder; ends the process with the compiler's words where it fails. Changes the working directory."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in SERVICES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    os.chdir(folder)
    sources = [f"{package}/{name}.py" for package, names in MODULES.items() for name in names]
    types = ["--config-file=", "--ignore-missing-imports", f"--python-executable={python}"]
    extensions = mypycify([*types, *sources], opt_level=optimisation)
    setup(name="callstream", packages=[], ext_modules=extensions, script_args=["--quiet", "build_ext", "--inplace"])
    for left in ("build", ".mypy_cache"):
        shutil.rmtree(left)


def main() -> None:
    """Parse and build."""
    parser = argparse.ArgumentParser(prog="python -m deploy.compiled", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--optimisation", default="2", choices=list("0123"), help="the C compiler's")
    parser.add_argument("--python", default=sys.executable, help="whose packages the services import")
    given = parser.parse_args()
    build(given.folder.resolve(), given.optimisation, given.python)


if __name__ == "__main__":
    main()
