"""The call filters: what may be asked for, as conditions on the call log's rows."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Any, assert_never

from sqlalchemy import Column, ColumnElement, and_, not_, or_
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from events import numbers
from events.session import Status
from projections.sources import Source

Columns = ReadOnlyColumnCollection[str, Column[Any]]


class Side(Enum):
    """Whose number it is."""

    EITHER = "either"
    CALLER = "caller"
    CALLEE = "callee"


@dataclass(frozen=True, slots=True)
class CallFilter:
    """What calls are asked for; null: any.

    `number` in any spelling; `began_from` to `began_to` is half open; `day` is the PBX's local date of the beginning;
    `closed`: not open; `inferred`: the end is an inference; `has_duration`: a duration was reported;
    `side`: whose `number` it is.
    """

    pbx: str | None = None
    agent: str | None = None
    direction: str | None = None
    status: str | None = None
    outcome: str | None = None
    number: str | None = None
    began_from: datetime | None = None
    began_to: datetime | None = None
    day: str | None = None
    closed: bool | None = None
    inferred: bool | None = None
    has_duration: bool | None = None
    side: Side = Side.EITHER


def conditions(wanted: CallFilter, source: Source, country: str | None) -> Iterator[ColumnElement[bool]]:
    """What a row of the source must be like; `country` reads national numbers."""
    c = source.table.c
    yield from source.where
    said = {c.pbx: wanted.pbx, c.extension: wanted.agent, c.direction: wanted.direction, c.day: wanted.day}
    said |= {c.status: wanted.status, c.outcome: wanted.outcome}
    yield from (column == value for column, value in said.items() if value is not None)
    if wanted.closed is not None:
        yield (c.status != Status.OPEN.value) if wanted.closed else (c.status == Status.OPEN.value)
    if wanted.inferred is not None:
        missed = Status.END_MISSED.value
        yield (c.status == missed) if wanted.inferred else (c.status != missed)
    if wanted.has_duration is not None:
        yield c.duration_s.is_not(None) if wanted.has_duration else c.duration_s.is_(None)
    if wanted.number is not None:
        yield _has_number(c, wanted.number, country, wanted.side)
    if wanted.began_from is not None:
        yield c.began_at >= wanted.began_from
    if wanted.began_to is not None:
        yield c.began_at < wanted.began_to


def by_side(wanted: CallFilter) -> tuple[CallFilter, ...]:
    """The filter in parts that have no call in common, each of which one index gives in the order of the pages."""
    if wanted.number is None:
        return (wanted,)
    return replace(wanted, side=Side.CALLER), replace(wanted, side=Side.CALLEE)


def _has_number(c: Columns, text: str, country: str | None, side: Side) -> ColumnElement[bool]:
    """Either party's number is the same, or that of one side (of the callee: and not the caller's)."""
    digits = numbers.party(text, country).digits
    caller = _same(c.caller_digits, c.caller_key, digits)
    callee = _same(c.callee_digits, c.callee_key, digits)
    match side:
        case Side.EITHER:
            return or_(caller, callee)
        case Side.CALLER:
            return caller
        case Side.CALLEE:
            return and_(callee, not_(caller))
        case _:
            assert_never(side)


def _same(column: ColumnElement[str], key: ColumnElement[str], digits: str) -> ColumnElement[bool]:
    """Equal digits, or a suffix of seven digits or more; what has as many shares the key."""
    if len(digits) < numbers.SUFFIX_DIGITS_MIN:
        return and_(key == digits, column == digits)
    suffix = digits[-numbers.SUFFIX_DIGITS_MIN :]
    # A stored number may be the shorter one: all but the first digits of what is asked for.
    shorter = [digits[begin:] for begin in range(1, len(digits) - len(suffix) + 1)]
    return and_(key == suffix, or_(column.endswith(digits, autoescape=True), column.in_(shorter)))
