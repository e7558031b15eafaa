"""The event stream: a snapshot, then changes, in the order of the commits; who was away resumes where it was.

Every message has an id, ``{life}-{number}``. A client that comes back with `Last-Event-ID` of this life gets what it
missed, as long as that is kept; otherwise a new snapshot. A client that does not read is dropped: it reconnects. While
nobody listens, and nobody left so lately that it may come back, changes are only counted.

Messages are kept as bytes, at most so many of them and so many bytes together, whoever is sent them: catching up, one
can tell of a thousand calls. What is let go of is let go of by all: who has yet to take it is dropped without it.
Source: the WHATWG HTML standard, server-sent events.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

import orjson

from events.metrics import Metrics
from projections.access import FULL, shown

KEEP_ALIVE_S: Final = 10.0
RETRY_MS: Final = 1_000
PACE_S: Final = 50e-6
"""What a client is given of a core: a thousand of them are woken 20 times a second at most, one of them at once."""
NUMBER_DIGITS_MAX: Final = 18
"""Of a message: no longer number is one of ours."""
RESUME_S: Final = 60.0
"""For so long changes are kept for the last client after it left."""
PIECE_BYTES: Final = 1 << 18
"""What waits for a client is joined up to so much, or it is one message: all that is held for each client alone."""

Snapshot = Callable[[], Awaitable[object]]


@dataclass(slots=True)
class Message:
    """One message of the stream, ready to be sent; for a role that sees less, when the first such client is sent it."""

    number: int
    head: bytes
    encoded: dict[str, bytes]

    @property
    def size(self) -> int:
        """Its bytes, in each form that there is."""
        return sum(map(len, self.encoded.values()))

    def to(self, role: str) -> bytes:
        """The message as this role sees it."""
        found = self.encoded.get(role)
        if found is None:
            data = orjson.loads(self.encoded[FULL].removeprefix(self.head))
            found = self.encoded[role] = _encoded(self.head, shown(data, role))
        return found


class TooManyClientsError(Exception):
    """`PROJECTIONS_STREAM_CLIENTS_MAX` is reached."""


class Stream:
    """The hub. `publish` in the order of the commits; `subscribe` once per client.

    A client is a number: that of the last message it took. What it is to be sent is worked out when it can take it,
    and once for all who took the same; they are woken together, at most every `PACE_S` per client, so that fanning out
    takes a part of a core however many there are.
    """

    def __init__(
        self, life: str, metrics: Metrics, clients_max: int, queue_max: int, history_max: int, bytes_max: int
    ) -> None:
        """`life` tells this process from an earlier one; `bytes_max`: of all messages kept, of which one always is."""
        self.lock = asyncio.Lock()
        self._life = life
        self._metrics = metrics
        metrics.gauge("stream_clients_limit").set(clients_max)
        metrics.gauge("stream_bytes_limit").set(bytes_max)
        metrics.gauge("stream_bytes").set_function(lambda: self._bytes)
        self._clients_max = clients_max
        self._queue_max = queue_max
        self._history_max = history_max
        self._bytes_max = bytes_max
        self._number = 0
        self._kept: deque[Message] = deque()
        self._bytes = 0
        self._taken: dict[int, int] = {}
        self._came: dict[int, int] = {}
        self._dropped: dict[int, list[Message]] = {}
        self._joined: dict[tuple[int, str], tuple[int, bytes]] = {}
        self._client = 0
        self._latest: Message | None = None
        self._left_at_s = -RESUME_S
        self._news = asyncio.Event()
        self._woken_at_s = 0.0
        self._woken_for = 0
        self._next_wake: asyncio.TimerHandle | None = None

    @property
    def is_heard(self) -> bool:
        """Whether a client listens, or may come back for what it missed; ask while holding `lock`."""
        return bool(self._taken) or time.monotonic() - self._left_at_s < RESUME_S

    def skip(self) -> None:
        """In place of `publish` while nobody hears: whoever comes back gets a new snapshot."""
        self._number += 1
        self._kept.clear()
        self._bytes = 0
        self._dropped = {client: [] for client in self._dropped}

    def publish(self, name: str, data: object) -> None:
        """Send to every client; call it while holding `lock`, right after the commit that the data tells of."""
        for client, taken in list(self._taken.items()):
            if self._number - max(taken, self._came[client]) >= self._queue_max:
                self._metrics.counter("stream_clients_dropped_total").inc()
                self._drop(client)
        self._number += 1
        message = self._message(name, data)
        self._kept.append(message)
        self._bytes += message.size
        self._make_room()
        self._joined.clear()
        self._wake_at(self._woken_at_s + PACE_S * len(self._taken))

    def _make_room(self) -> None:
        """Let go of the oldest messages beyond the limits, never of the newest one."""
        oldest = self._kept[0].number
        count_max = max(self._history_max, self._queue_max)
        while len(self._kept) > 1 and (len(self._kept) > count_max or self._bytes > self._bytes_max):
            self._bytes -= self._kept.popleft().size
        if self._kept[0].number == oldest:
            return
        oldest = self._kept[0].number
        for client in [client for client, taken in self._taken.items() if taken < oldest - 1]:
            self._metrics.counter("stream_clients_dropped_total").inc()
            del self._taken[client]
            self._dropped[client] = []
        for client, waits in self._dropped.items():
            if waits and waits[0].number < oldest:
                self._dropped[client] = []

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
            last = self._last_of(last_event_id)
            first = await self._snapshot_now(snapshot) if last is None else None
            self._client += 1
            client = self._client
            self._came[client] = self._number
            self._taken[client] = self._number if last is None else last
        if self._next_wake is None:
            self._wake_at(asyncio.get_running_loop().time() + KEEP_ALIVE_S)
        return self._messages(client, first, role)

    async def _snapshot_now(self, snapshot: Snapshot) -> Message:
        """The whole picture; the same for all who come before the next message: many come back at once."""
        if self._latest is None or self._latest.number != self._number:
            self._latest = self._message("snapshot", await snapshot())
        return self._latest

    async def _messages(self, client: int, first: Message | None, role: str) -> AsyncGenerator[bytes, None]:
        self._metrics.gauge("stream_clients").inc()
        try:
            yield f"retry: {RETRY_MS}\n\n".encode()
            if first is not None:
                yield first.to(role)
            while True:
                newest = self._number
                while piece := self._take(client, role):
                    yield piece
                    if self._taken.get(client, -1) >= max(newest, self._woken_for):
                        break  # what came meanwhile is for the next time that all are woken
                if client not in self._taken:
                    return
                await self._news.wait()
                if self._taken.get(client) == self._number:
                    yield b": keep-alive\n\n"
        finally:
            self._taken.pop(client, None)
            self._came.pop(client, None)
            self._dropped.pop(client, None)
            self._left_at_s = time.monotonic()
            self._metrics.gauge("stream_clients").dec()

    def _take(self, client: int, role: str) -> bytes:
        """What waits for the client, together, up to a piece: the more there is to send, the less each costs."""
        if client in self._dropped:
            waits = self._dropped[client]
            last, piece = self._piece(waits, role)
            self._dropped[client] = [message for message in waits if message.number > last]
        elif (taken := self._taken.get(client, self._number)) == self._number:
            return b""
        elif (taken, role) in self._joined:
            self._taken[client], piece = self._joined[taken, role]
        else:
            last, piece = self._piece(_after(taken, self._kept), role)
            self._taken[client] = last
            if last == self._number:  # so it is one piece for each place, whoever catches up
                self._joined[taken, role] = last, piece
        if self._bytes > self._bytes_max:
            self._make_room()
        return piece

    def _piece(self, messages: Iterable[Message], role: str) -> tuple[int, bytes]:
        """The first of these messages, joined, and the number of the last one of them; all of them are kept."""
        last, size, parts = 0, 0, list[bytes]()
        for message in messages:
            before = message.size
            part = message.to(role)
            self._bytes += message.size - before
            size += len(part)
            if parts and size > PIECE_BYTES:
                break
            parts.append(part)
            last = message.number
        return last, b"".join(parts)

    def _drop(self, client: int) -> None:
        """Let the client have what waits for it, and nothing after that."""
        taken = self._taken.pop(client)
        self._dropped[client] = _after(taken, self._kept)

    def _wake_at(self, at_s: float) -> None:
        """Wake who listens then, or earlier if that is due already."""
        if self._next_wake is not None:
            if self._next_wake.when() <= at_s:
                return
            self._next_wake.cancel()
        self._next_wake = asyncio.get_running_loop().call_at(at_s, self._wake)

    def _wake(self) -> None:
        """Wake all who listen: with something for them, else to keep their connections alive.

        Who is just being written to does not hear of it, and goes on up to what they were woken for.
        """
        self._woken_for = self._number
        if self._next_wake is not None:
            self._next_wake.cancel()
            self._next_wake = None
        self._news.set()
        self._news.clear()
        if self._taken:
            self._woken_at_s = asyncio.get_running_loop().time()
            self._wake_at(self._woken_at_s + KEEP_ALIVE_S)

    def _last_of(self, last_event_id: str | None) -> int | None:
        """The number of that id; null when what came after it cannot be told any more."""
        life, _, number = (last_event_id or "").rpartition("-")
        if life != self._life or not number.isdecimal() or len(number) > NUMBER_DIGITS_MAX:
            return None
        last = int(number)
        oldest = self._kept[0].number if self._kept else self._number + 1
        oldest = max(oldest, self._number + 1 - self._history_max)
        return last if oldest - 1 <= last <= self._number else None

    def _message(self, name: str, data: object) -> Message:
        head = f"id: {self._life}-{self._number}\nevent: {name}\ndata: ".encode()
        return Message(self._number, head, {FULL: _encoded(head, data)})


def _encoded(head: bytes, data: object) -> bytes:
    return head + orjson.dumps(data, option=orjson.OPT_UTC_Z) + b"\n\n"


def _after(number: int, messages: deque[Message]) -> list[Message]:
    """The newest ones, oldest first; only they are looked at, of however many there are."""
    newer = takewhile(lambda message: message.number > number, reversed(messages))
    return [*newer][::-1]
