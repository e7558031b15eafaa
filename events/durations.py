"""Durations in the spellings that 3CX and its neighbours use, as whole seconds; the fraction is cut off.

``hh:mm:ss`` with or without padding, hours above 24, .NET TimeSpan in its three formats (``d.hh:mm:ss.fffffff``,
``d:h:mm:ss,ff``), ``mm:ss``, a culture's own separator (``00.04.32``), seconds as a number or as text with point or
comma, ``4m 32s``, ISO 8601 (``PT4M32S``). Zero is a value. Source: 3cx.md, section 1, fact 10.
"""

import re
from typing import Final

from events import digits

DURATION_S_MAX: Final = 366 * 24 * 3600
"""Longer is not a call's duration but a mistake."""
CHARACTERS_MAX: Final = 40

_FRACTION = r"(?:[.,\u066b]\d{1,9})?"
_CLOCK = re.compile(rf"(?:(?P<d>\d{{1,3}})[.:\s])?(?P<h>\d{{1,4}}):(?P<m>[0-5]?\d):(?P<s>[0-5]?\d){_FRACTION}")
_MINUTES = re.compile(rf"(?P<m>\d{{1,5}}):(?P<s>[0-5]\d){_FRACTION}")
_SECONDS = re.compile(rf"(?P<s>\d{{1,9}}){_FRACTION}")
_DOTTED = re.compile(r"(?P<h>\d{1,4})[.\-](?P<m>[0-5]\d)[.\-](?P<s>[0-5]\d)")
_UNITS = re.compile(
    rf"(?:(?P<d>\d{{1,3}})\s?d[a-z]*[\s,]*)?(?:(?P<h>\d{{1,5}})\s?h[a-z]*[\s,]*)?(?:(?P<m>\d{{1,7}})\s?m[a-z]*[\s,]*)?"
    rf"(?:(?P<s>\d{{1,9}}){_FRACTION}\s?s[a-z]*)?",
    re.IGNORECASE,
)
_ISO = re.compile(
    rf"P(?:(?P<d>\d{{1,3}})D)?(?:T(?:(?P<h>\d{{1,5}})H)?(?:(?P<m>\d{{1,7}})M)?(?:(?P<s>\d{{1,9}}){_FRACTION}S)?)?",
    re.IGNORECASE,
)
_FORMS = (_CLOCK, _MINUTES, _SECONDS, _ISO, _DOTTED, _UNITS)
_SIXTY = frozenset(f"{number:02}" for number in range(60))
_UNIT_S = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


def read(value: str | digits.Number) -> int | None:
    """Whole seconds, or null when `value` is no duration; a negative one is none."""
    if isinstance(value, str):
        return _read_text(value) if len(value) <= CHARACTERS_MAX else None
    return int(value) if 0 <= value <= DURATION_S_MAX else None


def _read_text(text: str) -> int | None:
    # The usual form first, without an expression: this is the hot path.
    if text[2:3] == text[5:6] == ":" and len(text) == len("00:04:32"):
        hours, minutes, seconds = text[:2], text[3:5], text[6:]
        if hours.isdecimal() and minutes in _SIXTY and seconds in _SIXTY:
            return int(hours) * 3_600 + int(minutes) * 60 + int(seconds)
    bare = digits.to_ascii(text).strip()
    for form in _FORMS:
        found = form.fullmatch(bare)
        if found:
            return _total_s(found.groupdict())
    return None


def _total_s(parts: dict[str, str | None]) -> int | None:
    if not any(parts.values()):
        return None
    total = sum(int(count) * _UNIT_S[unit] for unit, count in parts.items() if count)
    return total if total <= DURATION_S_MAX else None
