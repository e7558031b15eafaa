"""The suite finds bugs: each patch of `planted_bugs/` plants one, and the run that it names must then be red.

A test that cannot fail proves nothing. A patch that no longer applies must be made anew: it fails here too.
Those of the services are all looked for by ``python -m tests.planted_bugs``; here only by the quickest runs.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.planted_bugs.finding import PAIRING, SERVICES, Outcome, apply, copy_tree, outcome_of

QUICK = (
    "ingest_trusts_a_second_sync",
    "ingest_deletes_damage",
    "projections_drop_silently",
    "projections_do_not_guard",
)
LOOKED_FOR = [*(patch for patch in SERVICES if patch.stem in QUICK), *PAIRING]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Path, Future[Outcome]]]:
    """Every bug is looked for, two at a time."""
    pool = ThreadPoolExecutor(2)
    yield {patch: pool.submit(outcome_of, patch, tmp_path_factory.mktemp(patch.stem)) for patch in LOOKED_FOR}
    pool.shutdown(cancel_futures=True)


def test_there_are_at_least_as_many_as_were_asked_for() -> None:
    assert len(PAIRING) >= 25
    assert len(SERVICES) >= 40


def test_every_patch_applies(tmp_path: Path) -> None:
    copy_tree(tmp_path)
    assert not [patch.stem for patch in (*PAIRING, *SERVICES) if apply(patch, tmp_path, "--check")]


@pytest.mark.parametrize("patch", LOOKED_FOR, ids=[patch.stem for patch in LOOKED_FOR])
def test_the_bug_is_found(patch: Path, outcomes: dict[Path, Future[Outcome]]) -> None:
    outcome = outcomes[patch].result()
    assert outcome.is_red, outcome.output[-3000:]
