"""Calls that are over, in an answer of 3CX's XAPI (``GET /xapi/v1/CallHistoryView``), and as pairing takes them. Pure.

A row is a segment: one part of a call, from `SegmentStartTime` to `SegmentEndTime`, between a `Src` and a `Dst` side.
Of use is one between a side within the PBX (`…Internal`, its extension in `…Dn`) and one outside (`…CallerNumber`).
The names are those that public code shows; none was seen on a PBX.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import orjson

from events import durations, times

SIDES: Final = (("Src", "Dst"), ("Dst", "Src"))
COLUMNS: Final = (
    *("SegmentId", "SegmentStartTime", "SegmentEndTime", "CallAnswered", "CallTime"),
    *(f"{side}{what}" for side, _ in SIDES for what in ("Dn", "CallerNumber", "Internal")),
)
"""What of a row is looked at."""


class PastCall(NamedTuple):
    """An agent's part in a call that is over; `duration_s`: null when nobody answered or it is not said."""

    id: str
    extension: str
    number: str
    started_at: datetime
    ended_at: datetime
    duration_s: int | None


def last_end_of(rows: Iterable[Mapping[str, Any]]) -> datetime | None:
    """The latest end in the rows, of use or not; null where none has one."""
    return max(filter(None, (_at(row.get("SegmentEndTime")) for row in rows)), default=None)


def past_calls(rows: Iterable[Mapping[str, Any]]) -> Iterator[PastCall]:
    """What of the rows is of use; what lacks a time or a side is passed over."""
    for row in rows:
        for mine, theirs in SIDES:
            extension, number = row.get(f"{mine}Dn"), row.get(f"{theirs}CallerNumber")
            if row.get(f"{mine}Internal") is not True or row.get(f"{theirs}Internal") is True or not extension:
                continue
            began, ended = _at(row.get("SegmentStartTime")), _at(row.get("SegmentEndTime"))
            if began is not None and ended is not None:
                length = row.get("CallTime") if row.get("CallAnswered") is True else None
                duration_s = durations.read(length) if isinstance(length, str | int | float) else None
                identity = str(row.get("SegmentId") or f"{extension}/{times.to_text(began)}")
                yield PastCall(identity, str(extension), str(number or ""), began, ended, duration_s)


def recorded_value(calls: Iterable[PastCall]) -> bytes:
    """The value of a ``threecx.calls.recorded``."""
    said = [
        {**one._asdict(), "started_at": times.to_text(one.started_at), "ended_at": times.to_text(one.ended_at)}
        for one in calls
    ]
    return orjson.dumps({"calls": said})


def recorded_of(value: bytes) -> tuple[PastCall, ...] | None:
    """What `recorded_value` wrote; null for anything else."""
    try:
        return tuple(
            PastCall(
                str(one["id"]), str(one["extension"]), str(one["number"]), times.from_text(one["started_at"]),
                times.from_text(one["ended_at"]), None if one["duration_s"] is None else int(one["duration_s"]),
            )
            for one in orjson.loads(value)["calls"]
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _at(text: object) -> datetime | None:
    """A time of the history; one without a zone is in UTC, as public code takes it. The year 0001 is .NET's none."""
    try:
        at = datetime.fromisoformat(str(text))
        return None if at.year == 1 else (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
