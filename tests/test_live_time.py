"""The clock of a partition: it counts while ingest is there, and no wrong stamp moves or stops it."""

from random import Random

import pytest

from processors.live_time import BACKLOG_US_MAX, GAP_US_MAX, INSTANCES_MAX, SECOND_US, LiveTime

YEAR_US = 365 * 24 * 3600 * SECOND_US
T0_US = 1_800_000_000 * SECOND_US


def ticking(clock: LiveTime, instance: str, from_s: float, until_s: float) -> None:
    """One record a second, from and until these seconds after the beginning."""
    for second in range(int(from_s), int(until_s) + 1):
        clock.advance(instance, T0_US + second * SECOND_US)


def test_it_counts_the_time_between_the_records_of_one_instance() -> None:
    clock = LiveTime()
    ticking(clock, "a", 0, 60)
    assert clock.live_us == 60 * SECOND_US
    assert clock.head_us == T0_US + 60 * SECOND_US


@pytest.mark.parametrize(
    ("gap_us", "counted_us", "alarm"),
    [
        (0, 0, None),
        (GAP_US_MAX, GAP_US_MAX, None),
        (GAP_US_MAX + 1, 0, "gap"),
        (-1, 0, "step_back"),
        (10 * YEAR_US, 0, "gap"),
        (-10 * YEAR_US, 0, "step_back"),
    ],
)
def test_only_a_short_step_forward_counts(gap_us: int, counted_us: int, alarm: str | None) -> None:
    clock = LiveTime()
    assert clock.advance("a", T0_US) == "new_instance"
    assert clock.advance("a", T0_US + gap_us) == alarm
    assert clock.live_us == counted_us
    clock.advance("a", T0_US + gap_us + SECOND_US)
    assert clock.live_us == counted_us + SECOND_US, "and it goes on from there"


def test_two_instances_side_by_side_count_the_time_once() -> None:
    clock = LiveTime()
    for second in range(101):
        clock.advance("a", T0_US + second * SECOND_US)
        clock.advance("b", T0_US + second * SECOND_US + SECOND_US // 2)
    assert 100 * SECOND_US <= clock.live_us <= 101 * SECOND_US


def test_one_instance_takes_over_from_another_without_a_stop() -> None:
    clock = LiveTime()
    ticking(clock, "a", 0, 100)
    ticking(clock, "b", 101, 200)
    assert clock.live_us == (100 + 99) * SECOND_US


def test_a_backlog_counts_no_hour_twice() -> None:
    clock = LiveTime()
    ticking(clock, "a", 0, 7200)
    before_us = clock.live_us
    ticking(clock, "b", 3600, 7200)
    assert clock.live_us == before_us
    ticking(clock, "b", 7201, 7300)
    assert clock.live_us == before_us + 100 * SECOND_US, "at the head it leads"


def test_a_known_instance_that_comes_back_with_a_backlog_counts_no_hour_twice() -> None:
    clock = LiveTime()
    ticking(clock, "b", 0, 10)
    ticking(clock, "a", 0, 7200)
    before_us = clock.live_us
    ticking(clock, "b", 3600, 7200)
    assert clock.live_us == before_us


def test_a_fast_clock_that_led_and_is_gone_stops_a_new_instance_for_a_day_at_most() -> None:
    clock = LiveTime(live_us=YEAR_US)
    clock.advance("fast", T0_US + 10 * YEAR_US)
    clock.advance("fast", T0_US + 10 * YEAR_US + SECOND_US)
    led_us = clock.live_us
    assert led_us == YEAR_US + SECOND_US
    steps = BACKLOG_US_MAX // GAP_US_MAX + 1
    for step in range(steps + 1):
        clock.advance("right", T0_US + step * GAP_US_MAX)
    assert clock.live_us == led_us + GAP_US_MAX


def test_the_instances_kept_are_bounded_and_the_one_heard_longest_ago_goes() -> None:
    clock = LiveTime()
    for number in range(INSTANCES_MAX):
        clock.advance(str(number), T0_US + number)
    clock.advance("0", T0_US + INSTANCES_MAX)
    clock.advance("one more", T0_US + INSTANCES_MAX + 1)
    assert len(clock.instances) == INSTANCES_MAX
    assert "0" in clock.instances
    assert "1" not in clock.instances


@pytest.mark.parametrize("seed", range(20))
def test_it_never_runs_back_and_never_faster_than_the_longest_gap(seed: int) -> None:
    random, clock, at_us = Random(seed), LiveTime(), T0_US
    for _ in range(2000):
        before_us = clock.live_us
        at_us += random.choice((0, 1, SECOND_US, GAP_US_MAX, GAP_US_MAX + 1, -SECOND_US, YEAR_US, -YEAR_US))
        clock.advance(random.choice("abc"), at_us)
        assert before_us <= clock.live_us <= before_us + GAP_US_MAX
