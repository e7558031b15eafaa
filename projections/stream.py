"""The event stream: a snapshot, then changes, in the order of the commits; who was away resumes where it was.

Every message has an id, ``{life}-{number}``. A client that comes back with `Last-Event-ID` of this life gets what it
missed, as long as that is kept; otherwise a new snapshot. A client that does not read is dropped: it reconnects. While
nobody listens, and nobody left so lately that it may come back, changes are only counted.
Source: the WHATWG HTML standard, server-sent events.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from events.metrics import Metrics
from projections.access import FULL, shown

KEEP_ALIVE_S: Final = 10.0
RETRY_MS: Final = 1_000
RESUME_S: Final = 60.0
"""For so long changes are kept for the last client after it left."""

Snapshot = Callable[[], Awaitable[object]]


@dataclass(slots=True)
class Message:
    """One message of the stream; for each role it is encoded when the first client of that role is sent it."""

    number: int
    head: bytes
    data: Any
    encoded: dict[str, bytes] = field(default_factory=dict)

    def to(self, role: str) -> bytes:
        """The message as this role sees it, ready to be sent."""
        found = self.encoded.get(role)
        if found is None:
            body = orjson.dumps(shown(self.data, role), option=orjson.OPT_UTC_Z)
            found = self.encoded[role] = self.head + body + b"\n\n"
        return found


class TooManyClientsError(Exception):
    """`PROJECTIONS_STREAM_CLIENTS_MAX` is reached."""


class Stream:
    """The hub. `publish` in the order of the commits; `subscribe` once per client."""

    def __init__(self, life: str, metrics: Metrics, clients_max: int, queue_max: int, history_max: int) -> None:
        """`life` tells this process from an earlier one."""
        self.lock = asyncio.Lock()
        self._life = life
        self._metrics = metrics
        metrics.gauge("stream_clients_limit").set(clients_max)
        self._clients_max = clients_max
        self._queue_max = queue_max
        self._number = 0
        self._history: deque[Message] = deque(maxlen=history_max)
        self._queues: dict[int, asyncio.Queue[Message | None]] = {}
        self._client = 0
        self._latest: Message | None = None
        self._left_at_s = -RESUME_S

    @property
    def is_heard(self) -> bool:
        """Whether a client listens, or may come back for what it missed; ask while holding `lock`."""
        return bool(self._queues) or time.monotonic() - self._left_at_s < RESUME_S

    def skip(self) -> None:
        """In place of `publish` while nobody hears: whoever comes back gets a new snapshot."""
        self._number += 1
        self._history.clear()

    def publish(self, name: str, data: object) -> None:
        """Send to every client; call it while holding `lock`, right after the commit that the data tells of."""
        self._number += 1
        message = self._message(name, data)
        self._history.append(message)
        for client, queue in list(self._queues.items()):
            if queue.qsize() >= self._queue_max:
                self._metrics.counter("stream_clients_dropped_total").inc()
                del self._queues[client]
                queue.put_nowait(None)
            else:
                queue.put_nowait(message)

    def close(self) -> None:
        """End every client's stream."""
        for queue in self._queues.values():
            queue.put_nowait(None)
        self._queues.clear()

    async def subscribe(
        self, last_event_id: str | None, snapshot: Snapshot, role: str = FULL
    ) -> AsyncGenerator[bytes, None]:
        """What one client is sent, for ever; raises TooManyClientsError before the first byte."""
        if len(self._queues) >= self._clients_max:
            raise TooManyClientsError
        queue: asyncio.Queue[Message | None] = asyncio.Queue()
        # Under the lock no commit is between its rows and its message: the snapshot is exactly as of `_number`.
        async with self.lock:
            first = self._missed(last_event_id)
            if first is None:
                first = [await self._snapshot_now(snapshot)]
            self._client += 1
            client = self._client
            self._queues[client] = queue
        return self._messages(client, first, queue, role)

    async def _snapshot_now(self, snapshot: Snapshot) -> Message:
        """The whole picture; the same for all who come before the next message: many come back at once."""
        if self._latest is None or self._latest.number != self._number:
            self._latest = self._message("snapshot", await snapshot())
        return self._latest

    async def _messages(
        self, client: int, first: list[Message], queue: "asyncio.Queue[Message | None]", role: str
    ) -> AsyncGenerator[bytes, None]:
        self._metrics.gauge("stream_clients").inc()
        try:
            yield f"retry: {RETRY_MS}\n\n".encode()
            for message in first:
                yield message.to(role)
            while True:
                try:
                    async with asyncio.timeout(KEEP_ALIVE_S):
                        waiting = await queue.get()
                except TimeoutError:
                    yield b": keep-alive\n\n"
                    continue
                # What waits besides goes with it: the more there is to send, the less each costs.
                together = [waiting, *(queue.get_nowait() for _ in range(queue.qsize()))]
                yield b"".join(one.to(role) for one in together if one is not None)
                if together[-1] is None:
                    return
        finally:
            self._queues.pop(client, None)
            self._left_at_s = time.monotonic()
            self._metrics.gauge("stream_clients").dec()

    def _missed(self, last_event_id: str | None) -> list[Message] | None:
        """What came after that id; null when that cannot be told any more."""
        life, _, number = (last_event_id or "").rpartition("-")
        if life != self._life or not number.isdecimal():
            return None
        last = int(number)
        oldest = self._history[0].number if self._history else self._number + 1
        if last > self._number or last < oldest - 1:
            return None
        return [message for message in self._history if message.number > last]

    def _message(self, name: str, data: object) -> Message:
        head = f"id: {self._life}-{self._number}\nevent: {name}\ndata: ".encode()
        return Message(self._number, head, data)
