"""Ingest's clock jumps: no wrong duration, no early timeout. The short form of ``python -m tests.clock_jumps``."""

from random import Random

from tests.clock_jumps import schedule

SCHEDULES = 25


def test_no_jump_of_ingests_clock_invents_a_duration_or_times_a_call_out_early() -> None:
    first = Random().randrange(10**6)
    outcomes = {seed: schedule(seed) for seed in range(first, first + SCHEDULES)}
    wrong = {seed: one.problems[:2] for seed, one in outcomes.items() if one.problems}
    assert not wrong, f"python -m tests.clock_jumps --schedules 1 --first {next(iter(wrong))}: {wrong}"
    assert sum(one.timeouts for one in outcomes.values()) > SCHEDULES
