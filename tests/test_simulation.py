"""Whole call centres through the real core and through a model written from the design: equal, event by event.

``python -m tests.simulation --seeds 50000`` does the same for longer.
"""

import ast
import hashlib
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from events import numbers
from events.session_events import Reason
from tests.simulation import run
from tests.simulation.faults import feed_of
from tests.simulation.printing import SPELLINGS

ROOT = Path(__file__).parent.parent
SEEDS = 200
CHUNK = 20


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_the_core_tells_what_the_model_tells(first: int) -> None:
    for seed in range(first, first + CHUNK):
        found = run.check(seed)
        assert isinstance(found, Counter), run.told(found)


def test_the_simulation_reaches_every_rule_of_the_table() -> None:
    told = Counter(event.get("reason") for seed in range(30) for event in run.model_tells(feed_of(seed)))
    assert {reason for reason in Reason if told[reason]} == set(run.WEBHOOKS_REASONS)


def test_the_model_uses_nothing_of_the_product() -> None:
    seen: set[str] = set()
    pending = ["tests.simulation.model"]
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        if name.startswith("tests."):
            pending += imported(ROOT / f"{name.replace('.', '/')}.py")
    ours = {name for name in seen if name.split(".")[0] not in sys.stdlib_module_names}
    assert not {name for name in ours if not name.startswith("tests.simulation.")}


def imported(path: Path) -> list[str]:
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        match node:
            case ast.Import(names=names):
                found += [name.name for name in names]
            case ast.ImportFrom(module=str(module)):
                found.append(module)
    return found


def test_the_numbers_of_the_simulation_have_the_e164_forms_that_it_says() -> None:
    for spellings in SPELLINGS.values():
        for text, unknown, swiss in spellings:
            assert (numbers.party(text, None).e164, numbers.party(text, "CH").e164) == (unknown, swiss), text


def test_a_seed_is_the_same_feed_in_every_process() -> None:
    code = "from tests.test_simulation import digest; print(digest())"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == digest()


def digest() -> str:
    """Of some feeds, records and facts."""
    feeds = [feed_of(seed) for seed in range(10)]
    return hashlib.sha256(repr(feeds).encode()).hexdigest()
