"""Points in time as text: RFC 3339 in UTC, always six fractional digits, so that equal times are equal bytes."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import orjson
from pydantic import AfterValidator, AwareDatetime

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_S: Final = 86_400
_SECOND_US: Final = 1_000_000


def to_text(at: datetime) -> str:
    """``2026-11-24T10:32:03.000000Z`` for an aware datetime; a naive one is a bug and raises ValueError."""
    return to_bytes(at).decode()


def to_bytes(at: datetime) -> bytes:
    """As `to_text`; by orjson, at a fifth of isoformat's time: each record that is written has such a header."""
    if at.tzinfo is None:
        message = f"a time without a zone reached the contract: {at!r}"
        raise ValueError(message)
    utc = at if at.tzinfo is UTC else at.astimezone(UTC)
    quoted = orjson.dumps(utc, option=orjson.OPT_UTC_Z)
    return quoted[1:-1] if utc.microsecond else quoted[1:-2] + b".000000Z"


def from_text(text: str) -> datetime:
    """The aware UTC datetime of an RFC 3339 text; raises ValueError when it is none or has no zone."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        message = f"a time without a zone: {text!r}"
        raise ValueError(message)
    return at if at.tzinfo is UTC else at.astimezone(UTC)


def to_us(at: datetime) -> int:
    """Microseconds since 1970-01-01T00:00:00Z, exactly (``timestamp()`` rounds)."""
    since = at - _EPOCH
    return (since.days * _DAY_S + since.seconds) * _SECOND_US + since.microseconds


def from_us(us: int) -> datetime:
    """The inverse of `to_us`."""
    return _EPOCH + timedelta(microseconds=us)


def _to_utc(at: datetime) -> datetime:
    return at.astimezone(UTC)


Utc = Annotated[AwareDatetime, AfterValidator(_to_utc)]
"""An aware datetime, always in UTC. In JSON: RFC 3339 with ``Z``, fraction only where there is one."""
