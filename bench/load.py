"""An HTTP load generator that is not the bottleneck: raw keep-alive connections, one request in flight on each.

It shares the machine with what it measures: what it takes is missing there. So a connection of a closed loop is a
protocol that sends the next request as soon as it has read the answer, without a future or a task in between.
"""

import asyncio
import functools
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast


@dataclass(slots=True)
class Measured:
    """The times of the answers in seconds, how many were not as expected, and the server's CPU if it was looked at."""

    seconds: float
    answers_s: list[float] = field(default_factory=list)
    wrong: int = 0
    cpu_s: float = 0.0

    @property
    def rate(self) -> float:
        """Answers per second."""
        return len(self.answers_s) / self.seconds

    def percentile(self, share: float) -> float:
        """The time under which this share of the answers came."""
        ordered = sorted(self.answers_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def request(path: str, body: bytes) -> bytes:
    """A POST, ready to be sent."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Connection(asyncio.Protocol):
    """One keep-alive connection: `exchange` sends a request and waits for the whole answer."""

    def __init__(self) -> None:
        """Not connected yet."""
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[bytes] | None = None
        self._buffer = b""
        self.body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        # uvloop's transports have all of asyncio.Transport, and are none.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError())

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        self._buffer += data
        body = body_of(self._buffer)
        if body is None or self._answer is None:
            return
        status, self._buffer, self.body = self._buffer[9:12], b"", body
        self._answer.set_result(status)

    async def exchange(self, data: bytes) -> bytes:
        """The answer's status, as three digits; `body` is its body then."""
        self._answer = asyncio.get_running_loop().create_future()
        if self._transport is not None:
            self._transport.write(data)
        return await self._answer

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()


class _Looping(asyncio.Protocol):
    """One keep-alive connection of a closed loop: request after request until `end`, then `done`."""

    def __init__(self, next_request: Callable[[], bytes], expected: bytes, end: float, measured: Measured) -> None:
        """`end` is a time of `time.perf_counter`; what is in flight then is still waited for."""
        self._next_request = next_request
        self._expected = expected
        self._end = end
        self._measured = measured
        self._began = 0.0
        self._buffer = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio: nothing is sent before `begin`."""
        self._transport = cast("asyncio.Transport", transport)

    def begin(self) -> None:
        """Send the next request."""
        self._began = time.perf_counter()
        self._transport.write(self._next_request())

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        self._buffer += data
        if body_of(self._buffer) is None:
            return
        status, self._buffer = self._buffer[9:12], b""
        now = time.perf_counter()
        self._measured.answers_s.append(now - self._began)
        self._measured.wrong += status != self._expected
        if now < self._end:
            self._began = now
            self._transport.write(self._next_request())
        else:
            self.done.set_result(None)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        if not self.done.done():
            self.done.set_exception(exc or ConnectionResetError())


def body_of(answer: bytes) -> bytes | None:
    """The body of an answer; null while it has not come whole."""
    head, separator, body = answer.partition(b"\r\n\r\n")
    return body if separator and len(body) >= _length_in(head) else None


@functools.lru_cache(64)
def _length_in(head: bytes) -> int:
    at = head.lower().find(b"content-length:")
    return int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0


async def closed_loop(
    port: int, data: Callable[[int], bytes], expected: bytes, connections: int, seconds: float
) -> Measured:
    """As many requests as are answered, over `connections`, for `seconds`."""
    loop = asyncio.get_running_loop()
    measured = Measured(seconds)
    numbers = itertools.count()
    end = time.perf_counter() + seconds

    def made() -> _Looping:
        return _Looping(lambda: data(next(numbers)), expected, end, measured)

    clients = [(await loop.create_connection(made, "127.0.0.1", port))[1] for _ in range(connections)]
    for client in clients:
        client.begin()
    await asyncio.gather(*(client.done for client in clients))
    return measured


async def at_rate(
    port: int, data: Callable[[int], bytes], expected: bytes, rate: float, seconds: float, connections: int = 32
) -> Measured:
    """Evenly spaced requests, whatever the answers do; the time of an answer counts from when it was due."""
    loop = asyncio.get_running_loop()
    free: asyncio.Queue[Connection] = asyncio.Queue()
    clients = [(await loop.create_connection(Connection, "127.0.0.1", port))[1] for _ in range(connections)]
    for client in clients:
        free.put_nowait(client)
    measured = Measured(seconds)

    async def one(number: int, due: float) -> None:
        client = await free.get()
        measured.wrong += await client.exchange(data(number)) != expected
        measured.answers_s.append(time.perf_counter() - due)
        free.put_nowait(client)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(one(number, due))
    for client in clients:
        client.close()
    return measured
