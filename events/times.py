"""Points in time as text: RFC 3339 in UTC, always six fractional digits, so that equal times are equal bytes."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import orjson
from pydantic import AfterValidator, AwareDatetime

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_text(at: datetime) -> str:
    """``2026-11-24T10:32:03.000000Z`` for an aware datetime; a naive one is a bug and raises ValueError."""
    if at.tzinfo is None:
        message = f"a time without a zone reached the contract: {at!r}"
        raise ValueError(message)
    utc = at if at.tzinfo is UTC else at.astimezone(UTC)
    if not utc.microsecond:
        return utc.isoformat(timespec="seconds").removesuffix("+00:00") + ".000000Z"
    # The same text in a sixth of the time; it leaves a fraction of nothing out.
    return orjson.dumps(utc, option=orjson.OPT_UTC_Z)[1:-1].decode()


def from_text(text: str) -> datetime:
    """The aware UTC datetime of an RFC 3339 text; raises ValueError when it is none or has no zone."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        message = f"a time without a zone: {text!r}"
        raise ValueError(message)
    return at if at.tzinfo is UTC else at.astimezone(UTC)


def to_us(at: datetime) -> int:
    """Microseconds since 1970-01-01T00:00:00Z, exactly (``timestamp()`` rounds)."""
    return (at - _EPOCH) // _MICROSECOND


def from_us(us: int) -> datetime:
    """The inverse of `to_us`."""
    return _EPOCH + timedelta(microseconds=us)


def _to_utc(at: datetime) -> datetime:
    return at.astimezone(UTC)


Utc = Annotated[AwareDatetime, AfterValidator(_to_utc)]
"""An aware datetime, always in UTC. In JSON: RFC 3339 with ``Z``, fraction only where there is one."""
