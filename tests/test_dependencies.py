"""What is installed in production: the locked packages alone are enough, and each direct one is justified."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LOCKED = set(re.findall(r"^([\w.-]+)==", (ROOT / "requirements.txt").read_text("utf-8"), re.MULTILINE))
DIRECT = [
    re.split(r"[\[<>=]", text)[0]
    for text in tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
]
ONLY_LOCKED = """
import importlib.metadata, re, sys
locked = set(sys.argv[1].split())
provides = importlib.metadata.packages_distributions()
folded = lambda name: re.sub("[-_.]+", "-", name).lower()
class Refusing:
    def find_spec(self, name, path=None, target=None):
        if path is None and name in provides and not {folded(one) for one in provides[name]} & locked:
            raise ModuleNotFoundError(f"No module named {name!r}: it is not in requirements.txt", name=name)
sys.meta_path.insert(0, Refusing())
import importlib
for module in sys.argv[2:]:
    importlib.import_module(module)
"""


@pytest.mark.parametrize("service", ["ingest", "processors", "projections", "conformance"])
def test_the_locked_packages_alone_are_enough_for_a_service(service: str) -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sorted((ROOT / service).glob("*.py"))
        if path.stem not in {"__main__", "__init__"}
    ]
    words = [sys.executable, "-c", ONLY_LOCKED, " ".join(LOCKED), *modules]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1500:]


def test_a_direct_dependency_is_locked() -> None:
    assert set(DIRECT) <= LOCKED
