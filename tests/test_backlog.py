"""Kafka away, half-open, slow and back, with kills during the drain: a small form of ``python -m tests.backlog``."""

from pathlib import Path

import pytest

from tests.backlog import Run
from tests.faults.broker import neighbour


@pytest.mark.timeout(300)
async def test_with_kafka_away_half_open_and_slow_and_kills_during_the_drain_everything_arrives_in_order(
    tmp_path: Path,
) -> None:
    async with neighbour(tmp_path / "kafka") as beside:
        report = await Run(beside, tmp_path, seed=1, misbehaving_s=0.7, say=lambda _line: None).go(2_000, kills=2)
    assert not report.problems
    assert report.accepted == 2_000
    assert report.kills >= 1
