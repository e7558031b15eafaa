"""The projections' composition root: database, stream, projector, HTTP; started in this order, stopped in reverse."""

import asyncio
import secrets
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Final

import structlog
from aiokafka.errors import KafkaError
from sqlalchemy.exc import SQLAlchemyError

from events.away import AwayError, Patience, there
from events.kafka import ensure_topics
from events.kafka_client import count_silences
from events.memory import collect_garbage_seldom, give_back_what_is_free, give_large_buffers_back
from events.metrics import Metrics
from events.pbx import pbxs_of
from events.serving import ensure_data_dir, listen, serving
from events.tracing import tracing_of
from projections.api import Api, application
from projections.feeds import Feeds
from projections.parity_watch import ParityWatch
from projections.projector import Projector
from projections.retention import Retention
from projections.settings import ProjectionsSettings
from projections.store import Store, store_at
from projections.stream import Stream
from projections.streaming import leave_who_reads_nothing
from projections.views import Views

GRACE_S: Final = 2.0
HEARTBEAT_S: Final = 1.0
EXPIRE_EVERY_S: Final = 3_600.0
CONNECTIONS_MARGIN: Final = 500
SWITCH_S: Final = 0.0001
"""SQLite's thread comes back from a statement and waits for the interpreter, which is busy with the next batch: 5 ms
each time if nothing else is said, and four times per statement."""

log = structlog.get_logger()


async def main(settings: ProjectionsSettings) -> None:
    """Run until cancelled; raises ConfigurationError for what no retry can help, AwayError after long waiting."""
    sys.setswitchinterval(SWITCH_S)
    collect_garbage_seldom()
    give_large_buffers_back()
    pbxs = pbxs_of(settings)
    if settings.projections_database_url is None:
        ensure_data_dir(settings)
    if not settings.tokens:
        log.warning("NO AUTHENTICATION: whoever reaches this port sees every call; set PROJECTIONS_API_TOKENS")
    listener = listen(settings.projections_host, settings.projections_port, "PROJECTIONS_PORT")
    leave_who_reads_nothing(listener)
    store = store_at(settings.database_url, settings.topic_set.call_sessions)
    metrics = Metrics("projections")
    count_silences(metrics.counter("kafka_silences_total").inc)
    feeds = Feeds(
        settings.projections_feed_silent_s,
        settings.kafka_topic_partitions,
        settings.projections_feed_lagging_s,
        settings.projections_feed_quiet_s,
        {name: pbx.quiet_s for name, pbx in pbxs.items() if pbx.quiet_s is not None},
    )
    views = Views(store, feeds, pbxs, settings.projections_wrap_up_s)
    stream = Stream(
        secrets.token_hex(4),
        metrics,
        settings.projections_stream_clients_max,
        settings.projections_stream_queue_max,
        settings.projections_stream_history_max,
        settings.projections_stream_bytes_max,
    )
    tracing = tracing_of("projections", settings)
    projector = Projector(settings, store, views, stream, metrics, tracing)
    watch = ParityWatch(settings, store, metrics)
    api = application(Api(settings, views, stream, metrics, watch.compared), metrics)
    connections_max = settings.projections_stream_clients_max + CONNECTIONS_MARGIN
    try:
        async with serving(api, listener, GRACE_S, connections_max):
            try:
                await _database_there(settings, store)
                retention = Retention(settings, pbxs)
                async with _beside(
                    _beat(views, stream), _expire(store, retention, metrics), watch.run(), give_back_what_is_free()
                ) as tasks:
                    await _start(settings, projector)
                    log.info("projecting", host=settings.projections_host, port=settings.projections_port)
                    done, _ = await asyncio.wait({projector.failed, *tasks}, return_when=asyncio.FIRST_COMPLETED)
                    done.pop().result()
            finally:
                stream.close()
                await projector.stop()
    finally:
        await store.close()
        if tracing is not None:
            tracing.close()


@asynccontextmanager
async def _beside(*work: Coroutine[None, None, None]) -> AsyncIterator[set["asyncio.Task[None]"]]:
    """These run as tasks for the length of the block."""
    tasks = {asyncio.create_task(one) for one in work}
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _database_there(settings: ProjectionsSettings, store: Store) -> None:
    """Its tables are there, too. Meanwhile whoever asks for rows gets 503."""
    patience = Patience(settings.projections_database_wait_s, "PROJECTIONS_DATABASE_WAIT_S")
    await there("the database", store.prepare, (AwayError,), patience)


async def _start(settings: ProjectionsSettings, projector: Projector) -> None:
    kafka, servers = (KafkaError, OSError), settings.kafka_bootstrap_servers
    await there("Kafka", partial(ensure_topics, settings), kafka, servers=servers)
    # It asks the database where it stands, which may have gone away meanwhile.
    await there("Kafka or the database", projector.start, (*kafka, SQLAlchemyError), servers=servers)


async def _expire(store: Store, retention: Retention, metrics: Metrics) -> None:
    """At the start and then about once an hour delete what is kept no longer."""
    while True:
        try:
            expired = await retention.expire(store, datetime.now(UTC))
            if any(expired.values()):
                async with store.changing():
                    pass  # whoever shows the views is told
        except (SQLAlchemyError, OSError) as error:
            log.warning("old rows could not be deleted; trying again in an hour", error=type(error).__name__)
        else:
            for table, count in expired.items():
                metrics.counter("expired_rows_total", table).inc(count)
        await asyncio.sleep(EXPIRE_EVERY_S)


async def _beat(views: Views, stream: Stream) -> None:
    """About once a second tell every client how far the feeds are known, whose wrap-up is over, and figures owed.

    When the state of a feed, what is unknown, the day, or rows by themselves (a rebuild) turn, all is told anew.
    """
    before = _turning(views)  # before anybody is told anything
    generation_before: int | None = None
    while True:
        await asyncio.sleep(HEARTBEAT_S)
        async with stream.lock:
            turning = _turning(views)
            try:
                generation = await views.store.generation()
                if turning != before or generation_before not in {None, generation}:
                    snapshot = await views.snapshot()
                    stream.publish("snapshot", snapshot)
                    views.told_all(snapshot)
                else:
                    stream.publish("feeds", {"feeds": [feed.model_dump(mode="json") for feed in views.pbx_feeds()]})
                over = views.wrapped_up(datetime.now(UTC))
                if over or views.owed:
                    async with views.store.reading() as connection:
                        change = await views.change(connection, [], over)
                    if change["agents"] or change["figures"]:
                        stream.publish("change", change)
                        views.told(change)
            except (SQLAlchemyError, OSError) as error:
                log.warning("the database does not answer; trying again", error=type(error).__name__)
                continue
        before, generation_before = turning, generation


def _turning(views: Views) -> object:
    """What tells that agents are to be told anew though no call has changed."""
    now = datetime.now(UTC)
    unknown = views.feeds.unknown(now, time.monotonic())
    feeds = [(feed.pbx, feed.status) for feed in views.pbx_feeds()]
    return feeds, unknown, views.days(now), views.untold
