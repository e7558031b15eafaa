"""The callers: simulated call centres of many PBXs, posted as they happen, with losses and repeats on the way."""

import asyncio
import contextlib
import heapq
import itertools
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http import HTTPStatus
from random import Random
from typing import NamedTuple
from urllib.parse import urlsplit

from tests.chaos.ledger import Ledger
from tests.simulation.call_centre import CallCentre
from tests.simulation.facts import Said
from tests.simulation.printing import Printed, Told, printed

PBXS = tuple(f"site-{number:02}" for number in range(1, 25))
SWISS = frozenset(PBXS[::3])
"""Those whose country, zone and habit of writing dates are set."""
QUEUE = "800"
WEBHOOKS_PER_SITUATION = 3.2
WINDOW_S = 20.0
ANSWER_TIMEOUT_S = 8.0
"""Longer than the 5 s within which the door must answer: an answer that comes late is seen to."""
TRIES_MAX = 8
UNREADABLE = (b'{"direction": "Inbound"}', b"[]", b"nonsense")


class Webhook(NamedTuple):
    """A body, due at a time in seconds after the beginning; `said` is null for one that says nothing."""

    due_s: float
    number: int
    pbx: str
    body: bytes
    said: Said | None


@dataclass
class Traffic:
    """The webhooks of a seed, in the order in which they are due, for ever; `t0` is when they begin.

    `plain_times`: dates only in the one form that no wrong clock of ours can make be misread.
    """

    seed: int
    per_s: float
    t0: datetime
    plain_times: bool
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def webhooks(self) -> Iterator[Webhook]:
        """Window after window; what a window's calls lead to later comes later."""
        random = Random(self.seed)
        due: list[Webhook] = []
        for window in itertools.count():
            began_s = window * WINDOW_S
            while due and due[0].due_s < began_s:
                yield heapq.heappop(due)
            for pbx in PBXS:
                for one in self._told(random, pbx, began_s):
                    heapq.heappush(due, one)

    def _told(self, random: Random, pbx: str, began_s: float) -> Iterator[Webhook]:
        expected = self.per_s * WINDOW_S / len(PBXS) / WEBHOOKS_PER_SITUATION
        situations = int(expected) + (random.random() < expected % 1)
        country = "CH" if pbx in SWISS and not self.plain_times else None
        for told in CallCentre(random, pbx, WINDOW_S).work(situations):
            if random.random() < 0.03:
                continue  # lost on the way
            one = _shifted(told, began_s)
            due_s = max(one.at_s, began_s)
            if random.random() < 0.05:
                due_s += random.choice((0.5, 3.0, 20.0, 70.0))
            body = printed(random, one, self.t0, country, last_s=due_s, plain=random.random() < 0.6)
            if random.random() < 0.005:
                body = Printed(random.choice(UNREADABLE), None)
            again_s = random.choice((0.01, 2.0, 9.9, 12.0, 59.0)) if random.random() < 0.05 else None
            for at_s in (due_s,) if again_s is None else (due_s, due_s + again_s):
                yield Webhook(at_s, next(self._numbers), pbx, body.body, body.said)


def _shifted(told: Told, by_s: float) -> Told:
    def later(at_s: float | None) -> float | None:
        return None if at_s is None else at_s + by_s

    return replace(told, at_s=told.at_s + by_s, started_s=later(told.started_s), ended_s=later(told.ended_s))


class Sender:
    """Posts what is due. A request without a 2xx is tried again or given up, as PBXs do; the ledger knows each one."""

    def __init__(self, traffic: Traffic, door: str, ledger: Ledger) -> None:
        """`door`: URL of ingest."""
        self._traffic = traffic
        self._address = (urlsplit(door).hostname, urlsplit(door).port)
        self._ledger = ledger
        self._random = Random(traffic.seed + 1)
        self._numbers = itertools.count(1)
        self._stopped = asyncio.Event()
        self.facts: dict[tuple[str, bytes], Said | None] = {}
        self.sent = 0
        self.accepted = 0

    def stop(self) -> None:
        """No new webhooks; those under way are brought to their end by `run`."""
        self._stopped.set()

    async def run(self) -> None:
        """Until stopped, and until every request has ended."""
        began_s = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for webhook in self._traffic.webhooks():
                wait_s = began_s + webhook.due_s - time.monotonic()
                if wait_s > 0:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._stopped.wait(), wait_s)
                if self._stopped.is_set():
                    return
                group.create_task(self._deliver(webhook.pbx, webhook.body, webhook.said))

    async def calmly(self, count: int) -> None:
        """So many starts one after the other, each of which must be accepted."""
        for webhook in itertools.islice(_calm(datetime.now(UTC)), count):
            self.facts[webhook.pbx, webhook.body] = webhook.said
            status = await self._attempt(webhook.pbx, webhook.body)
            assert status == HTTPStatus.ACCEPTED, f"refused without any fault: {status}"

    async def _deliver(self, pbx: str, body: bytes, said: Said | None) -> None:
        self.facts[pbx, body] = said
        for _ in range(TRIES_MAX):
            status = await self._attempt(pbx, body)
            if status in {HTTPStatus.ACCEPTED, HTTPStatus.UNPROCESSABLE_ENTITY} or self._random.random() < 0.4:
                return
            await asyncio.sleep(self._random.uniform(0.3, 2.0))

    async def _attempt(self, pbx: str, body: bytes) -> int | None:
        number = next(self._numbers)
        await self._ledger.note(n=number, pbx=pbx, body=body.decode(), at_s=time.monotonic())
        self.sent += 1
        status, identity = None, None
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                status, answer = await self._post(f"/webhook/3cx/{pbx}/call-event", body)
            if status == HTTPStatus.ACCEPTED:
                identity = json.loads(answer)["id"]
                self.accepted += 1
        except (OSError, TimeoutError, EOFError, ValueError):
            pass
        await self._ledger.note(n=number, status=status, id=identity, at_s=time.monotonic())
        return status

    async def _post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """One request on a connection of its own, as PBXs do; status and body of a whole answer, else an error.

        An HTTP client with a pool would cost the harness more than all that it watches while requests pile up.
        """
        reader, writer = await asyncio.open_connection(*self._address)
        try:
            head = f"POST {path} HTTP/1.1\r\nHost: door\r\nConnection: close\r\nContent-Type: application/json\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            status = int((await reader.readuntil(b"\r\n")).split()[1])
            headers = await reader.readuntil(b"\r\n\r\n") if status else b""
            length = re.search(rb"(?i)content-length: *(\d+)", headers)
            return status, await reader.readexactly(int(length[1]) if length else 0)
        finally:
            writer.transport.abort()


def _calm(t0: datetime) -> Iterator[Webhook]:
    random = Random(t0.timestamp())
    for number in itertools.count():
        pbx = PBXS[number % len(PBXS)]
        told = Told(0.0, pbx, f"7{number:04}", "Inbound", "X", "DID", started_s=float(number % 5))
        body = printed(random, told, t0.replace(microsecond=0), None, last_s=5.0, plain=True)
        yield Webhook(0.0, number, pbx, body.body, body.said)
