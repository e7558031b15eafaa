"""What is told of a partition while it is ours: where it ends, and how far the views are behind."""

import time
from collections.abc import Callable

from aiokafka import AIOKafkaConsumer, TopicPartition

from events.metrics import Metrics
from projections.feeds import Feeds


def watch(
    tp: TopicPartition,
    metrics: Metrics,
    feeds: Feeds,
    reader: Callable[[], AIOKafkaConsumer | None],
    reached: Callable[[TopicPartition], int],
) -> None:
    """Gauges that are read when they are scraped: behind a hanging transaction no record comes to set them.

    `reached`: before which of its offsets nothing waits for the database.
    """
    partition = str(tp.partition)

    def offset(asked: Callable[[AIOKafkaConsumer], int | None]) -> float:
        consumer = reader()
        return (asked(consumer) or 0) if consumer is not None and tp in consumer.assignment() else 0

    def end() -> float:
        return offset(lambda consumer: consumer.highwater(tp))

    def lag() -> float:
        return max(0, end() - reached(tp))

    def as_of_s() -> float:
        as_of = feeds.as_of(tp.partition)
        return 0.0 if as_of is None else as_of.timestamp()

    def age_s() -> float:
        # Before anything is known there is no saying how old what waits is.
        return max(0.0, time.time() - as_of_s()) if lag() and as_of_s() else 0.0

    metrics.gauge("high_watermark_offset", partition).set_function(end)
    stable = metrics.gauge("last_stable_offset", partition)
    stable.set_function(lambda: offset(lambda consumer: consumer.last_stable_offset(tp)))
    metrics.gauge("lag_records", partition).set_function(lag)
    metrics.gauge("lag_seconds", partition).set_function(age_s)
    metrics.gauge("as_of_timestamp_seconds", partition).set_function(as_of_s)
