"""The active calls in an answer of 3CX's XAPI (``GET /xapi/v1/ActiveCalls``), as polling keeps it. Pure.

A good answer is a JSON object with a list `value` of objects that have an `Id`. Anything else, an empty body or an
error page under status 200 too, is no evidence that calls ended.
"""

from typing import Any

import orjson


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
