"""``python -m projections parity``: the polled calls of the topic with the sessions of the call log, and the verdict.

Exit status: 0 when the verdict holds, 1 when it does not, 2 when it cannot be given.
"""

import json
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from events.kafka import committed_reader, partition_count, stop_consumer
from events.progress import Progress
from events.settings import ConfigurationError
from projections.parity import NUMBER_DIGITS_MIN, Parity, compare, distribution
from projections.parity_sources import AROUND, observation, sessions_between
from projections.polled import Observation, polled_calls
from projections.settings import ProjectionsSettings
from projections.store import open_store

HOLDS: Final = 0
FAILS: Final = 1
SHOWN: Final = 20
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """What is compared. `interval`: the poller's; `least`: the share that must have come by webhook."""

    begin: datetime
    end: datetime
    interval: timedelta
    least: float
    form: str


async def parity(settings: ProjectionsSettings, asked: Asked) -> int:
    """Compare, tell on standard output; raises ConfigurationError for what cannot be compared."""
    if asked.begin >= asked.end:
        raise ConfigurationError("--from must be before --to")
    observations = [one async for one in _observations(settings, asked)]
    store = await open_store(settings.database_url, settings.topic_set.call_sessions)
    try:
        sessions = await sessions_between(store, asked.begin, asked.end)
    finally:
        await store.close()
    found = compare(polled_calls(observations), sessions, asked.begin, asked.end, asked.interval, asked.least)
    sys.stdout.write(json.dumps(as_json(found)) + "\n" if asked.form == "json" else as_text(found))
    return HOLDS if found.holds else FAILS


async def _observations(settings: ProjectionsSettings, asked: Asked) -> AsyncIterator[Observation]:
    topic = settings.topic_set.polled_calls
    try:
        count = await partition_count(settings, topic)
    except (KafkaError, OSError):
        raise ConfigurationError("KAFKA_BOOTSTRAP_SERVERS: no Kafka answers; start it or correct it") from None
    if count is None:
        raise ConfigurationError(f"there is no topic {topic}: run python -m ingest poll beside the webhooks first")
    consumer = AIOKafkaConsumer(**committed_reader(settings), group_id=None)
    await consumer.start()
    try:
        for number in range(count):
            async for one in _of_partition(consumer, TopicPartition(topic, number), asked):
                yield one
    finally:
        await stop_consumer(consumer)


async def _of_partition(
    consumer: AIOKafkaConsumer, partition: TopicPartition, asked: Asked
) -> AsyncIterator[Observation]:
    """The good answers of the time asked for and around it, in their order; what is none of ours is passed over."""
    consumer.assign([partition])
    began_ms = int((asked.begin - AROUND).timestamp() * 1000)
    first = (await consumer.offsets_for_times({partition: began_ms}))[partition]
    end = (await consumer.end_offsets([partition]))[partition]
    if first is None:
        return
    consumer.seek(partition, first.offset)
    progress = Progress(f"parity partition {partition.partition}", unit="answers")
    progress.total = end - first.offset
    async with progress.shown():
        while await consumer.position(partition) < end:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                progress.done = records[-1].offset + 1 - first.offset  # markers of transactions have offsets, too
                for record in records:
                    one = observation(record.headers, record.value)
                    if one is not None and one.at < asked.end + AROUND:
                        yield one


def as_json(found: Parity) -> Json:
    """The comparison as a JSON object; times in RFC 3339, differences in seconds, no numbers of callers."""
    return {
        "verdict": found.sentence,
        "holds": found.holds,
        "completeness": found.completeness,
        "both": len(found.both),
        "missing": found.missing,
        "start_difference_s": distribution(pair.start_difference_s for pair in found.both),
        "end_difference_s": distribution(one for pair in found.both if (one := pair.end_difference_s) is not None),
        "webhook_delay_s": distribution(pair.webhook_delay_s for pair in found.both),
        "polling_only": [
            {"pbx": call.pbx, "id": call.id, "extensions": _short(call.extensions), "reason": reason.value,
             "first_seen_at": call.first_seen_at.isoformat(), "last_seen_at": call.last_seen_at.isoformat()}
            for call, reason in found.polling_only
        ],
        "webhook_only": [
            {"session_id": session.session_id, "pbx": session.pbx, "reason": reason.value,
             "began_at": session.began_at.isoformat()}
            for session, reason in found.webhook_only
        ],
    }  # fmt: skip


def _short(extensions: frozenset[str]) -> list[str]:
    """Without what may be an outside number in the place of an extension."""
    return sorted(one for one in extensions if len(one) < NUMBER_DIGITS_MIN)


def as_text(found: Parity) -> str:
    """The comparison for a person."""
    told = as_json(found)
    lines = [f"{len(found.both):>8,}  calls seen by both"]
    for name in ("start_difference_s", "end_difference_s", "webhook_delay_s"):
        spread = told[name]
        if spread is not None:
            values = ", ".join(f"{key} {value:.2f}" for key, value in spread.items())
            lines.append(f"          {name}: {values}")
    for name, ones in (("polling", told["polling_only"]), ("webhooks", told["webhook_only"])):
        reasons = Counter(one["reason"] for one in ones)
        lines += [f"{count:>8,}  seen by {name} only: {reason}" for reason, count in sorted(reasons.items())]
    missing = [one for one in told["polling_only"] if one["reason"] == "missing"]
    lines += [
        f"          missing: {one['pbx']} call {one['id']} of {one['extensions']} at {one['first_seen_at']}"
        for one in missing[:SHOWN]
    ]
    return "\n".join([*lines, found.sentence]) + "\n"
