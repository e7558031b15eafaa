"""The processors' composition root: settings, topics, the runner, /metrics and /health."""

import asyncio
import time
from functools import partial
from typing import Final

import structlog
from aiokafka.errors import KafkaError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from events.away import there
from events.kafka import ensure_topics
from events.kafka_client import count_silences
from events.memory import collect_garbage_seldom, give_back_what_is_free, give_large_buffers_back
from events.metrics import Metrics
from events.pbx import pbxs_of
from events.serving import exposition, listen, serving
from events.tracing import tracing_of
from processors.runner import Runner
from processors.settings import ProcessorsSettings

CONNECTIONS_MAX: Final = 64
GRACE_S: Final = 2.0

log = structlog.get_logger()


async def main(settings: ProcessorsSettings) -> None:
    """Run until cancelled; raises ConfigurationError for what no retry can help."""
    collect_garbage_seldom()
    give_large_buffers_back()
    pbxs = pbxs_of(settings)
    metrics = Metrics("processors")
    count_silences(metrics.counter("kafka_silences_total").inc)
    tracing = tracing_of("processors", settings)
    runner = Runner(settings, pbxs, metrics, tracing)
    listener = listen(settings.processors_host, settings.processors_port, "PROCESSORS_PORT")
    giving_back = asyncio.create_task(give_back_what_is_free())
    try:
        async with serving(_http(runner, metrics), listener, GRACE_S, CONNECTIONS_MAX):
            servers = settings.kafka_bootstrap_servers
            await there("Kafka", partial(ensure_topics, settings), (KafkaError, OSError), servers=servers)
            log.info("processing", group=settings.processors_application, topic=settings.topic_set.webhooks)
            await runner.run()
    finally:
        giving_back.cancel()
        await runner.close()
        if tracing is not None:
            tracing.close()


def _http(runner: Runner, metrics: Metrics) -> Starlette:
    async def health(_request: Request) -> Response:
        return JSONResponse(runner.health())

    async def exposed(_request: Request) -> Response:
        runner.observe_lags(time.time())
        return exposition(metrics)

    return Starlette(routes=[Route("/health", health), Route("/metrics", exposed)])
