"""Answers over one read transaction: everything in one is as of one position, which it carries.

In the body `position` and `as_of`, and as a weak ETag; who sends that back as `If-None-Match` gets 304 and no body.
"""

import hashlib
from http import HTTPStatus
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from projections.store import Seen

OPTIONS: Final = orjson.OPT_UTC_Z


def answer(request: Request, seen: Seen, role: str, body: Any) -> Response:
    """The body as JSON, or 304 when the client has it."""
    content = orjson.dumps(body, option=OPTIONS)
    # Status and day turn without a new position: what is said decides, too.
    said = hashlib.blake2b(content, digest_size=6).hexdigest()
    tag = f'W/"{seen.position}-{role}-{said}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache", "Vary": "Authorization"}
    held = {one.strip() for one in request.headers.get("if-none-match", "").split(",")}
    if tag in held or "*" in held:
        return Response(None, HTTPStatus.NOT_MODIFIED, headers)
    return Response(content, media_type="application/json", headers=headers)
