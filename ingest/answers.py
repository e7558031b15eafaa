"""An answer of the door, ready to be written. Errors are application/problem+json (RFC 9457)."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import orjson

RETRY_AFTER_S: Final = "5"
_PROBLEM: Final = "application/problem+json"
_JSON: Final = "application/json"


class Answer(NamedTuple):
    """`start` is the status line and the headers, each with its line's end; `body` follows the empty line."""

    status: int
    start: bytes
    body: bytes

    def encoded(self, *, last: bool, bodiless: bool) -> bytes:
        """The bytes on the wire; `last`: the connection ends with it; `bodiless`: it answers a HEAD."""
        close = b"connection: close\r\n\r\n" if last else b"\r\n"
        return self.start + close if bodiless else self.start + close + self.body


def start_of(status: HTTPStatus, length: int, content_type: str, headers: Mapping[str, str] | None = None) -> bytes:
    """The status line and the headers of an answer with `length` bytes of body."""
    own = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    text = f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-length: {length}\r\ncontent-type: {content_type}\r\n"
    return (text + own).encode("ascii")


def of(status: HTTPStatus, body: bytes, content_type: str, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer of any content type."""
    return Answer(status.value, start_of(status, len(body), content_type, headers), body)


def json(status: HTTPStatus, content: Any) -> Answer:
    """`content` as JSON."""
    return of(status, orjson.dumps(content), _JSON)


def problem(status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None) -> Answer:
    """An error; `detail` says what to do and holds nothing of the request."""
    said = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
    return of(status, orjson.dumps(said), _PROBLEM, headers)


def unavailable(detail: str) -> Answer:
    """The declared 503: come again."""
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, {"Retry-After": RETRY_AFTER_S})


_ID_LENGTH: Final = 32
_ACCEPTED: Final = b'{"status":"accepted","id":"%s"}'
_ACCEPTED_STATUS: Final = HTTPStatus.ACCEPTED.value  # looking it up each time costs more than the rest of the answer
_ACCEPTED_START: Final = start_of(HTTPStatus.ACCEPTED, len(_ACCEPTED) - 2 + _ID_LENGTH, _JSON)


def accepted(identity: str) -> Answer:
    """The 202; `identity` is 32 hex digits. Nothing else is ever 2xx for an event."""
    return Answer(_ACCEPTED_STATUS, _ACCEPTED_START, _ACCEPTED % identity.encode("ascii"))
