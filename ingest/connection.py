"""One connection to the door: bytes in, requests to the service, answers back in the order of their requests.

The parser is llhttp (httptools), in its strict mode: what two readers could read two ways is refused. What is ours:

1. a head is judged as soon as it is there, before its body: too long, ambiguous, or refused by the service; one that
   was let in before and comes whole with its body is known (`heads`);
2. a body is kept only while nothing was refused, and never longer than its limit;
3. a whole request is handed to the service, which replies at once or later; replies leave in order (pipelining); while
   too many are to come, or the client does not take them, what it has sent is held, and no more is read;
4. what is refused before its body was whole ends the connection: half-closed, then read and dropped for a moment, since
   a reset would take the answer away from a client that still sends;
5. each wait has a deadline (`overdue`), looked at ten times a second for all connections; a request is answered within
   5 s of its first byte, whatever it is made of.
"""

import asyncio
from collections import deque
from http import HTTPStatus
from typing import Final, cast

import httptools
import structlog

from events.logs import place_of
from ingest import answers
from ingest.answers import Answer
from ingest.heads import Heads
from ingest.requests import Limits, Reply, Request, Service
from ingest.settings import WHOLE_S_MAX

LINGER_S: Final = 1.0
PENDING_MAX: Final = 32
PIECE_BYTES: Final = 4_096
"""So much is parsed at once, and no more while so many answers are to come or the client does not take them."""
BEYOND_MAX: Final = 64
"""So many connections too many are told so; further ones are dropped without a word."""
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

log = structlog.get_logger()


class Connection(asyncio.Protocol):
    """See the module."""

    def __init__(self, service: Service, limits: Limits, others: "set[Connection]", heads: Heads) -> None:
        """`others` holds every open connection; this one joins it. `heads` is the same for all of them."""
        self.service = service
        self._limits = limits
        self._others = others
        self._heads = heads
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._peer = ""
        self._request: Request | None = None
        self._replies: deque[Reply] = deque()
        self._head_bytes = 0
        self._raw_bytes = 0
        self._body_left = 0
        self._held = b""
        self._completed: Request | None = None
        self._is_ended = False
        self._is_paused = False
        self._is_choked = False
        self._deadline = self._loop.time() + limits.head_timeout_s

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        # uvloop's transports have all of asyncio.Transport, and are none.
        self._transport = cast("asyncio.Transport", transport)
        transport = self._transport
        peer = transport.get_extra_info("peername")
        self._peer = str(peer[0]) if peer else ""
        beyond = len(self._others) - self._limits.connections_max
        self._others.add(self)
        if beyond >= BEYOND_MAX:
            self._is_ended = True
            transport.abort()
        elif beyond >= 0:
            self._end(answers.unavailable("too many connections; see INGEST_CONNECTIONS_MAX"))

    def connection_lost(self, _exc: Exception | None) -> None:
        """Called by asyncio; what the journal still answers is counted and goes nowhere."""
        self._others.discard(self)
        self._is_ended = True
        self._transport = None
        self._request = None
        del self._parser  # it holds us, and the garbage collector looks seldom

    def eof_received(self) -> bool:
        """Called by asyncio: a client that only closed its half still gets what it waits for."""
        self._is_ended = True
        if not self._replies:
            return False
        self._replies[-1].last = True
        # TLS has no half-closed state: the transport would ignore the wish, and say so in the log.
        return self._transport is not None and self._transport.can_write_eof()

    def pause_writing(self) -> None:
        """Called by asyncio: who does not read its answers is not read from either."""
        self._is_choked = True
        self._deadline = self._loop.time() + self._limits.idle_timeout_s
        self._breathe()

    def resume_writing(self) -> None:
        """Called by asyncio."""
        self._is_choked = False
        self._breathe()

    def data_received(self, data: bytes) -> None:
        """Called by asyncio: read a piece after the other, as long as there is room for more requests."""
        if self._held:
            self._held += data
            return
        for begin in range(0, len(data), PIECE_BYTES):
            if self._is_ended:
                break
            if self._is_full:
                self._held = data[begin:]
                break
            self._read(data[begin : begin + PIECE_BYTES])
        self._breathe()

    def _read_held(self) -> None:
        """Called by the loop when there was room again."""
        held, self._held = self._held, b""
        self.data_received(held)

    def _read(self, data: bytes) -> None:
        if self._body_left:
            self._take_body(data)
            return
        is_new = self._request is None
        if is_new and (known := self._heads.again(self._peer, data, self._loop.time())) is not None:
            self._finish(known, is_last=False)
        else:
            self._completed = None
            self._parse(data)
            completed, self._completed = self._completed, None
            if is_new and completed is not None and completed.refusal is None and not self._is_ended:
                self._heads.keep(self._peer, data, completed)

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # Answered as if it had not asked (RFC 9110, 7.8); llhttp leaves the body, and what follows it, to us.
            self._take_body(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError as error:
            log.critical("a request met a bug", **place_of(error.__context__ or error))
            self._end(_BUG)
        except httptools.HttpParserError:
            self._end(answers.problem(HTTPStatus.BAD_REQUEST, "this is not HTTP/1.1 that can be read in one way only"))
        else:
            self._look(len(data) if self._completed is None else 0)

    def _look(self, raw_bytes: int) -> None:
        """Rules 1 and 4 for a request that has not come whole; `raw_bytes` of it came now, as far as is known."""
        request = self._request
        if request is None:
            return
        self._raw_bytes += raw_bytes
        if not request.has_head:
            self._refuse_long_head(request, self._raw_bytes)
        elif self._raw_bytes > 2 * (self._limits.head_bytes_max + request.size):
            request.refuse(answers.problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "chunks with more around them than in"))
        if request.refusal is not None:
            self._end(request.refusal)

    def _refuse_long_head(self, request: Request, head_bytes: int) -> None:
        if head_bytes > self._limits.head_bytes_max:
            detail = f"the head of a request may have {self._limits.head_bytes_max} bytes; see INGEST_HEAD_BYTES_MAX"
            request.refuse(answers.problem(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, detail))

    def on_message_begin(self) -> None:
        """Called by the parser."""
        if self._is_ended:
            return
        now = self._loop.time()
        self._request = Request(self._peer, now)
        self._deadline = now + self._limits.head_timeout_s
        self._head_bytes = self._raw_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Called by the parser, piece by piece."""
        if self._request is not None:
            self._request.target += url
            self._head_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser; also for what follows a chunked body, which is counted and dropped."""
        request = self._request
        if request is None:
            return
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > self._limits.head_bytes_max:
            self._refuse_long_head(request, self._head_bytes)
        elif not request.has_head:
            request.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        request = self._request
        if request is None:
            return
        request.has_head = True
        request.method = self._parser.get_method()
        if request.refusal is None:
            refusal = self._judged(request)
            if refusal is not None:
                request.refuse(refusal)
        self._deadline = min(self._loop.time() + self._limits.body_timeout_s, request.began + WHOLE_S_MAX)

    def _judged(self, request: Request) -> Answer | None:
        found: dict[bytes, list[bytes]] = {}
        for name, value in request.headers:
            if name in _JUDGED:
                found.setdefault(name, []).append(value)
        version = self._parser.get_http_version()
        if version not in _VERSIONS:
            return answers.problem(HTTPStatus.BAD_REQUEST, "send HTTP/1.1")
        is_old = version != "1.1"
        if len(found.get(b"host", ())) != 1 and not (is_old and b"host" not in found):
            return answers.problem(HTTPStatus.BAD_REQUEST, "send one Host header")
        codings = found.get(b"transfer-encoding")
        is_upgrade = self._parser.should_upgrade()
        if codings is not None and (is_old or is_upgrade or [one.strip().lower() for one in codings] != [b"chunked"]):
            return answers.problem(HTTPStatus.BAD_REQUEST, "the only transfer coding is chunked, in HTTP/1.1")
        expected = found.get(b"expect")
        if expected is not None and [one.lower() for one in expected] != [b"100-continue"]:
            return answers.problem(HTTPStatus.EXPECTATION_FAILED, "only 100-continue can be expected")
        refusal = self.service.begin(request)
        if refusal is None and any(_number(value) > self._limits.body_bytes_max for value in found.get(_LENGTH, ())):
            refusal = self._too_long()
        if refusal is None and expected is not None and not is_old and not self._replies and self._transport:
            self._transport.write(CONTINUE)
        return refusal

    def _too_long(self) -> Answer:
        detail = f"a body may have {self._limits.body_bytes_max} bytes; see INGEST_BODY_BYTES_MAX"
        return answers.problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)

    def on_body(self, body: bytes) -> None:
        """Called by the parser, piece by piece."""
        request = self._request
        if request is None or request.refusal is not None:
            return
        request.size += len(body)
        if request.size > self._limits.body_bytes_max:
            request.refuse(self._too_long())
        else:
            request.take(body)

    def on_message_complete(self) -> None:
        """Called by the parser: rule 3."""
        request = self._request
        if request is None:
            return
        self._completed = request
        if self._parser.should_upgrade():
            self._body_left = _number((request.values(_LENGTH) or [b"0"])[0]) if request.refusal is None else 0
            if self._body_left:
                return
        is_ambiguous = request.refusal is not None and request.refusal.status == HTTPStatus.BAD_REQUEST
        self._finish(
            request, is_last=is_ambiguous or self._parser.should_upgrade() or not self._parser.should_keep_alive()
        )

    def _take_body(self, data: bytes) -> None:
        """The body of a request that asked for an upgrade; the connection ends with it."""
        piece = data[: self._body_left]
        self._body_left -= len(piece)
        self.on_body(piece)
        if self._request is not None and not self._body_left:
            self._finish(self._request, is_last=True)

    def _finish(self, request: Request, *, is_last: bool) -> None:
        self._request = None
        now = self._loop.time()
        self._deadline = now + self._limits.idle_timeout_s
        reply = Reply(self, request, now + self._limits.answer_timeout_s, last=is_last)
        self._replies.append(reply)
        # Nothing after it is read; the parser complains of it, and nobody listens.
        self._is_ended = self._is_ended or is_last
        if request.refusal is not None:
            reply(request.refusal)
            return
        try:
            self.service.finish(request, reply)
        except Exception as error:  # noqa: BLE001 -- a client that is not answered waits, and does not know for what
            log.critical("a request met a bug", **place_of(error))
            reply(_BUG)

    def flush(self) -> None:
        """Write every answer whose turn it is."""
        if self._transport is None:
            return
        ready: list[bytes] = []
        is_last = False
        while not is_last and self._replies and (answer := self._replies[0].answer) is not None:
            reply = self._replies.popleft()
            is_last = reply.last
            ready.append(answer.encoded(last=is_last, bodiless=reply.request.method == b"HEAD"))
        if ready:
            self._transport.write(ready[0] if len(ready) == 1 else b"".join(ready))
        if is_last:
            self._linger(self._transport)
        elif self._is_paused:
            self._breathe()

    def _end(self, answer: Answer) -> None:
        """Rule 4: the answer after those that are still to come, and then the end."""
        if self._is_ended:
            return
        self._is_ended = True
        now = self._loop.time()
        request = self._request or Request(self._peer, now)
        self._request = None
        reply = Reply(self, request, now, last=True)
        self._replies.append(reply)
        reply(answer)

    def _stop(self) -> None:
        """Read no more requests; end with the last answer."""
        self._is_ended = True
        self._request = None
        if self._replies:
            self._replies[-1].last = True
        elif self._transport is not None:
            self._linger(self._transport)

    def _linger(self, transport: asyncio.Transport) -> None:
        self._is_ended = True
        self._deadline = self._loop.time() + (self._limits.idle_timeout_s if self._is_choked else LINGER_S)
        self._breathe()
        if transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()

    @property
    def _is_full(self) -> bool:
        """Too many answers are to come, or the client does not take them."""
        return self._is_choked or len(self._replies) >= PENDING_MAX

    def _breathe(self) -> None:
        """Read on, or not: first what is held, then what comes."""
        if self._held and not self._is_full:
            self._loop.call_soon(self._read_held)  # we may be in the middle of an answer
        wanted = not self._is_ended and (self._is_full or bool(self._held))
        if wanted is not self._is_paused and self._transport is not None and not self._transport.is_closing():
            self._is_paused = wanted
            if wanted:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def overdue(self, now: float, *, is_crowded: bool) -> None:
        """Rule 5: called ten times a second; `is_crowded`: who idles does so no longer than a head may take."""
        if self._replies and self._replies[0].answer is None:
            while self._replies and self._replies[0].answer is None and now >= self._replies[0].due:
                self._replies[0](self.service.late(self._replies[0].request))
            return
        is_idle = self._request is None and not self._is_ended and not self._is_choked
        early_s = max(0.0, self._limits.idle_timeout_s - self._limits.head_timeout_s) if is_crowded and is_idle else 0.0
        if now < self._deadline - early_s or self._transport is None:
            return
        if self._is_ended or self._is_choked:
            self._transport.abort()
        elif self._request is None:
            self._stop()
        else:
            part = "body" if self._request.has_head else "head"
            detail = f"the {part} came too slowly; see INGEST_{part.upper()}_TIMEOUT_S"
            self._end(answers.problem(HTTPStatus.REQUEST_TIMEOUT, detail))

    def close(self) -> None:
        """The service ends: no new request, but what was taken is answered."""
        if not self._is_ended:
            self._stop()


def _number(digits: bytes) -> int:
    """Digits that the parser has let pass: at most 64 bits of them, but with any number of zeros before."""
    return int(digits.strip().lstrip(b"0") or b"0")


_BUG: Final = answers.problem(HTTPStatus.INTERNAL_SERVER_ERROR, "a bug of ours; it is in the log")
_VERSIONS: Final = frozenset(("1.0", "1.1"))
_LENGTH: Final = b"content-length"
_JUDGED: Final = frozenset((b"host", b"transfer-encoding", b"expect", _LENGTH))
