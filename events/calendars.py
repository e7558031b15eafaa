"""Days of the calendars that .NET prints in some cultures, as Gregorian days. Pure arithmetic.

Years tell them apart: Thai Buddhist (2569 is 2026), Persian (1405) and Hijri (1448; cultures print Umm al-Qura, a
table, which differs by at most a day or two from the arithmetic here, so its neighbours are possible too).
"""

from datetime import date

BUDDHIST_YEARS = range(2400, 2800)
OTHER_YEARS = range(1300, 1500)
_BUDDHIST_AHEAD_YEARS = 543
_PERSIAN_EPOCH = date(622, 3, 22).toordinal() - 1
_HIJRI_EPOCH = date(622, 7, 19).toordinal()
_LONG_PERSIAN_MONTHS = 6
_MONTHS = 12
_DAYS_MAX = 31


def gregorian(year: int, month: int, day: int) -> list[date]:
    """Every Gregorian day that year, month and day can mean, likeliest first; empty when they are no day."""
    if not (1 <= month <= _MONTHS and 1 <= day <= _DAYS_MAX):
        return []
    if year in OTHER_YEARS:
        return [*_persian(year, month, day), *_hijri(year, month, day)]
    try:
        return [date(year - _BUDDHIST_AHEAD_YEARS if year in BUDDHIST_YEARS else year, month, day)]
    except ValueError:
        return []


def _persian(year: int, month: int, day: int) -> list[date]:
    """Leap years by the rule of 33 years, which holds for the years 1206 to 1498."""
    if day > _days_of_persian(year, month):
        return []
    before = 31 * (month - 1) - max(0, month - _LONG_PERSIAN_MONTHS - 1)
    return [date.fromordinal(_new_year(year) + before + day - 1)]


def _new_year(year: int) -> int:
    return _PERSIAN_EPOCH + 365 * (year - 1) + (8 * year + 21) // 33


def _days_of_persian(year: int, month: int) -> int:
    if month <= _LONG_PERSIAN_MONTHS:
        return 31
    leap = _new_year(year + 1) - _new_year(year) == 366  # noqa: PLR2004 -- days of a leap year
    return 30 if month < _MONTHS or leap else 29


def _hijri(year: int, month: int, day: int) -> list[date]:
    middle = _HIJRI_EPOCH + 354 * (year - 1) + (11 * year + 3) // 30 + (59 * (month - 1) + 1) // 2 + day - 1
    return [date.fromordinal(middle + off) for off in (0, -1, 1)]
