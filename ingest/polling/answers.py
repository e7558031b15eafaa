"""Which answers of a PBX are evidence, and what a failed one is called. Pure.

A good answer is a JSON object with a list `value` of objects that have an `Id`, as ``ActiveCalls`` of 3CX's XAPI.
Anything else, an empty body or an error page under status 200 too, is no evidence that calls ended.
"""

from enum import StrEnum
from http import HTTPStatus
from typing import Any

import orjson


class Outcome(StrEnum):
    """How a poll went; only `GOOD` changes anything downstream."""

    GOOD = "good"
    UNAUTHORIZED = "unauthorized"
    REFUSED = "refused"
    BROKEN = "broken"
    UNREADABLE = "unreadable"
    TOO_LONG = "too_long"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    NOT_WRITTEN = "not_written"


def outcome_of(status: int, body: bytes) -> Outcome:
    """What an answer with this HTTP status and body is worth."""
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return Outcome.UNAUTHORIZED
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Outcome.BROKEN
    if status != HTTPStatus.OK:
        return Outcome.REFUSED
    return Outcome.UNREADABLE if calls_of(body) is None else Outcome.GOOD


def calls_of(body: bytes) -> list[dict[str, Any]] | None:
    """The active calls in a good answer; null for a body that is none."""
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    calls = told.get("value") if isinstance(told, dict) else None
    if not isinstance(calls, list) or not all(isinstance(one, dict) and one.get("Id") is not None for one in calls):
        return None
    return calls
