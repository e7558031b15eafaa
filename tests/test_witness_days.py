"""A short form of ``python -m tests.witness_days``: some days with faults, and what the judge says of a planted bug."""

from collections import Counter

import pytest

from processors import witness
from tests.witness_days.judge import judged


def test_no_call_that_still_ran_is_closed_and_each_dropped_end_is_within_the_grace() -> None:
    found = [judged(seed, hours=0.7) for seed in range(8)]
    assert [one for day in found for one in day.wrong] == []
    counts = sum((day.counts for day in found), Counter())
    assert counts["ends dropped"] > counts["absent_from_pbx"] / 2 > 10


def test_the_judge_finds_a_witness_that_takes_every_missing_entry_for_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(witness, "_perhaps", lambda known, _now: known._replace(suspect_us=0, absent=known.absent))
    monkeypatch.setattr(
        witness, "_absent", lambda known, origin, now, _last: known._replace(absent=origin, suspect_us=now.live_us)
    )
    assert any(judged(seed, hours=4).wrong for seed in range(12))
