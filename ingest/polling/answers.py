"""Which answers of a PBX are evidence, and what a failed one is called. Pure."""

from collections.abc import Callable
from enum import StrEnum
from http import HTTPStatus

from events.active_calls import calls_of


class Outcome(StrEnum):
    """How a poll went; only `GOOD` changes anything downstream."""

    GOOD = "good"
    UNAUTHORIZED = "unauthorized"
    REFUSED = "refused"
    BROKEN = "broken"
    UNREADABLE = "unreadable"
    INCOMPLETE = "incomplete"
    TOO_LONG = "too_long"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"


def outcome_of(status: int, body: bytes, read: Callable[[bytes], object] = calls_of) -> Outcome:
    """What an answer with this HTTP status and body is worth; `read` gives null for a body that is none."""
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return Outcome.UNAUTHORIZED
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Outcome.BROKEN
    if status != HTTPStatus.OK:
        return Outcome.REFUSED
    return Outcome.UNREADABLE if read(body) is None else Outcome.GOOD
