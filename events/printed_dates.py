"""What a printed date can mean: local times, before anything is known of zones or of when it came. Pure.

A text is taken apart into numbers and what stands between them, so that separators, their blanks, words such as
``klo`` or ``de`` and the culture's digits do not matter. Three numbers are a date (two beside the name of a month), the
next two or three a time. Every order of day and month that is possible is a reading; so is each half of the day where
an unknown word stands beside a time of the 12-hour clock.
"""

import re
import unicodedata
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from itertools import pairwise
from typing import Final, Literal, NamedTuple

from events import calendars, digits
from events.culture_words import AFTER_NOON, BEFORE_NOON, BESIDE_A_TIME, MONTHS
from events.pbx import DateOrder

CHARACTERS_MAX: Final = 100
_NUMBERS_MAX: Final = 7
_DATE_NUMBERS: Final = 3
_NAMED_DATE_NUMBERS: Final = 2
_NUMBERS_BEFORE_ZONE_MIN: Final = 4
_FIELD_DIGITS: Final = 2
"""Of a day, a month, a part of the time, a year without its century."""
_YEAR_DIGITS: Final = 4
_YEAR_MIN: Final = 1000
_GAP_CHARACTERS_MAX: Final = 24
_OFFSET_H_MAX: Final = 14
_CLOCK_12: Final = 12
_LEAP_SECOND: Final = 60
_YEAR_ONE_SHORT: Final = datetime(2001, 1, 1)  # noqa: DTZ001 -- a local time, of no zone yet

_COMPACT: Final = re.compile(r"(\d{4})(\d\d)(\d\d)[T\s-]?(\d\d)(\d\d)(\d\d)?(?:[.,](\d{1,9}))?(?=$|[Zz+\s-])")
_COUNT_LIKE: Final = re.compile(
    r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:[01]\d|2[0-3])[0-5]\d(?:[0-5]\d)?"
)
_ZONE: Final = re.compile(
    r"(?:(?:(?<=\d)|\s)(?P<utc>Z|UTC|GMT)|"
    # A blank before the offset is a plus that a form decoded.
    r"(?:(?<=[\w.])|\s)(?P<named>UTC|GMT)?\s?(?P<sign>[+\u2212-]|(?<=:\d\d\s))(?P<h>\d\d?)(?::?(?P<m>\d\d))?)$",
    re.IGNORECASE,
)
_NUMBER: Final = re.compile(r"[0-9]+")
_FORMATTING: Final = dict.fromkeys((0x061C, 0x200B, 0x200C, 0x200D, 0x200E, 0x200F, *range(0x202A, 0x202F), 0xFEFF))
_WORDLESS: Final = frozenset(("", " ", "/", ".", "-", ":", ", ", "T"))
"""What mostly stands between numbers, so that no word is looked for in it."""
_POINTS: Final = frozenset((".", ",", ":", "\u066b"))


class Printed(NamedTuple):
    """A local time; `order` null where the digits leave no choice, `offset` from UTC null where none is printed."""

    local: datetime
    order: DateOrder | None
    offset: timedelta | None


def is_compact(count: str) -> bool:
    """Tell whether bare digits are a date and time such as ``20250716143000``, and no count."""
    return _COUNT_LIKE.fullmatch(count) is not None


def read(text: str) -> tuple[Printed, ...] | Literal["none"]:
    """Every local time that `text` can mean, likeliest first; ``none`` for the year 0001; empty when it is no date.

    A date without a time of day is no point in time: empty.
    """
    if len(text) > CHARACTERS_MAX:
        return ()
    plain = " ".join(digits.to_ascii(text.translate(_FORMATTING)).split())
    compact = _COMPACT.match(plain)
    if compact:
        year, month, day, hour, minute, second, fraction = compact.groups(default="0")
        plain = f"{year}-{month}-{day}T{hour}:{minute}:{second}.{fraction}{plain[compact.end() :]}"
    return _read(plain)


def _read(plain: str) -> tuple[Printed, ...] | Literal["none"]:
    text, offset = _without_zone(plain)
    numbers = list(_NUMBER.finditer(text))
    if not _NAMED_DATE_NUMBERS <= len(numbers) <= _NUMBERS_MAX:
        return ()
    gaps = [text[end:start] for end, start in pairwise([0, *(at for one in numbers for at in one.span()), len(text)])][
        ::2
    ]
    sent = [one[0] for one in numbers]
    if any(len(gap) > _GAP_CHARACTERS_MAX for gap in gaps):
        return ()
    months = _months(gaps[:_DATE_NUMBERS])
    taken = _NAMED_DATE_NUMBERS if months else _DATE_NUMBERS
    days = _named_days(sent[:taken], months) if months else _days(sent[:taken])
    if any(day is None for day, _ in days):
        return "none"
    clocks = _clocks(sent[taken:], gaps[taken:])
    found = {
        Printed(datetime.combine(day, clock), order, offset): None
        for day, order in days
        if day is not None
        for clock in clocks
    }
    if any(one.local == _YEAR_ONE_SHORT for one in found) and max(map(len, sent[:taken])) <= _FIELD_DIGITS:
        return "none"  # the year 0001, by a culture that prints two digits of it
    return tuple(found)


def _without_zone(text: str) -> tuple[str, timedelta | None]:
    """The text before a zone at its end, and the zone's offset; a zone stands only behind a time."""
    found = _ZONE.search(text)
    if found is None:
        return text, None
    numbers = len(_NUMBER.findall(text, 0, found.start()))
    if numbers < _NUMBERS_BEFORE_ZONE_MIN:
        return text, None
    rest = text[: found.start()]
    if found["utc"]:
        return rest, timedelta()
    # Bare hours are an offset only where they can be nothing else: "18-46-12" is a time.
    bare = found["m"] is None and not found["named"] and (found["sign"] != "+" or numbers == _NUMBERS_BEFORE_ZONE_MIN)
    if bare or int(found["h"]) > _OFFSET_H_MAX:
        return text, None
    span = timedelta(hours=int(found["h"]), minutes=int(found["m"] or 0))
    return rest, span if found["sign"] in {"", "+"} else -span


def _letters(text: str) -> str:
    return "".join(one for one in text.casefold() if one.isalpha() or unicodedata.category(one)[0] == "M")


def _months(gaps: list[str]) -> tuple[int, ...]:
    """The months that a word before the time can name; none where months are numbers."""
    for gap in gaps:
        if gap in _WORDLESS:
            continue
        for word in (_letters(gap), *map(_letters, gap.split())):
            if word in MONTHS:
                return MONTHS[word]
    return ()


Days = list[tuple[date | None, DateOrder | None]]
"""Days and the order that gave them; a null day is the year 0001."""


def _named_days(parts: list[str], months: tuple[int, ...]) -> Days:
    day, year = parts if len(parts[0]) < _YEAR_DIGITS else reversed(parts)
    return [one for month in months for one in _day(year, str(month), day, None)]


def _days(parts: list[str]) -> Days:
    """Every day that three numbers can mean. A year in front is followed by the month, unless that is impossible."""
    if len(parts) < _DATE_NUMBERS:
        return []
    a, b, c = parts
    if len(a) > _FIELD_DIGITS:
        return _day(a, b, c, None) or _day(a, c, b, None)
    found = [*_day(c, b, a, DateOrder.DMY), *_day(c, a, b, DateOrder.MDY)]
    if len(c) <= _FIELD_DIGITS:
        found += _day(a, b, c, DateOrder.YMD)
    return found


def _day(year: str, month: str, day: str, order: DateOrder | None) -> Days:
    if len(year) > _YEAR_DIGITS or len(month) > _FIELD_DIGITS or len(day) > _FIELD_DIGITS:
        return []
    number = int(year) + (2000 if len(year) <= _FIELD_DIGITS else 0)
    if number < _YEAR_MIN:
        return [(None, order)]
    return [(one, order) for one in calendars.gregorian(number, int(month), int(day))]


def _clocks(parts: list[str], gaps: list[str]) -> list[time]:
    """Every time of day that hour, minute, second and fraction can mean, given the words around them.

    `gaps[0]` stands before the hour, the last one behind everything.
    """
    hour, minute, second, fraction, *more = [*parts, "", "", "", ""]
    if not minute or any(more) or any(len(one) > _FIELD_DIGITS for one in (hour, minute, second)):
        return []
    if fraction and gaps[3] not in _POINTS:
        return []
    micros = int((fraction or "0")[:6].ljust(6, "0"))
    return list(_halves(int(hour), int(minute), int(second or 0), micros, _half(gaps[0], gaps[-1])))


Half = Literal["before", "after", "either", "unsaid"]


def _half(before: str, behind: str) -> Half:
    """The half of the day that the words beside the time say."""
    halves: set[Half] = {_word_half(gap) for gap in (before.removesuffix("T"), behind)} - {"unsaid"}
    said = halves - {"either"}
    if len(said) == 1:
        return said.pop()
    return "either" if halves else "unsaid"


def _word_half(gap: str) -> Half:
    if gap in _WORDLESS:
        return "unsaid"
    words = [_letters(gap), *(_letters(part) for part in re.split(r"[\s,]+", gap))]
    for word in words:
        if word in BEFORE_NOON or word in AFTER_NOON:
            if word not in AFTER_NOON:
                return "before"
            return "after" if word not in BEFORE_NOON else "either"
    return "either" if any(word not in BESIDE_A_TIME for word in words[1:] if word) else "unsaid"


def _halves(hour: int, minute: int, second: int, micros: int, half: Half) -> Iterator[time]:
    hours: tuple[int, ...] = (hour,)
    if 0 < hour <= _CLOCK_12 and half != "unsaid":
        morning = hour % _CLOCK_12
        afternoon = morning + _CLOCK_12
        hours = {"before": (morning,), "after": (afternoon,), "either": (hour, morning, afternoon)}[half]
    for one in dict.fromkeys(hours):
        try:
            yield time(one, minute, second - (second == _LEAP_SECOND), micros)
        except ValueError:
            continue
