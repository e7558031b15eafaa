"""How the services run and speak HTTP: one entry point, one listening socket, problem+json, metrics.

Source: RFC 9457 for the errors. Each service decides what it serves; how it is served is the same.
"""

import asyncio
import contextlib
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus

import structlog
import uvicorn
import uvloop
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from events import logs
from events.away import GAVE_UP, NO_SPACE, AwayError, of_disk
from events.metrics import Metrics
from events.settings import ConfigurationError, Settings, SettingsT, exit_with, load

LISTEN_BACKLOG = 2_048
KEEP_ALIVE_S = 75
RETRY_AFTER_S = "5"

Handler = Callable[[Request], Awaitable[Response]]

log = structlog.get_logger()


def run(service: str, settings_class: type[SettingsT], main: Callable[[SettingsT], Awaitable[None]]) -> None:
    """Run a service until SIGTERM or SIGINT.

    One sentence and an exit status: 2 for a bad configuration, 1 when what it needs did not come in time.
    """
    try:
        settings = load(settings_class)
        logs.configure(service, settings)
        uvloop.run(_until_stopped(main, settings))
    except ConfigurationError as error:
        exit_with(service, error)
    except AwayError as error:
        exit_with(service, error, GAVE_UP)
    sys.exit(0)


async def _until_stopped(main: Callable[[SettingsT], Awaitable[None]], settings: SettingsT) -> None:
    task = asyncio.ensure_future(main(settings))
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(logs.mishap_of_loop)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError as error:
        if not task.cancelling():  # who watches over it must see that nobody asked for the end, and start it again
            log.error("ended though nobody asked for it", **logs.place_of(error))  # noqa: TRY400 - by its place
            sys.exit(GAVE_UP)


def ensure_data_dir(settings: Settings) -> None:
    """Make DATA_DIR when it is not there.

    Raises ConfigurationError when nothing may be written in it, AwayError when its disk fails. One that is full may
    have room for no new name: what is there can still be worked off.
    """
    folder = settings.data_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        if error.errno in NO_SPACE and folder.is_dir():
            return
        message = f"DATA_DIR: {folder} cannot be written ({error.strerror}); name a folder that this user may write"
        raise of_disk(error, message) from None


def listen(host: str, port: int, variable: str) -> socket.socket:
    """Return a listening TCP socket; raises ConfigurationError naming `variable` when the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        message = f"{variable}: {host}:{port} cannot be listened on ({error.strerror}); free it or set {variable}"
        raise ConfigurationError(message) from None
    listener.listen(LISTEN_BACKLOG)
    listener.setblocking(False)  # noqa: FBT003 - the standard library's own signature
    return listener


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: the service's entry point owns the signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serving(app: ASGIApp, listener: socket.socket, grace_s: float, connections_max: int) -> AsyncIterator[None]:
    """Serve `app` for the length of the block; then answer what is in flight, for at most `grace_s`."""
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",  # the composition root starts and stops everything, in its order
        access_log=False,  # addresses and paths are personal data; the metrics count
        log_config=None,
        server_header=False,
        date_header=False,
        proxy_headers=False,  # the client's address is decided in one place of ours
        backlog=LISTEN_BACKLOG,
        limit_concurrency=connections_max,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, int(grace_s)),
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await task


def problem(status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An error as application/problem+json; `detail` says what to do and holds nothing of the request."""
    return JSONResponse(
        {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail},
        status.value,
        dict(headers or {}),
        media_type="application/problem+json",
    )


def exposition(metrics: Metrics) -> Response:
    """Answer for ``GET /metrics``: the Prometheus text format."""
    return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)


class Refused(Exception):  # noqa: N818 - what happened, in the past tense
    """A handler raises it to answer with this problem."""

    def __init__(self, status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None) -> None:
        """`detail` says what to do."""
        super().__init__(detail)
        self.response = problem(status, detail, headers)


@dataclass(frozen=True, slots=True)
class Served:
    """One route: its method and path, the name that the metrics know it by, and who answers."""

    method: str
    path: str
    name: str
    handler: Handler


def application(
    metrics: Metrics, served: Iterable[Served], mishaps: Mapping[type[Exception], tuple[HTTPStatus, str]], hint: str
) -> Starlette:
    """The routes, counted and timed by their names (metrics `requests_total` and `answer_seconds`).

    `mishaps`: what an exception of the surroundings is answered with. `hint`: what to tell who finds no route.
    """

    def counted(one: Served) -> Handler:
        answers = metrics.histogram("answer_seconds", one.name)

        async def handle(request: Request) -> Response:
            began = time.perf_counter()
            try:
                response = await one.handler(request)
            except Refused as refused:
                response = refused.response
            except tuple(mishaps) as error:
                status, detail = next(told for kind, told in mishaps.items() if isinstance(error, kind))
                headers = {"Retry-After": RETRY_AFTER_S} if status is HTTPStatus.SERVICE_UNAVAILABLE else None
                response = problem(status, detail, headers)
            answers.observe(time.perf_counter() - began)
            metrics.counter("requests_total", one.name, str(response.status_code)).inc()
            return response

        return handle

    async def unrouted(_request: Request, error: Exception) -> Response:
        status = HTTPStatus(error.status_code) if isinstance(error, HTTPException) else HTTPStatus.NOT_FOUND
        metrics.counter("requests_total", "none", str(status.value)).inc()
        return problem(status, hint, error.headers if isinstance(error, HTTPException) else None)

    async def broken(_request: Request, _error: Exception) -> Response:
        # A bug: the server raises it again and writes it down.
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "a fault of this service; its log says more")

    app = Starlette(
        routes=[Route(one.path, counted(one), methods=[one.method]) for one in served],
        exception_handlers={HTTPException: unrouted, Exception: broken},
    )
    app.router.redirect_slashes = False  # one address for one thing
    return app
