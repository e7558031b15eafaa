"""The active calls in an answer of 3CX's XAPI (``GET /xapi/v1/ActiveCalls``), as polling keeps it. Pure.

A good answer is a JSON object with a list `value` of objects that have an `Id`. Anything else, an empty body or an
error page under status 200 too, is no evidence that calls ended; nor is a list that says that there are more.

What of a good answer pairing takes (the witness) is the value of a record ``threecx.calls.listed`` on the webhooks'
topic: ``{"asked_at": …, "calls": [{"id", "caller", "callee"}]}``, the texts as the PBX has them; its `ce_time` is when
the answer was there.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

import orjson

from events import times
from events.odata import page_of

_DN: Final = re.compile(r"\s*(\S+)")


class ActiveCall(NamedTuple):
    """A call in a list; `caller`, `callee`: ``"<dn> <name or number>"``, empty where the PBX says nothing."""

    id: str
    caller: str
    callee: str


class Listing(NamedTuple):
    """A good answer: when it was asked for, so that what it holds was so then or later; and its calls."""

    asked_at: datetime
    calls: tuple[ActiveCall, ...]


def extensions_in(*texts: str) -> frozenset[str]:
    """The number within the PBX (extension, queue, trunk) that each text begins with."""
    return frozenset(found[1] for text in texts if (found := _DN.match(text)))


def listing_value(asked_at: datetime, calls: Iterable[Mapping[str, Any]]) -> bytes:
    """The value of a ``threecx.calls.listed``: of each call what pairing looks at."""
    kept = [{"id": str(one["Id"]), "caller": _text(one, "Caller"), "callee": _text(one, "Callee")} for one in calls]
    return orjson.dumps({"asked_at": times.to_text(asked_at), "calls": kept})


def listing_of(value: bytes) -> Listing | None:
    """What `listing_value` wrote; null for anything else."""
    try:
        told = orjson.loads(value)
        calls = tuple(ActiveCall(str(one["id"]), str(one["caller"]), str(one["callee"])) for one in told["calls"])
        return Listing(times.from_text(told["asked_at"]), calls)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _text(call: Mapping[str, Any], name: str) -> str:
    return str(call.get(name) or "")


def calls_of(body: bytes) -> list[dict[str, Any]] | None:
    """The active calls in a good answer; null for a body that is none, or that has not all of them."""
    page = page_of(body)
    if page is None or not page.is_whole or not all(one.get("Id") is not None for one in page.rows):
        return None
    return page.rows
