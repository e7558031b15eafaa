"""Webhooks posted as fast as they are answered, or at a rate, and every answer remembered."""

import asyncio
import contextlib
import json
import time
from collections import Counter
from dataclasses import dataclass, field

from bench.load import Connection, request
from tests.builders import end

EVENT = "/webhook/3cx/call-event"
ANSWER_S_MAX = 5.0
"""The promise: an answer always comes within it."""


def body(number: int, padding: int = 0) -> bytes:
    """Webhook `number`: an end, each a call of its own; made longer by `padding` bytes."""
    one = end(callId=str(number), party=f"+4122{number:08}")
    return json.dumps(one | {"pad": "x" * padding} if padding else one).encode()


def number_in(body: bytes) -> int:
    """The number of a webhook."""
    return int(json.loads(body)["callId"])


@dataclass
class Told:
    """What the door answered. `accepted`: id to number of each 2xx."""

    accepted: dict[str, int] = field(default_factory=dict)
    statuses: Counter[str] = field(default_factory=Counter)
    broken: int = 0
    late: int = 0
    slowest_s: float = 0.0

    def take(self, number: int, status: bytes, answer: bytes, began_s: float) -> None:
        """Note an answer."""
        now_s = time.monotonic()
        self.statuses[status.decode()] += 1
        self.slowest_s = max(self.slowest_s, now_s - began_s)
        self.late += now_s - began_s > ANSWER_S_MAX
        if status.startswith(b"2"):
            self.accepted[json.loads(answer)["id"]] = number


class Load:
    """Posts to the door at `port`; numbers are never used twice, whatever became of them."""

    def __init__(self, port: int, connections: int = 16, padding: int = 0) -> None:
        """Nothing is sent yet."""
        self._port = port
        self._connections = connections
        self._padding = padding
        self.number = 0
        self.told = Told()

    async def until(self, stop: asyncio.Event, count: int | None = None) -> None:
        """Post until told to stop, or `count` webhooks; connections that break are made again."""
        last = None if count is None else self.number + count

        async def work() -> None:
            while not stop.is_set() and (last is None or self.number < last):
                with contextlib.suppress(OSError):
                    await self._talk(stop, last)
                await asyncio.sleep(0.01)

        await asyncio.gather(*(work() for _ in range(self._connections)))

    async def _talk(self, stop: asyncio.Event, last: int | None) -> None:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, "127.0.0.1", self._port)
        try:
            while not stop.is_set() and (last is None or self.number < last):
                self.number += 1
                await self._post(connection, self.number)
        except OSError:
            self.told.broken += 1
        finally:
            connection.close()

    async def _post(self, connection: Connection, number: int) -> None:
        began_s = time.monotonic()
        async with asyncio.timeout(ANSWER_S_MAX * 4):  # a TimeoutError is an OSError: broken
            status = await connection.exchange(request(EVENT, body(number, self._padding)))
        self.told.take(number, status, connection.body, began_s)

    async def one(self) -> bytes:
        """Post one, alone; its status, empty when there was no answer."""
        self.number += 1
        before = self.told.statuses.copy()
        with contextlib.suppress(OSError):
            _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", self._port)
            try:
                await self._post(connection, self.number)
            finally:
                connection.close()
        return next(iter(self.told.statuses - before), "").encode()
