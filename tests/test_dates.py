# ruff: noqa: RUF001 -- digits and letters of many scripts, as printed
"""Dates: whatever a culture prints of a moment is read back as that moment."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from events import calendars, dates
from events.dates import Missing, Read
from events.pbx import DateOrder, Pbx
from tests.printing import Culture, cultures_of_cldr, grammar

CULTURES = Path(__file__).parent / "corpus" / "cultures.json"
ZURICH = Pbx(timezone="Europe/Zurich")
LIVE = datetime(2026, 7, 29, 16, 46, 20, tzinfo=UTC)
AT = datetime(2026, 7, 29, 16, 46, 12, tzinfo=UTC)


def reading(
    value: str | float, near: datetime = LIVE, pbx: Pbx = ZURICH, *, says_utc: bool = False, like: Read | None = None
) -> Any:
    found = dates.read(value, near, pbx, says_utc=says_utc, like=like)
    return found.at if isinstance(found, Read) else found


moments = st.datetimes(datetime(2009, 1, 1), datetime(2090, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001 -- hypothesis wants them naive
zones = st.sampled_from(["UTC", "Europe/Zurich", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"])
lateness = st.timedeltas(timedelta(seconds=-90), timedelta(minutes=10))


@given(culture=st.sampled_from(cultures_of_cldr(CULTURES)), at=moments, zone=zones, late=lateness)
def test_every_culture_s_short_date_and_time_is_read_back(
    culture: Culture, at: datetime, zone: str, late: timedelta
) -> None:
    local = at.astimezone(ZoneInfo(zone))
    printed = culture.print(local)
    found = reading(printed, at + late, Pbx(timezone=zone))
    assert found == culture.cut(at), printed


@given(culture=grammar(), at=moments, zone=zones, late=lateness)
def test_every_combination_of_order_separator_padding_clock_and_zone_is_read_back(
    culture: Culture, at: datetime, zone: str, late: timedelta
) -> None:
    local = at.astimezone(ZoneInfo(zone))
    printed = culture.print(local)
    found = reading(printed, at + late, Pbx(timezone=zone))
    assert found == culture.cut(at), printed


@given(
    culture=grammar(orders=("dmy", "mdy")), at=moments, late=st.timedeltas(timedelta(days=-9999), timedelta(days=9999))
)
def test_the_order_of_the_pbx_settles_what_is_ambiguous_however_late_it_comes(
    culture: Culture, at: datetime, late: timedelta
) -> None:
    if culture.half == "unknown":
        return
    pbx = Pbx(date_order=DateOrder(culture.order))
    assert reading(culture.print(at), at + late, pbx) == culture.cut(at)


@given(at=moments)
def test_counts_since_1970_and_of_dotnet_are_read_back_as_number_and_as_text(at: datetime) -> None:
    micros = (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    whole, milli = at.replace(microsecond=0), at.replace(microsecond=at.microsecond // 1000 * 1000)
    ticks = 621_355_968_000_000_000 + micros * 10
    for value, expected in [(micros // 1_000_000, whole), (micros // 1_000, milli), (ticks, at)]:
        assert reading(value) == expected
        assert reading(str(value)) == expected
    assert reading(62_135_596_800_000 + micros // 1_000) == milli


@pytest.mark.parametrize(
    "printed",
    [
        "2026-07-29T16:46:12Z",
        "2026-07-29T16:46:12.0000000Z",
        "2026-07-29T18:46:12+02:00",
        "2026-07-29T18:46:12+0200",
        "2026-07-29T18:46:12+02",
        "2026-07-29T18.46.12+02:00",  # a culture's separator in an otherwise ISO date
        "2026-07-29T18:46:12 02:00",  # the plus, decoded as a blank by a form
        "2026-07-29T16.46.12Z",
        "2026/07/29T16:46:12Z",
        "2026-07-29 16:46:12Z",
        "2026-07-29T18:46:12",
        "2026-07-29 18:46:12",
        "07/29/2026 18:46:12",
        "7/29/2026 6:46:12 PM",
        "7/29/2026 6:46:12\u202fPM",
        "7/29/2026 6:46:12 PM +02:00",
        "29.07.2026 18:46:12",
        "29.07.26 18:46:12",
        "29-07-2026 18.46.12",
        "29. 7. 2026. 18:46:12",
        "2026. 7. 29. 오후 6:46:12",
        "2026年7月29日 下午6:46:12",
        "29/7/2569 18:46:12",  # Thai
        "7/5/1405 18:46:12",  # Persian
        "14/02/1448 06:46:12 م",  # Hijri
        "29\u200f/7\u200f/2026 6:46:12 م",
        "٢٩/٠٧/٢٠٢٦ ١٨:٤٦:١٢",
        "2026-07-29 18 h 46 min 12 s",
        "29.7.2026 klo 18.46.12",
        "Wed, 29 Jul 2026 16:46:12 GMT",
        "Wednesday, July 29, 2026 6:46:12 PM",
        "mercredi 29 juillet 2026 18:46:12",
        "29 de julho de 2026 18:46:12",
        "29-Jul-2026 18:46:12",
        "20260729T164612Z",
        "20260729184612",
        "2026-07-29 16:46:12 UTC",
        "Wed, 29 Jul 2026 18:46:12 UTC+2",
        "2026-07-29 06:46:12 irgendwas",  # an unknown word may be a half of the day
        1785343572,
        "1785343572",
        1785343572.0,
        1785343572000,
        "1785343572000",
    ],
)
def test_a_moment_is_read_in_every_spelling(printed: str | float) -> None:
    assert reading(printed) == AT


@pytest.mark.parametrize(
    "printed",
    [
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00",
        "0001-01-01T00:00:00+01:00",
        "01/01/0001 00:00:00",
        "1/1/0001 12:00:00 AM",
        "01.01.0001 00:00:00",
        "01.01.0001",
        "1/1/01 12:00:00 AM",
        "01-01-01 00:00:00",
        "Mon, 01 Jan 0001 00:00:00 GMT",
        "1/1/0544 00:00:00",
        0,
        "0",
        -62135596800,
        "-62135596800000",
    ],
)
def test_the_year_0001_is_no_date(printed: str | float) -> None:
    assert reading(printed) is Missing.YEAR_ONE


@pytest.mark.parametrize(
    "printed",
    [
        "",
        "now",
        "1",
        "12:30:00",
        "29.07.2026",
        "2026-07-29",
        "99/99/9999 00:00",
        "29.07.2026 25:00",
        "31.02.2026 10:00",
        "2026-07-29T16:46:12Z" * 9,
        "1.2.3.4.5.6.7.8.9",
        "9" * 50,
        float("nan"),
        float("inf"),
        -5,
        1e300,
        "²/²/² ²:²",
    ],
)
def test_what_is_no_point_in_time_is_not_read(printed: str | float) -> None:
    assert reading(printed) is None


def test_an_ambiguous_day_is_the_one_nearest_the_receipt() -> None:
    april, may = datetime(2026, 4, 5, 16, 0, 9, tzinfo=UTC), datetime(2026, 5, 4, 16, 0, 9, tzinfo=UTC)
    assert reading("05/04/2026 16:00:00", april, Pbx()) == datetime(2026, 4, 5, 16, 0, tzinfo=UTC)
    assert reading("05/04/2026 16:00:00", may, Pbx()) == datetime(2026, 5, 4, 16, 0, tzinfo=UTC)
    assert reading("05/04/2026 16:00:00", may, Pbx(date_order=DateOrder.DMY)) == datetime(2026, 4, 5, 16, 0, tzinfo=UTC)


def test_a_year_in_front_is_followed_by_the_month_however_far_that_is_from_the_receipt() -> None:
    assert reading("2026-05-04 16:00:00", datetime(2026, 4, 5, 16, 0, tzinfo=UTC), Pbx()) == datetime(
        2026, 5, 4, 16, 0, tzinfo=UTC
    )


def test_an_hour_that_comes_twice_is_the_one_nearest_the_receipt() -> None:
    first, second = datetime(2026, 10, 25, 0, 30, tzinfo=UTC), datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
    assert reading("25.10.2026 02:30:00", first) == first
    assert reading("25.10.2026 02:30:00", second) == second


def test_an_hour_that_never_was_is_read_all_the_same() -> None:
    near = datetime(2026, 3, 29, 1, 31, tzinfo=UTC)
    assert reading("29.03.2026 02:30:00", near) == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    assert reading("29.03.2026 02:30:00", near - timedelta(hours=1)) == datetime(2026, 3, 29, 0, 30, tzinfo=UTC)


def test_under_a_key_that_says_utc_a_time_without_zone_is_utc_or_local_whichever_is_nearer() -> None:
    assert reading("29.07.2026 16:46:12", says_utc=True) == AT
    assert reading("29.07.2026 18:46:12", says_utc=True) == AT
    assert reading("29.07.2026 18:46:12", says_utc=False) == AT
    assert reading("29.07.2026 16:46:12", says_utc=False) == AT - timedelta(hours=2)


def test_local_time_with_a_z_is_read_as_it_stands() -> None:
    assert reading("2026-07-29T18:46:12Z") == AT + timedelta(hours=2)


def test_two_dates_of_one_body_are_read_the_same_way() -> None:
    pbx = Pbx(timezone="Europe/Zurich")
    received = datetime(2026, 4, 5, 15, 0, 5, tzinfo=UTC)
    ended = dates.read("05/04/2026 17:00:00", received, pbx, says_utc=True)
    assert isinstance(ended, Read)
    assert ended.at == datetime(2026, 4, 5, 15, 0, tzinfo=UTC)
    # As UTC it would lie just before the receipt, and the call would last seconds instead of two hours.
    assert reading("05/04/2026 15:00:00", received, pbx, says_utc=True, like=ended) == ended.at - timedelta(hours=2)


@given(st.text(max_size=120) | st.floats() | st.integers())
@example("1/1/1 1:1")
def test_any_value_is_read_or_not_and_always_the_same(value: str | float) -> None:
    first = reading(value)
    assert first is None or isinstance(first, datetime | Missing)
    assert reading(value) == first


@given(st.text(alphabet="0123456789/.-: TZ+APM上午\u202f", max_size=40))
def test_what_looks_like_a_date_is_read_or_not_and_never_raises(value: str) -> None:
    assert reading(value) == reading(value)


@given(year=st.integers(1300, 1497), month=st.integers(1, 12), day=st.integers(1, 29))
def test_persian_days_follow_each_other_without_a_gap(year: int, month: int, day: int) -> None:
    first, that = calendars.gregorian(year, 1, 1)[0], calendars.gregorian(year, month, day)[0]
    assert (that - first).days == sum(31 if one <= 6 else 30 for one in range(1, month)) + day - 1
    assert (calendars.gregorian(year + 1, 1, 1)[0] - first).days in {365, 366}


def test_known_days_of_the_other_calendars_are_the_days_they_were() -> None:
    persian = {1399: "2020-03-20", 1400: "2021-03-21", 1403: "2024-03-20", 1404: "2025-03-21"}
    assert {year: calendars.gregorian(year, 1, 1)[0].isoformat() for year in persian} == persian
    assert "2025-03-01" in [day.isoformat() for day in calendars.gregorian(1446, 9, 1)]  # Ramadan
    assert calendars.gregorian(2569, 2, 29) == []
    assert [day.isoformat() for day in calendars.gregorian(2567, 2, 29)] == ["2024-02-29"]
