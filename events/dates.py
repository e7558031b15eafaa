"""Dates as .NET prints them in any culture. What can be read two ways is read as the way nearest `received_at`.

Webhooks are live, and `received_at` is in the log: so the choice is deterministic. A time without a zone is in the
PBX's zone; under a key that says UTC it may also be UTC. Local time that carries a ``Z`` is a lie that cannot be told
from a clock that is off: it is read as it stands. The fraction is kept to the microsecond, the rest cut off.
Source: the design, section 4; 3cx.md, section 1, fact 5.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Final, NamedTuple

from events import printed_dates
from events.digits import Number
from events.pbx import DateOrder, Pbx
from events.printed_dates import Printed


class Missing(Enum):
    """The year 0001: .NET's way to print no date at all."""

    YEAR_ONE = "year 0001"


class Zone(Enum):
    """Where a reading's zone is from, in order of preference among equals."""

    SENT = "as sent"
    UTC = "the key says UTC"
    PBX = "the PBX's zone"


class Read(NamedTuple):
    """One way to read a date; `at` is aware, in UTC. `order` is null where the digits leave no choice."""

    at: datetime
    order: DateOrder | None
    zone: Zone


_SENT: Final = Zone.SENT
_new: Final = tuple.__new__
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_SECONDS: Final = range(100_000_000, 100_000_000_000)
"""As seconds since 1970: 1973 to 5138."""
_MILLIS: Final = range(100_000_000_000, 60_000_000_000_000)
"""As milliseconds since 1970: 1973 to 3871."""
_NET_MILLIS: Final = range(62_135_596_800_000, 70_000_000_000_000)
"""As milliseconds since the year 0001, which is how .NET counts: 1970 to 2219."""
_NET_TICKS: Final = range(621_355_968_000_000_000, 700_000_000_000_000_000)
"""As .NET's ticks of 100 ns since the year 0001."""
_YEAR_ONE_S: Final = -62_135_596_800
_NUMBER_CHARACTERS_MAX: Final = 22


def read(
    value: str | Number, received_at: datetime, pbx: Pbx, *, says_utc: bool, like: Read | None = None
) -> Read | Missing | None:
    """The date in `value`, `Missing` for the year 0001, null when it is no date.

    `says_utc`: the key says that the time is UTC. `like`: how another date of the same body was read; one body is
    printed by one culture.
    """
    if isinstance(value, str):
        found_at_once = exact(value)
        if found_at_once is not None:
            return found_at_once
    found = readings(value, pbx, says_utc=says_utc)
    return found if isinstance(found, Missing) else nearest(found, received_at, like)


def exact(value: str) -> Read | Missing | None:
    """The quick way for ISO 8601 with a zone, which can be read one way only; null for everything else."""
    # The colons are looked at, because fromisoformat takes the minutes of "T10.01" for a fraction.
    if value[10:11] != "T" or value[13:14] != ":" or value[16:17] != ":":
        return None
    if not (value.endswith("Z") or value[-6:-5] in {"+", "-"}):
        return None
    try:
        at = datetime.fromisoformat(value)
        if at.year == 1:
            return Missing.YEAR_ONE
        return _new(Read, (at if at.tzinfo is UTC else at.astimezone(UTC), None, _SENT))
    except (ValueError, OverflowError):
        return None


def readings(value: str | Number, pbx: Pbx, *, says_utc: bool) -> list[Read] | Missing:
    """Every way to read `value`, likeliest first; empty when it is no date."""
    if isinstance(value, str):
        number = _number(value)
        if number is None:
            printed = printed_dates.read(value)
            return Missing.YEAR_ONE if printed == "none" else _readings(printed, pbx, says_utc=says_utc)
        value = number
    at = _counted(value)
    return [Read(at, None, Zone.SENT)] if isinstance(at, datetime) else at or []


def _number(text: str) -> Number | None:
    """The count in a text that is nothing but one; null for ``20250716143000``, which is a printed date."""
    bare = text.strip()
    if len(bare) > _NUMBER_CHARACTERS_MAX or not bare.isascii() or not bare[-1:].isdigit():
        return None
    whole, _, fraction = bare.partition(".")
    if not whole.removeprefix("-").isdigit() or (fraction and not fraction.isdigit()) or printed_dates.is_compact(bare):
        return None
    return float(bare) if fraction else int(whole)


def _counted(count: Number) -> datetime | Missing | None:
    """Seconds or milliseconds since 1970, or .NET's milliseconds or ticks since the year 0001."""
    if count in {0, _YEAR_ONE_S, _YEAR_ONE_S * 1_000}:
        return Missing.YEAR_ONE
    if not 0 < count < _NET_TICKS.stop:  # NaN is no count either
        return None
    whole = int(count)
    if whole in _SECONDS:
        micros = round(count * 1_000_000)
    elif whole in _MILLIS:
        micros = round(count * 1_000)
    elif whole in _NET_MILLIS:
        micros = round((count - _NET_MILLIS.start) * 1_000)
    elif whole in _NET_TICKS:
        micros = (whole - _NET_TICKS.start) // 10
    else:
        return None
    return _EPOCH + micros * _MICROSECOND


def nearest(found: Sequence[Read], near: datetime, like: Read | None = None) -> Read | None:
    """The reading in the order and zone of `like`, if any is, that is nearest `near`; the first of equals."""
    if len(found) < 2:  # noqa: PLR2004 -- nothing to choose
        return found[0] if found else None
    if like is None:
        return min(found, key=lambda one: abs(one.at - near))
    return min(found, key=lambda one: (one.order is not like.order, one.zone is not like.zone, abs(one.at - near)))


def _readings(printed: Sequence[Printed], pbx: Pbx, *, says_utc: bool) -> list[Read]:
    """Each local time in each zone it may be of; only the PBX's order where that is known and possible."""
    known = [one for one in printed if one.order is pbx.date_order] or printed
    found: dict[datetime, Read] = {}
    for one in known:
        for at, zone in _moments(one, pbx, says_utc=says_utc):
            found.setdefault(at, Read(at, one.order, zone))
    return list(found.values())


def _moments(one: Printed, pbx: Pbx, *, says_utc: bool) -> list[tuple[datetime, Zone]]:
    try:
        if one.offset is not None:
            return [((one.local - one.offset).replace(tzinfo=UTC), Zone.SENT)]
        said = [(one.local.replace(tzinfo=UTC), Zone.UTC)] if says_utc else []
        local = one.local.replace(tzinfo=pbx.zone)
        # Where the clock is put back the same local time comes twice, where it is put forward never: both folds are
        # readings, and the one nearest the time of receipt decides.
        return [*said, *((local.replace(fold=fold).astimezone(UTC), Zone.PBX) for fold in (0, 1))]
    except OverflowError:
        return []
