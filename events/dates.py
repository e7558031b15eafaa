"""Dates as .NET prints them in any culture. What can be read two ways is read as the way nearest `received_at`.

Webhooks are live, and `received_at` is in the log: so the choice is deterministic. A time without a zone is in the
PBX's zone; under a key that says UTC it may also be UTC. The fraction is kept to the microsecond.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from enum import Enum
from functools import partial

from events.pbx import DateOrder, Pbx


class Missing(Enum):
    """The year 0001: .NET's way to print no date at all."""

    YEAR_ONE = "year 0001"


_BLANKS = re.compile("[\\s\u00a0\u202f\u2009\u200e\u200f]+")
_ISO = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:Z|[+-]\d{2}:?\d{2})")
_SEPARATOR = r"(?:\s?[./\-\u2010-\u2015\u5e74\u6708]\s?|\s)"
_FORM = re.compile(
    rf"(?P<a>\d{{1,4}}){_SEPARATOR}(?P<b>\d{{1,2}}){_SEPARATOR}(?P<c>\d{{1,4}})[.\u65e5]?"
    r"(?:[T,\s]+(?P<before>[^\W\d_.]{1,4}\.?(?:\s?[^\W\d_]\.)?)?\s?"
    r"(?P<h>\d{1,2})[:.\-h](?P<m>\d{1,2})(?:[:.\-m](?P<s>\d{1,2})(?:[.,](?P<f>\d{1,9}))?)?"
    r"\s?(?P<after>(?!Z$|UTC$|GMT$)[^\W\d_](?:[^\W\d_]|\.\s?){0,5})?)?"
    r"\s?(?P<zone>Z|UTC|GMT|[+-]\d{1,2}(?::?\d{2})?)?",
    re.IGNORECASE,
)
_AM = frozenset(("am", "a", "vorm", "πμ", "上午", "午前", "오전", "sa", "öö", "ö", "dop", "de", "пд", "saŋ"))
_PM = frozenset(("pm", "p", "nachm", "μμ", "下午", "午後", "오후", "ch", "ös", "ss", "odp", "du", "пп"))
_MILLIS_FROM = 100_000_000_000  # as seconds: the year 5138; as milliseconds: 1973
_HALF_DAY_H = 12
_CENTURY_DIGITS = 2


def read(value: str | float, received_at: datetime, pbx: Pbx, *, says_utc: bool) -> datetime | Missing | None:
    """The aware UTC datetime, `Missing` for the year 0001, null when `value` is no date."""
    if not isinstance(value, str):
        return _from_epoch(value)
    if _ISO.fullmatch(value) and not value.startswith("0001"):
        return _guarded(lambda: datetime.fromisoformat(value).astimezone(UTC))
    text = _BLANKS.sub(" ", value).strip()
    if text.isascii() and text.isdigit() and len(text) >= len("100000000") and len(text) <= len("1000000000000000"):
        return _from_epoch(int(text))
    return _read_form(text, received_at, pbx, says_utc=says_utc)


def _from_epoch(value: float) -> datetime | None:
    if value <= 0:
        return None
    micros = int(value * 1_000) if value >= _MILLIS_FROM else int(value * 1_000_000)
    return _guarded(lambda: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros))


def _guarded(make: Callable[[], datetime]) -> datetime | None:
    try:
        return make()
    except (ValueError, OverflowError):
        return None


def _read_form(text: str, received_at: datetime, pbx: Pbx, *, says_utc: bool) -> datetime | Missing | None:
    form = _FORM.fullmatch(text)
    if form is None:
        return None
    days = _days(form["a"], form["b"], form["c"], pbx.date_order)
    if not days:
        return None
    if any(year == 1 for year, _, _ in days):
        return Missing.YEAR_ONE
    hour = _hour(form)
    if hour is None:
        return None
    clock = (hour, int(form["m"] or 0), int(form["s"] or 0), int((form["f"] or "0")[:6].ljust(6, "0")))
    found = [at for day in days for at in _moments(day, clock, form["zone"], pbx, says_utc=says_utc)]
    # min() takes the first of equals, so ties go to the PBX's own order and zone.
    return min(found, key=lambda at: abs(at - received_at), default=None)


def _days(a: str, b: str, c: str, order: DateOrder) -> list[tuple[int, int, int]]:
    """Every (year, month, day) that the three numbers can mean; only the PBX's order where one is set and possible."""
    orders = {DateOrder.YMD: (a, b, c), DateOrder.DMY: (c, b, a), DateOrder.MDY: (c, a, b)}
    if len(a) > _CENTURY_DIGITS:
        possible = [(int(a), int(b), int(c))]
    elif len(c) > _CENTURY_DIGITS:
        possible = [_day(*orders[one]) for one in (DateOrder.DMY, DateOrder.MDY)]
        possible = [_day(*orders[order])] if order in orders and _is_day(_day(*orders[order])) else possible
    else:
        possible = [_day(*orders[one]) for one in (DateOrder.DMY, DateOrder.MDY, DateOrder.YMD)]
        possible = [_day(*orders[order])] if order in orders and _is_day(_day(*orders[order])) else possible
    return [day for day in dict.fromkeys(possible) if _is_day(day)]


def _day(year: str, month: str, day: str) -> tuple[int, int, int]:
    full = int(year) + 2000 if len(year) <= _CENTURY_DIGITS else int(year)
    return full, int(month), int(day)


def _is_day(day: tuple[int, int, int]) -> bool:
    return _guarded(partial(_moment, day, (0, 0, 0, 0), UTC, 0)) is not None


def _hour(form: re.Match[str]) -> int | None:
    hour = int(form["h"] or 0)
    words = {"".join(filter(str.isalpha, (form[name] or "").lower())) for name in ("before", "after")} - {""}
    if not words:
        return hour
    if hour > _HALF_DAY_H:
        return hour if words <= _AM | _PM else None
    if words <= _AM:
        return hour % _HALF_DAY_H
    return hour % _HALF_DAY_H + _HALF_DAY_H if words <= _PM else None


def _moments(
    day: tuple[int, int, int], clock: tuple[int, int, int, int], zone: str | None, pbx: Pbx, *, says_utc: bool
) -> list[datetime]:
    if zone:
        zones: list[tzinfo] = [_offset(zone)]
    else:
        zones = [pbx.zone, UTC] if says_utc else [pbx.zone]
    # Where the clock was put back, the same local time came twice: both readings are candidates.
    made = [_guarded(partial(_moment, day, clock, one, fold)) for one in zones for fold in (0, 1)]
    return [at for at in made if at is not None]


def _moment(day: tuple[int, int, int], clock: tuple[int, int, int, int], zone: tzinfo, fold: int) -> datetime:
    year, month, date = day
    hour, minute, second, microsecond = clock
    return datetime(year, month, date, hour, minute, second, microsecond, tzinfo=zone, fold=fold).astimezone(UTC)


def _offset(text: str) -> timezone:
    digits = "".join(filter(str.isdigit, text))
    if not digits:
        return UTC
    hours, minutes = int(digits[:-2] or 0), int(digits[-2:])
    if len(digits) <= _CENTURY_DIGITS:
        hours, minutes = int(digits), 0
    span = timedelta(hours=hours, minutes=minutes)
    return timezone(-span if text.startswith("-") else span) if span < timedelta(hours=24) else UTC
