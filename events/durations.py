"""Durations in the spellings that 3CX and its neighbours use, as whole seconds; the fraction is cut off.

``hh:mm:ss`` with or without padding, hours above 24, .NET TimeSpan (``d.hh:mm:ss.fffffff``), ``mm:ss``, seconds as a
number or as text with point or comma, ISO 8601 (``PT4M32S``).
"""

import re

DURATION_S_MAX = 366 * 24 * 3600
"""Longer is not a call's duration but a mistake."""

_CLOCK = re.compile(r"(?:(?P<d>\d{1,3})[.\s])?(?P<h>\d{1,4}):(?P<m>\d{1,2}):(?P<s>\d{1,2})(?:[.,]\d{1,9})?")
_MINUTES = re.compile(r"(?P<m>\d{1,5}):(?P<s>\d{2})(?:[.,]\d{1,9})?")
_SECONDS = re.compile(r"(?P<s>\d{1,9})(?:[.,]\d{1,9})?\s*(?:s|sec|seconds)?")
_ISO = re.compile(
    r"P(?:(?P<d>\d{1,3})D)?(?:T(?:(?P<h>\d{1,5})H)?(?:(?P<m>\d{1,7})M)?(?:(?P<s>\d{1,9})(?:[.,]\d{1,9})?S)?)?",
    re.IGNORECASE,
)
_FORMS = (_CLOCK, _MINUTES, _SECONDS, _ISO)
_UNIT_S = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


def read(value: str | float) -> int | None:
    """Whole seconds, or null when `value` is no duration."""
    if isinstance(value, str):
        return _read_text(value.strip())
    return int(value) if 0 <= value <= DURATION_S_MAX else None


def _read_text(text: str) -> int | None:
    for form in _FORMS:
        found = form.fullmatch(text)
        if found:
            parts = found.groupdict()
            if not any(parts.values()):
                return None
            total = sum(int(digits) * _UNIT_S[unit] for unit, digits in parts.items() if digits)
            return total if total <= DURATION_S_MAX else None
    return None
