"""The comparison of webhooks with polling, kept up to date: for its page and its metrics. Idle where nothing is polled.

Follows ``threecx.polled-calls`` from the window's beginning, folds the answers into calls, and compares these with the
call log about once a minute; each PBX by itself. Memory: the polled calls of the window, some 0.5 kB each.
"""

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from sqlalchemy.exc import SQLAlchemyError

from events.kafka import committed_reader, partition_count, stop_consumer
from events.metrics import Metrics
from projections.parity import Parity, Session, compare
from projections.parity_sources import AROUND, observation, sessions_between
from projections.parity_told import as_json
from projections.polled import Observation, PolledCall, PolledCalls
from projections.settings import ProjectionsSettings
from projections.store import Store

PERIOD_S: Final = 60.0
RECORDS_MAX: Final = 200
GAPS_KEPT: Final = 101
SHOWN: Final = 100
NAN: Final = float("nan")
Json = dict[str, Any]

log = structlog.get_logger()


class _Followed:
    """One PBX: the fold, the calls that it gave, and when answers came."""

    def __init__(self, pbx: str) -> None:
        self._fold = PolledCalls(pbx)
        self._ended: deque[PolledCall] = deque()
        self._gaps_s: deque[float] = deque(maxlen=GAPS_KEPT)
        self.first_at: datetime | None = None
        self.last_at: datetime | None = None

    def observe(self, seen: Observation) -> None:
        if self.last_at is not None:
            self._gaps_s.append((seen.at - self.last_at).total_seconds())
        self.first_at, self.last_at = self.first_at or seen.at, seen.at
        self._ended += self._fold.observe(seen)

    def calls(self, since: datetime) -> list[PolledCall]:
        while self._ended and self._ended[0].last_seen_at < since - AROUND:
            self._ended.popleft()
        return [*self._ended, *self._fold.going_on()]

    @property
    def interval_s(self) -> float:
        return median(self._gaps_s) if self._gaps_s else 1.0


@dataclass(slots=True)
class Compared:
    """What `/api/v1/parity` tells: of each PBX the comparison, as of `at` (null: none yet, or nothing is polled)."""

    at: datetime | None = None
    pbxs: list[Json] = field(default_factory=list)


class ParityWatch:
    """Keeps `compared` up to date."""

    def __init__(self, settings: ProjectionsSettings, store: Store, metrics: Metrics) -> None:
        """Nothing is read before `run`."""
        self._settings = settings
        self._store = store
        self._metrics = metrics
        self._followed: dict[str, _Followed] = {}
        self.compared = Compared()

    async def run(self) -> None:
        """Until cancelled; faults of Kafka and the database are tried again."""
        while self._settings.projections_parity_window_s:
            try:
                await self._follow()
            except (KafkaError, OSError, SQLAlchemyError) as error:
                log.warning("no comparison with polling for now; trying again", error=type(error).__name__)
            await asyncio.sleep(PERIOD_S)
        await asyncio.Event().wait()

    async def _follow(self) -> None:
        topic = self._settings.topic_set.polled_calls
        count = await partition_count(self._settings, topic)
        if count is None:
            return
        self._followed.clear()
        consumer = AIOKafkaConsumer(**committed_reader(self._settings), group_id=None)
        try:
            await consumer.start()
            ends = await self._seek(consumer, [TopicPartition(topic, number) for number in range(count)])
            due_s = 0.0
            while True:
                for records in (await consumer.getmany(timeout_ms=1_000, max_records=RECORDS_MAX)).values():
                    for record in records:
                        self.take(observation(record.headers, record.value))
                ends = {place: end for place, end in ends.items() if await consumer.position(place) < end}
                if not ends and time.monotonic() >= due_s:
                    await self.compare(datetime.now(UTC))
                    due_s = time.monotonic() + PERIOD_S
        finally:
            await stop_consumer(consumer)

    async def _seek(self, consumer: AIOKafkaConsumer, places: list[TopicPartition]) -> Mapping[TopicPartition, int]:
        """To the window's beginning; gives where each partition ends now."""
        consumer.assign(places)
        window = timedelta(seconds=self._settings.projections_parity_window_s)
        began_ms = int((datetime.now(UTC) - window - AROUND).timestamp() * 1000)
        firsts = await consumer.offsets_for_times(dict.fromkeys(places, began_ms))
        ends: Mapping[TopicPartition, int] = await consumer.end_offsets(places)
        for place in places:
            consumer.seek(place, ends[place] if firsts[place] is None else firsts[place].offset)
        return ends

    def take(self, seen: Observation | None) -> None:
        """Take note of a good answer; null: of none."""
        if seen is not None:
            self._followed.setdefault(seen.pbx, _Followed(seen.pbx)).observe(seen)

    async def compare(self, now: datetime) -> None:
        """Compare what is settled of the window, and say it in the metrics."""
        begin = now - timedelta(seconds=self._settings.projections_parity_window_s)
        end = now - timedelta(seconds=self._settings.projections_parity_settled_s)
        sessions = await sessions_between(self._store, begin, end) if self._followed else []
        found: list[Json] = []
        for pbx, followed in sorted(self._followed.items()):
            ours = [one for one in sessions if one.pbx == pbx]
            parity, span = await asyncio.to_thread(self._compared, followed, ours, begin, end)
            self._tell(pbx, parity)
            found.append({"pbx": pbx, **span, **_shown(parity)})
        self.compared.at, self.compared.pbxs = now, found

    def _compared(
        self, followed: _Followed, sessions: list[Session], begin: datetime, end: datetime
    ) -> tuple[Parity, Json]:
        """Of the sessions that no poll saw only those between the first and the last answer: else none was there to."""
        first, last = max(begin, followed.first_at or begin), min(end, followed.last_at or end)
        calls, interval = followed.calls(begin), timedelta(seconds=followed.interval_s)
        parity = compare(calls, sessions, begin, end, interval, self._settings.projections_parity_least)
        parity.webhook_only = [one for one in parity.webhook_only if first <= one[0].began_at < last]
        return parity, {"from": first, "to": max(first, last), "interval_s": interval.total_seconds()}

    def _tell(self, pbx: str, parity: Parity) -> None:
        seen = {
            "both": len(parity.both),
            "webhooks_only": len(parity.webhook_only),
            "polling_only": len(parity.polling_only),
            "missing": parity.missing,
        }
        for name, count in seen.items():
            self._metrics.gauge("parity_calls", pbx, name).set(count)
        completeness = NAN if parity.completeness is None else parity.completeness
        self._metrics.gauge("parity_completeness_ratio", pbx).set(completeness)


def _shown(parity: Parity) -> Json:
    """As the command tells it, but for the lists: counted by reason, and the first of what is missing."""
    told = as_json(parity)
    missing = [one for one in told["polling_only"] if one["reason"] == "missing"]
    for name in ("polling_only", "webhook_only"):
        reasons = [one["reason"] for one in told[name]]
        told[name] = {reason: reasons.count(reason) for reason in sorted(set(reasons))}
    return {**told, "missing_calls": missing[:SHOWN]}
