# ruff: noqa: RUF001 -- digits of another script, as printed
"""Durations: whatever .NET or a neighbour prints of a span is read back, its fraction cut off."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events import durations

spans = st.timedeltas(timedelta(), timedelta(days=9))
points = st.sampled_from([".", ",", "\u066b"])


@st.composite
def printed(draw: st.DrawFn) -> tuple[str | float, int]:
    """A span in one of the forms that .NET and other senders print, and its whole seconds."""
    span = draw(spans)
    total = span // timedelta(seconds=1)
    days, hours, minutes, seconds = total // 86_400, total // 3_600, total // 60 % 60, total % 60
    of_day = hours % 24
    fraction = draw(points) + f"{span.microseconds * 10:07}"[: draw(st.integers(1, 7))] if draw(st.booleans()) else ""
    constant = f"{of_day:02}:{minutes:02}:{seconds:02}{fraction}"
    forms: list[str | float] = [
        f"{hours:02}:{minutes:02}:{seconds:02}{fraction}",
        f"{hours}:{minutes}:{seconds}{fraction}",
        f"{days}.{constant}" if days else constant,  # TimeSpan "c"
        f"{days}:{of_day}:{minutes:02}:{seconds:02}{fraction}",  # TimeSpan "g"
        f"{days}:{of_day:02}:{minutes:02}:{seconds:02}{fraction}",  # TimeSpan "G"
        f"{total // 60:02}:{seconds:02}{fraction}",
        f"{hours:02}.{minutes:02}.{seconds:02}",
        f"{total}{fraction}",
        f"{total}{fraction}s",
        f"{hours}h {minutes}m {seconds}s",
        f"{minutes + hours * 60} min {seconds} sec",
        f"PT{total}{fraction}S",
        f"PT{hours}H{minutes}M{seconds}{fraction}S",
        f"P{days}DT{of_day}H{minutes}M{seconds}{fraction}S",
        total,
        total + span.microseconds / 1_000_000,
    ]
    return draw(st.sampled_from(forms)), total


@given(printed())
def test_every_printed_span_is_read_back_in_whole_seconds(case: tuple[str | float, int]) -> None:
    text, total_s = case
    assert durations.read(text) == total_s
    if isinstance(text, str):
        assert durations.read(f"  {text} ") == total_s


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("00:00:00", 0),
        (0, 0),
        ("0", 0),
        ("PT0S", 0),
        ("00:04:32", 272),
        ("26:00:00", 93_600),
        ("1.02:00:00", 93_600),
        ("00:04:32.9999999", 272),
        ("272,9", 272),
        ("04:32", 272),
        ("75:00", 4_500),
        ("PT4M", 240),
        ("٠٠:٠٤:٣٢", 272),
        ("٠٠:04:32", 272),
    ],
)
def test_a_duration_is_read(text: str | float, seconds: int) -> None:
    assert durations.read(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "-00:04:32", "-1", -1, "abc", "P", "PT", "00:60:00", "00:00:60", "1:2:3:4:5", "::", "9" * 4_000),
        *(float("nan"), float("inf"), 1e300, "99999999999", "00:04:32Z", "4:3 2", "1e3", "0x10", "²"),
        *("²²:04:32", "①①:04:32", "0⁴:04:32", "00:0²:32", "²:04:32", "፩:04:32", "㉑:04:32"),
    ],
)
def test_what_is_no_duration_is_null(text: str | float) -> None:
    assert durations.read(text) is None


@given(st.text(max_size=60) | st.text(alphabet="0123456789:.,PTHMDS-٠ ", max_size=40) | st.floats() | st.integers())
def test_any_value_is_a_bounded_duration_or_null(value: str | float) -> None:
    found = durations.read(value)
    assert found is None or 0 <= found <= durations.DURATION_S_MAX
