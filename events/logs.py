"""Logs: one line per event, ids and positions only; never a number, a name, an address or a secret."""

import logging
import sys

import structlog

from events.settings import Settings


def configure(service: str, settings: Settings) -> None:
    """Set up structlog for the process: console or JSON lines on stderr, UTC times, the service in each line."""
    level = logging.getLevelNamesMapping()[settings.log_level]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    _route_libraries(shared, renderer)


def _route_libraries(shared: list[structlog.typing.Processor], renderer: structlog.typing.Processor) -> None:
    """Libraries log through the standard library: the same form, and only what matters to an operator."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    # Its retries are logged as errors; what no retry mends reaches the service as an exception, and is told there.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
