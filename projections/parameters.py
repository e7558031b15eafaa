"""Query parameters, read strictly: an unknown, repeated or unreadable one is refused with what to send instead."""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from http import HTTPStatus
from typing import Final

from starlette.requests import Request

from events import times
from events.serving import Refused
from projections.filters import CallFilter
from projections.views import Cursor
from projections.words import CURSOR, FILTERS, WORDS

RFC_3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,6})?\d*([Zz]|[+-]\d\d:\d\d)", re.ASCII)
WHOLE: Final = re.compile(r"[0-9]{1,9}")
"""Longer ones are refused unread: Python reads no number of some thousands of digits."""
LIMIT_DEFAULT: Final = 100
LIMIT_MAX: Final = 1_000


def only(request: Request, known: tuple[str, ...]) -> None:
    """Refuse every parameter that is not known here, and any that is given twice."""
    unknown = sorted(set(request.query_params.keys()) - set(known))
    repeated = sorted({name for name in known if len(request.query_params.getlist(name)) > 1})
    if unknown or repeated:
        what = f"unknown: {', '.join(unknown)}" if unknown else f"given more than once: {', '.join(repeated)}"
        raise refused(f"query parameters {what[:200]}; known: {', '.join(known) or 'none'}")
    if any("\0" in value for value in request.query_params.values()):
        raise refused("no parameter holds a NUL character")


def refused(detail: str) -> Refused:
    """A 400 that says what to send."""
    return Refused(HTTPStatus.BAD_REQUEST, detail)


def given_filters(request: Request) -> dict[str, str]:
    """The call filters as they were given."""
    return {name: request.query_params[name] for name in FILTERS if name in request.query_params}


def call_filter(request: Request) -> CallFilter:
    """The call filters, understood."""
    given: Mapping[str, str] = given_filters(request)
    for name, words in WORDS.items():
        if name in given and given[name] not in set(words):
            raise refused(f"{name} is one of {', '.join(words)}")
    return CallFilter(
        pbx=given.get("pbx"),
        agent=given.get("agent"),
        direction=given.get("direction"),
        status=given.get("status"),
        outcome=given.get("outcome"),
        number=given.get("number"),
        began_from=moment(request, "from"),
        began_to=moment(request, "to"),
        day=_day(given.get("day")),
        closed=switch(request, "closed"),
        inferred=switch(request, "inferred"),
        has_duration=switch(request, "has_duration"),
    )


def switch(request: Request, name: str) -> bool | None:
    """``true`` or ``false``; null: not given."""
    text = request.query_params.get(name)
    if text not in {None, "true", "false"}:
        raise refused(f"{name} is true or false")
    return None if text is None else text == "true"


def moment(request: Request, name: str) -> datetime | None:
    """An RFC 3339 time; null: not given."""
    text = request.query_params.get(name)
    if text is None:
        return None
    said = RFC_3339.fullmatch(text.replace(" ", "+"))  # a plus in a query arrives as a blank
    try:
        return times.from_text(said[0].upper() if said else "")
    except (ValueError, OverflowError):
        raise refused(f"{name} is an RFC 3339 time such as 2026-11-24T08:00:00Z") from None


def as_of(request: Request) -> datetime | None:
    """The time of which the view is asked as it was known then; null: as it is now. What is to come is now."""
    at = moment(request, "as_of")
    return None if at is None else min(at, datetime.now(UTC))


def whole(request: Request, name: str, default: int, low: int, high: int) -> int:
    """A whole number between `low` and `high`."""
    text = request.query_params.get(name, str(default))
    if not WHOLE.fullmatch(text) or not low <= int(text) <= high:
        raise refused(f"{name} is {low} to {high}")
    return int(text)


def limit(request: Request) -> int:
    """How many calls a page holds."""
    return whole(request, "limit", LIMIT_DEFAULT, 1, LIMIT_MAX)


def encoded(cursor: Cursor) -> str:
    """The cursor as a client sends it back."""
    return f"{times.to_us(cursor.first_received_at)}-{cursor.session_id}"


def cursor(request: Request) -> Cursor | None:
    """Where the page before ended; null: this is the first."""
    text = request.query_params.get("cursor")
    if text is None:
        return None
    if not re.fullmatch(CURSOR, text):
        raise refused("cursor is the next_cursor of an earlier answer, unchanged")
    us, _, session_id = text.partition("-")
    return Cursor(times.from_us(int(us)), session_id)


def _day(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        if date.fromisoformat(text).isoformat() == text:
            return text
    except ValueError:
        pass
    raise refused("day is a date such as 2026-11-24")
