"""A seeded feed of many PBXs without an end: calls, chaos, ticks, repeats of ingest's, and what cannot be read."""

import asyncio
import heapq
import json
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from random import Random
from typing import Any, NamedTuple

from events import envelope
from events.envelope import Envelope, Type
from events.kafka import KafkaSettings
from events.pbx import DEFAULT_PBX
from processors.rules import Rules
from tests.builders import at, end, start
from tests.chaotic_feed import RULES as SHORT
from tests.chaotic_feed import chaotic_body
from tests.system import producing

RULES = Rules(
    SHORT.call_duration_max_s, SHORT.superseded_grace_s, SHORT.ring_max_s, SHORT.tolerance_s, SHORT.closed_kept_s
)
"""Short spans: the feed's time runs some ten times as fast as ours, and goes beyond them within a minute."""

PBXS = 96
STEPS_S = (0.0, 0.02, 0.05, 0.1, 0.2)
TICK_PERIOD_S = 4.0
SILENCE_S = 25.0
WRITE_PERIOD_S = 0.05


class Written(NamedTuple):
    """A record as ingest writes it; without a partition the partitioner places it by its key."""

    partition: int | None
    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes]]


@dataclass
class Feed:
    """The records of two ingest instances, `a` and `b`, in the order in which they are written."""

    seed: int
    partitions: int
    now_s: float = 0.0
    _ends: list[tuple[float, int, str, dict[str, Any]]] = field(default_factory=list)
    _sequences: dict[str, int] = field(default_factory=lambda: {"a": 0, "b": 0})
    _lately: deque[Written] = field(default_factory=lambda: deque(maxlen=5))
    _number: int = 0

    def records(self) -> Iterator[Written]:
        """All of them, for ever."""
        random = Random(self.seed)
        tick_s = 0.0
        while True:
            self.now_s += SILENCE_S if random.random() < 0.0005 else random.choice(STEPS_S)
            if self.now_s >= tick_s:
                tick_s = self.now_s + TICK_PERIOD_S
                yield from self._ticks("b" if random.random() < 0.1 else "a")
            if random.random() < 0.002:
                yield from list(self._lately)  # ingest crashed, and forwards once more what it had forwarded
            yield self._webhook(random)

    def _ticks(self, instance: str) -> Iterator[Written]:
        for partition in range(self.partitions):
            self._number += 1
            said = Envelope(f"t{self._number}", DEFAULT_PBX, Type.CLOCK_TICK, at(self.now_s), None, instance)
            yield Written(partition, None, b"", envelope.encode(said))

    def _webhook(self, random: Random) -> Written:
        pbx, body = self._call(random)
        instance = "b" if random.random() < 0.2 else "a"
        self._number += 1
        self._sequences[instance] += 1
        said = Envelope(
            f"w{self._number}",
            pbx,
            Type.WEBHOOK_RECEIVED,
            at(self.now_s),
            "application/json",
            instance,
            self._sequences[instance],
        )
        headers = envelope.encode(said)
        value = b"nonsense" if random.random() < 0.01 else json.dumps(body).encode()
        written = Written(None, pbx.encode(), value, headers[2:] if random.random() < 0.005 else headers)
        self._lately.append(written)
        return written

    def _call(self, random: Random) -> tuple[str, dict[str, Any]]:
        """The end of a call that is due, else the start of another, else chaos."""
        if self._ends and self._ends[0][0] <= self.now_s:
            _, _, pbx, body = heapq.heappop(self._ends)
            return pbx, body
        pbx = f"pbx-{random.randrange(PBXS)}"
        if random.random() < 0.4:
            return pbx, chaotic_body(random, self.now_s)
        agent, party = str(random.randrange(200, 230)), f"+412255{random.randrange(10**5):05}"
        if random.random() < 0.85:
            duration = random.choice((1, 5, 20, 60, 150))
            over = end(agent, party, int(self.now_s) + duration, duration)
            heapq.heappush(self._ends, (self.now_s + duration, self._number, pbx, over))
        return pbx, start(agent, party, int(self.now_s))


class Feeder:
    """Writes a feed at a rate until told to stop."""

    def __init__(self, settings: KafkaSettings, feed: Feed, rate: float) -> None:
        """Nothing is written before `run`; `rate` is records a second."""
        self._settings = settings
        self._feed = feed
        self._rate = rate
        self._stopping = asyncio.Event()
        self.written = 0

    async def run(self) -> None:
        """Write what is due every few milliseconds, in order; all is acknowledged when it returns."""
        records = self._feed.records()
        began = time.monotonic()
        topic = self._settings.topic_set.webhooks
        async with producing(self._settings) as producer:
            while not self._stopping.is_set():
                due = int((time.monotonic() - began) * self._rate) - self.written
                for one in islice(records, due):
                    await producer.send(topic, one.value, one.key, partition=one.partition, headers=one.headers)
                await producer.flush()
                self.written += due
                await asyncio.sleep(WRITE_PERIOD_S)

    def stop(self) -> None:
        """Write no more."""
        self._stopping.set()
