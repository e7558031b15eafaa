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
from itertools import takewhile
from typing import Any, Final

import orjson

from events.metrics import Metrics
from projections.access import FULL, shown

KEEP_ALIVE_S: Final = 10.0
RETRY_MS: Final = 1_000
PACE_S: Final = 50e-6
"""What a client is given of a core: a thousand of them are woken 20 times a second at most, one of them at once."""
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
    """The hub. `publish` in the order of the commits; `subscribe` once per client.

    A client is a number: that of the last message it took. What it is to be sent is worked out when it can take it,
    and once for all who took the same; they are woken together, at most every `PACE_S` per client, so that fanning out
    takes a part of a core however many there are.
    """

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
        self._waiting: deque[Message] = deque(maxlen=queue_max)
        self._taken: dict[int, int] = {}
        self._dropped: dict[int, list[Message]] = {}
        self._joined: dict[tuple[int, str], bytes] = {}
        self._client = 0
        self._latest: Message | None = None
        self._left_at_s = -RESUME_S
        self._news = asyncio.Event()
        self._woken_at_s = 0.0
        self._next_wake: asyncio.TimerHandle | None = None

    @property
    def is_heard(self) -> bool:
        """Whether a client listens, or may come back for what it missed; ask while holding `lock`."""
        return bool(self._taken) or time.monotonic() - self._left_at_s < RESUME_S

    def skip(self) -> None:
        """In place of `publish` while nobody hears: whoever comes back gets a new snapshot."""
        self._number += 1
        self._history.clear()

    def publish(self, name: str, data: object) -> None:
        """Send to every client; call it while holding `lock`, right after the commit that the data tells of."""
        for client, taken in list(self._taken.items()):
            if self._number - taken >= self._queue_max:
                self._metrics.counter("stream_clients_dropped_total").inc()
                self._drop(client)
        self._number += 1
        message = self._message(name, data)
        self._history.append(message)
        self._waiting.append(message)
        self._joined.clear()
        self._wake_at(self._woken_at_s + PACE_S * len(self._taken))

    def close(self) -> None:
        """End every client's stream."""
        for client in list(self._taken):
            self._drop(client)
        self._wake()

    async def subscribe(
        self, last_event_id: str | None, snapshot: Snapshot, role: str = FULL
    ) -> AsyncGenerator[bytes, None]:
        """What one client is sent, for ever; raises TooManyClientsError before the first byte."""
        if len(self._taken) >= self._clients_max:
            raise TooManyClientsError
        # Under the lock no commit is between its rows and its message: the snapshot is exactly as of `_number`.
        async with self.lock:
            first = self._missed(last_event_id)
            if first is None:
                first = [await self._snapshot_now(snapshot)]
            self._client += 1
            client = self._client
            self._taken[client] = self._number
        if self._next_wake is None:
            self._wake_at(asyncio.get_running_loop().time() + KEEP_ALIVE_S)
        return self._messages(client, first, role)

    async def _snapshot_now(self, snapshot: Snapshot) -> Message:
        """The whole picture; the same for all who come before the next message: many come back at once."""
        if self._latest is None or self._latest.number != self._number:
            self._latest = self._message("snapshot", await snapshot())
        return self._latest

    async def _messages(self, client: int, first: list[Message], role: str) -> AsyncGenerator[bytes, None]:
        self._metrics.gauge("stream_clients").inc()
        try:
            yield f"retry: {RETRY_MS}\n\n".encode()
            for message in first:
                yield message.to(role)
            while True:
                waits = self._take(client, role)
                if waits:
                    yield waits
                if client not in self._taken:
                    return
                await self._news.wait()
                if self._taken.get(client) == self._number:
                    yield b": keep-alive\n\n"
        finally:
            self._taken.pop(client, None)
            self._dropped.pop(client, None)
            self._left_at_s = time.monotonic()
            self._metrics.gauge("stream_clients").dec()

    def _take(self, client: int, role: str) -> bytes:
        """All that waits for the client, together: the more there is to send, the less each costs."""
        if client in self._dropped:
            return b"".join(message.to(role) for message in self._dropped.pop(client))
        taken = self._taken.get(client, self._number)
        if taken == self._number:
            return b""
        self._taken[client] = self._number
        joined = self._joined.get((taken, role))
        if joined is None:
            joined = b"".join(message.to(role) for message in _after(taken, self._waiting))
            self._joined[taken, role] = joined
        return joined

    def _drop(self, client: int) -> None:
        """Let the client have what waits for it, and nothing after that."""
        taken = self._taken.pop(client)
        self._dropped[client] = _after(taken, self._waiting)

    def _wake_at(self, at_s: float) -> None:
        """Wake who listens then, or earlier if that is due already."""
        if self._next_wake is not None:
            if self._next_wake.when() <= at_s:
                return
            self._next_wake.cancel()
        self._next_wake = asyncio.get_running_loop().call_at(at_s, self._wake)

    def _wake(self) -> None:
        """Wake all who listen: with something for them, else to keep their connections alive."""
        if self._next_wake is not None:
            self._next_wake.cancel()
            self._next_wake = None
        self._news.set()
        self._news.clear()
        if self._taken:
            self._woken_at_s = asyncio.get_running_loop().time()
            self._wake_at(self._woken_at_s + KEEP_ALIVE_S)

    def _missed(self, last_event_id: str | None) -> list[Message] | None:
        """What came after that id; null when that cannot be told any more."""
        life, _, number = (last_event_id or "").rpartition("-")
        if life != self._life or not number.isdecimal():
            return None
        last = int(number)
        oldest = self._history[0].number if self._history else self._number + 1
        if last > self._number or last < oldest - 1:
            return None
        return _after(last, self._history)

    def _message(self, name: str, data: object) -> Message:
        head = f"id: {self._life}-{self._number}\nevent: {name}\ndata: ".encode()
        return Message(self._number, head, data)


def _after(number: int, messages: deque[Message]) -> list[Message]:
    """The newest ones, oldest first; only they are looked at, of however many there are."""
    newer = takewhile(lambda message: message.number > number, reversed(messages))
    return [*newer][::-1]
