"""``python -m processors dead-letters``: list what lies there, show one, send a range again, or one with another body.

A dead letter that is sent again goes to ``threecx.webhooks``, as if it had come just now but with the time at which it
was received: it is late evidence, and corrects what was inferred without it. It stays in the dead letters, too: a log
forgets nothing. Sent twice it is recognised as a repeat.
"""

import sys
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from events import dead_letters
from events.envelope import EnvelopeError
from events.kafka import KafkaSettings, committed_reader, forwarder_producer, partition_count, stop_consumer
from events.progress import Progress
from events.settings import ConfigurationError

FETCH_TIMEOUT_MS: Final = 500
SENT_AT_ONCE_MAX: Final = 500
DONE: Final = 0
SOME_LEFT: Final = 1


class Range(NamedTuple):
    """Offsets `first` to `last` (null: to the end) of a partition."""

    partition: int
    first: int = 0
    last: int | None = None


async def list_letters(settings: KafkaSettings, ranges: Sequence[Range], reason: str | None) -> int:
    """Print one line for each: place, time, origin, key, length, reason. No content of a record is shown."""
    async with _reading(settings, ranges) as (records, _):
        async for record in records:
            if _is_wanted(record, reason):
                sys.stdout.write(_line(record) + "\n")
    return DONE


async def show_letter(settings: KafkaSettings, place: Range) -> int:
    """Print the headers, an empty line and the body, byte for byte: it holds numbers and e-mails as they were sent."""
    record = await _one(settings, place)
    for name, value in record.headers:
        sys.stdout.write(f"{name}: {value.decode('utf-8', 'replace')}\n")
    sys.stdout.write("\n")
    sys.stdout.flush()
    sys.stdout.buffer.write(record.value or b"")
    sys.stdout.flush()
    return DONE


async def body_of(settings: KafkaSettings, place: Range) -> bytes:
    """The body of one, to be edited."""
    return (await _one(settings, place)).value or b""


async def fix_letter(settings: KafkaSettings, place: Range, body: bytes) -> int:
    """Send one again with another body."""
    record = await _one(settings, place)
    try:
        headers = dead_letters.again(record.headers, record.value or b"", body)
    except EnvelopeError as error:
        raise ConfigurationError(f"{_place(record)} cannot be sent again: {error}") from None
    async with _producing(settings) as producer:
        sent = await producer.send_and_wait(
            settings.topic_set.webhooks, body, record.key, partition=record.partition, headers=headers
        )
    sys.stdout.write(f"{_place(record)} -> {sent.topic} {sent.partition}:{sent.offset}\n")
    return DONE


async def resend_letters(settings: KafkaSettings, ranges: Sequence[Range], reason: str | None) -> int:
    """Send a range again as it is, with progress; returns 1 when some of it were no webhooks and stay."""
    left, sent = 0, 0
    deliveries: list[Awaitable[object]] = []
    async with _reading(settings, ranges) as (records, progress), _producing(settings) as producer, progress.shown():
        async for record in records:
            if not _is_wanted(record, reason):
                continue
            try:
                headers = dead_letters.again(record.headers, b"", b"")
            except EnvelopeError as error:
                left += 1
                sys.stderr.write(f"{_place(record)} stays: {error}\n")
                continue
            topic, partition = settings.topic_set.webhooks, record.partition
            deliveries.append(
                await producer.send(topic, record.value, record.key, partition=partition, headers=headers)
            )
            if len(deliveries) >= SENT_AT_ONCE_MAX:
                sent += await _delivered(deliveries)
        sent += await _delivered(deliveries)
    sys.stdout.write(f"{sent} sent again, {left} not\n")
    return SOME_LEFT if left else DONE


async def _delivered(deliveries: list[Awaitable[object]]) -> int:
    """Await and forget them all; returns how many they were. Raises KafkaError."""
    count = len(deliveries)
    for one in deliveries:
        await one
    deliveries.clear()
    return count


def _is_wanted(record: ConsumerRecord, reason: str | None) -> bool:
    return reason is None or reason in _said(record, "dead_letter_reason")


def _said(record: ConsumerRecord, name: str) -> str:
    return next((value.decode("utf-8", "replace") for own, value in record.headers if own == name), "-")


def _place(record: ConsumerRecord) -> str:
    return f"{record.partition}:{record.offset}"


def _line(record: ConsumerRecord) -> str:
    origin = _said(record, "dead_letter_origin")
    if origin != dead_letters.FROM_INGEST:
        origin += f" {_said(record, 'dead_letter_partition')}:{_said(record, 'dead_letter_offset')}"
    source = _said(record, "ce_source").removeprefix("/pbx/")
    length = len(record.value or b"")
    reason = _said(record, "dead_letter_reason")
    return f"{_place(record)}  {_said(record, 'ce_time')}  {origin}  {source}  {length} B  {reason}"


async def _one(settings: KafkaSettings, place: Range) -> ConsumerRecord:
    async with _reading(settings, [place]) as (records, _):
        async for record in records:
            return record
    raise ConfigurationError(f"there is no dead letter at {place.partition}:{place.first}; see dead-letters list")


@asynccontextmanager
async def _producing(settings: KafkaSettings) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(**forwarder_producer(settings))
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


@asynccontextmanager
async def _reading(
    settings: KafkaSettings, ranges: Sequence[Range]
) -> AsyncIterator[tuple[AsyncIterator[ConsumerRecord], Progress]]:
    """The committed records of the ranges (none: of all), up to their ends as of now; raises ConfigurationError."""
    topic = settings.topic_set.dead_letters
    progress = Progress("dead-letters")
    consumer = AIOKafkaConsumer(**committed_reader(settings), group_id=None)
    try:
        count = await partition_count(settings, topic)
        if count is None:
            raise ConfigurationError(f"there is no topic {topic}; set KAFKA_TOPIC_PREFIX")
        for one in ranges:
            if one.partition >= count:
                raise ConfigurationError(f"{topic} has the partitions 0 to {count - 1}, and no {one.partition}")
        await consumer.start()
        yield _records(consumer, topic, ranges or [Range(number) for number in range(count)], progress), progress
    except (KafkaError, OSError) as error:
        raise ConfigurationError(
            f"KAFKA_BOOTSTRAP_SERVERS: the broker at {settings.kafka_bootstrap_servers} does not answer as it should"
            f" ({type(error).__name__}); start it, or name another"
        ) from None
    finally:
        await stop_consumer(consumer)


async def _records(
    consumer: AIOKafkaConsumer, topic: str, ranges: Sequence[Range], progress: Progress
) -> AsyncIterator[ConsumerRecord]:
    places = [TopicPartition(topic, one.partition) for one in ranges]
    consumer.assign(set(places))
    begins, ends = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
    spans = []
    for one, place in zip(ranges, places, strict=True):
        end = ends[place] if one.last is None else min(ends[place], one.last + 1)
        spans.append((place, max(one.first, begins[place]), end))
    progress.total = sum(max(0, end - begin) for _, begin, end in spans)
    for place, begin, end in spans:
        async for record in _span(consumer, place, begin, end):
            progress.done += 1
            yield record
    progress.done = progress.total  # offsets that held nothing were passed, too


async def _span(
    consumer: AIOKafkaConsumer, place: TopicPartition, begin: int, end: int
) -> AsyncIterator[ConsumerRecord]:
    if begin >= end:
        return
    consumer.seek(place, begin)
    while await consumer.position(place) < end:
        fetched = await consumer.getmany(place, timeout_ms=FETCH_TIMEOUT_MS)
        for record in fetched.get(place, ()):
            if record.offset < end:
                yield record
