"""The call filters: what may be asked for, as conditions on the call log's rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column, ColumnElement, or_

from events import numbers
from events.session import Status
from projections.sources import Source


@dataclass(frozen=True, slots=True)
class CallFilter:
    """What calls are asked for; null: any.

    `number` in any spelling; `began_from` to `began_to` is half open; `day` is the PBX's local date of the beginning;
    `closed`: not open; `inferred`: the end is an inference; `has_duration`: a duration was reported.
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
        yield _has_number((c.caller_digits, c.callee_digits), wanted.number, country)
    if wanted.began_from is not None:
        yield c.began_at >= wanted.began_from
    if wanted.began_to is not None:
        yield c.began_at < wanted.began_to


def _has_number(columns: Sequence[Column[Any]], text: str, country: str | None) -> ColumnElement[bool]:
    """Either party's number is the same: equal digits, or a suffix of seven digits or more."""
    digits = numbers.party(text, country).digits
    suffix = digits[-numbers.SUFFIX_DIGITS_MIN :]
    if len(digits) < numbers.SUFFIX_DIGITS_MIN:
        return or_(*(column == digits for column in columns))
    # A stored number may be the shorter one: all but the first digits of what is asked for.
    shorter = [digits[begin:] for begin in range(1, len(digits) - len(suffix) + 1)]
    return or_(*(or_(column.endswith(digits, autoescape=True), column.in_(shorter)) for column in columns))
