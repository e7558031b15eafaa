"""An HTTP load generator that is not the bottleneck: raw keep-alive connections, one request in flight on each."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field


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
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError())

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator or self._answer is None:
            return
        at = head.lower().find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(body) >= length:
            self._buffer = b""
            self.body = body
            self._answer.set_result(head[9:12])

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


async def closed_loop(
    port: int, data: Callable[[int], bytes], expected: bytes, connections: int, seconds: float
) -> Measured:
    """As many requests as are answered, over `connections`, for `seconds`."""
    loop = asyncio.get_running_loop()
    clients = [(await loop.create_connection(Connection, "127.0.0.1", port))[1] for _ in range(connections)]
    measured = Measured(seconds)
    end = time.perf_counter() + seconds

    async def work(client: Connection, number: int) -> None:
        while (began := time.perf_counter()) < end:
            status = await client.exchange(data(number))
            number += connections
            measured.answers_s.append(time.perf_counter() - began)
            measured.wrong += status != expected

    await asyncio.gather(*(work(client, number) for number, client in enumerate(clients)))
    for client in clients:
        client.close()
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
