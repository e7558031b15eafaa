"""Logs: one line per event, ids and positions only; never a number, a name, an address or a secret.

An exception's message can hold a part of what was worked on: so its kind and its place are told, not its words.
"""

import asyncio
import logging
import sys
import traceback
from types import TracebackType
from typing import Any

import structlog
from structlog.typing import EventDict, WrappedLogger

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
        processors=[*shared, _exceptions_by_place, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    _route_libraries(shared, renderer)
    sys.excepthook = _uncaught


def place_of(error: BaseException) -> dict[str, str]:
    """What kind of error, and where: the innermost frame first, then what led to it; nothing of its message."""
    frames = traceback.extract_tb(error.__traceback__)
    where = " < ".join(f"{one.name}:{one.lineno}" for one in reversed(frames))
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    because = {} if cause is None else {"because": " <- ".join(type(one).__name__ for one in _chain(cause))}
    return {"error": type(error).__name__, "where": where, **because}


def mishap_of_loop(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A loop's exception handler: asyncio's own prints the task with its exception's message."""
    error = context.get("exception")
    structlog.get_logger().error("a task failed unseen", **({} if error is None else place_of(error)))


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in found:
        found.append(following)
        following = following.__cause__ or following.__context__
    return found


def _uncaught(_kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
    structlog.get_logger().critical("the process ends", **place_of(error))


def _exceptions_by_place(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    given = event.pop("exc_info", None)
    error = given if isinstance(given, BaseException) else given[1] if isinstance(given, tuple) else sys.exc_info()[1]
    if given and error is not None:
        event.update(place_of(error))
    return event


def _route_libraries(shared: list[structlog.typing.Processor], renderer: structlog.typing.Processor) -> None:
    """Libraries log through the standard library: the same form, and only what matters to an operator."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _exceptions_by_place,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    # Its retries are logged as errors; what no retry mends reaches the service as an exception, and is told there.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
