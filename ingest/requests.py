"""What passes between a connection and the door: a request as it comes, the reply to it, and the limits."""

from dataclasses import dataclass
from typing import Final, Protocol

from ingest.answers import Answer

Headers = list[tuple[bytes, bytes]]
_UNREAD: Final = "not looked at yet"


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one connection, and how many there may be."""

    connections_max: int
    head_bytes_max: int
    body_bytes_max: int
    head_timeout_s: float
    body_timeout_s: float
    idle_timeout_s: float
    answer_timeout_s: float

    @property
    def is_crowded_at(self) -> int:
        """So many connections are crowded: those that idle are closed early, to leave room for new ones."""
        return self.connections_max * 3 // 4


class Request:
    """A request as far as it has come. Header names are in small letters; `refusal` ends it before its body.

    `route` belongs to the service: what it found for the head.
    """

    __slots__ = (
        "_content_type",
        "_kept",
        "began",
        "has_head",
        "headers",
        "method",
        "peer",
        "refusal",
        "route",
        "size",
        "target",
    )

    def __init__(self, peer: str, began: float) -> None:
        """Nothing but who sends it, and when (the loop's clock) it began."""
        self.peer = peer
        self.began = began
        self.method = b""
        self.target = b""
        self.headers: Headers = []
        self.has_head = False
        self.refusal: Answer | None = None
        self.size = 0
        self.route: object = None
        self._kept: bytes | bytearray = b""
        self._content_type: str | None = _UNREAD

    def again(self, began: float, body: bytes) -> "Request":
        """The next request with this very head, of the same length, whole."""
        one = Request(self.peer, began)
        one.method, one.target, one.headers, one.has_head = self.method, self.target, self.headers, True
        one.route, one.size, one._kept, one._content_type = self.route, self.size, body, self.content_type
        return one

    @property
    def body(self) -> bytes:
        """What has come of the body."""
        return bytes(self._kept)

    @property
    def content_type(self) -> str | None:
        """As sent; the first one of several."""
        if self._content_type is _UNREAD:
            sent = self.values(b"content-type")
            self._content_type = sent[0].decode("latin-1") if sent else None
        return self._content_type

    def values(self, name: bytes) -> list[bytes]:
        """Every value of a header."""
        return [value for own, value in self.headers if own == name]

    def take(self, piece: bytes) -> None:
        """More of the body. It is kept in one piece: a body that comes byte by byte takes no more room than another."""
        if not self._kept:
            self._kept = piece
        elif isinstance(self._kept, bytearray):
            self._kept += piece
        else:
            self._kept = bytearray(self._kept) + piece

    def refuse(self, answer: Answer) -> None:
        """Keep the first refusal, and nothing of the body."""
        self.refusal = self.refusal or answer
        self._kept = b""


class Connected(Protocol):
    """What a reply asks of its connection."""

    service: "Service"

    def flush(self) -> None:
        """Write every answer whose turn it is."""


class Reply:
    """Where a request's answer goes; the first one counts. `last`: the connection ends with it."""

    __slots__ = ("_connection", "answer", "due", "last", "request")

    def __init__(self, connection: Connected, request: Request, due: float, *, last: bool) -> None:
        """Wait for an answer until `due` (the loop's clock)."""
        self._connection = connection
        self.request = request
        self.due = due
        self.last = last
        self.answer: Answer | None = None

    def __call__(self, answer: Answer) -> None:
        """Answer."""
        if self.answer is None:
            self.answer = answer
            self._connection.service.answered(self.request, answer)
            self._connection.flush()


class Service(Protocol):
    """What a connection asks of the door."""

    def begin(self, request: Request) -> Answer | None:
        """Judge a head: null, or why nothing more is read of the request."""

    def finish(self, request: Request, reply: Reply) -> None:
        """A whole request: reply now or later, once."""

    def late(self, request: Request) -> Answer:
        """The answer when the reply did not come in time."""

    def answered(self, request: Request, answer: Answer) -> None:
        """Count an answer."""
