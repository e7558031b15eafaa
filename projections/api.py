"""The read API of the design's section 2.3. Unknown parameters are refused, errors are problem+json.

With `PROJECTIONS_API_TOKENS` every route under ``/api/`` wants a bearer token; a browser's EventSource cannot send
headers, so the stream and the CSV also take it as the query parameter ``access_token``. The page itself holds no data.
"""

import base64
import binascii
import csv
import hmac
import io
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse

from events import serving, times
from events.metrics import Metrics
from events.serving import Handler, Refused, Served, exposition
from events.session import Direction, Outcome, Status
from projections.agent_status import AgentState
from projections.openapi import document
from projections.settings import ProjectionsSettings
from projections.stream import Stream, TooManyClientsError
from projections.views import CallFilter, Cursor, Views

WALLBOARD: Final = Path(__file__).parent / "wallboard"
LIMIT_DEFAULT: Final = 100
LIMIT_MAX: Final = 1_000
FILTERS: Final = ("pbx", "agent", "direction", "status", "outcome", "number", "from", "to")
WORDS: Final[Mapping[str, type[Direction | Status | Outcome]]] = {
    "direction": Direction,
    "status": Status,
    "outcome": Outcome,
}
SECURITY_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
CSV_COLUMNS: Final = (
    *("session_id", "pbx", "extension", "email", "direction", "caller", "callee", "status", "outcome"),
    *("started_at", "started_at_source", "ended_at", "ended_at_source", "end_reason", "duration_s", "span_s"),
    *("recording_url", "call_id", "first_received_at", "revision"),
)


class Api:
    """What the routes need; one per process."""

    def __init__(self, settings: ProjectionsSettings, views: Views, stream: Stream, metrics: Metrics) -> None:
        """Only keeps what it is given."""
        self._settings = settings
        self._views = views
        self._stream = stream
        self._metrics = metrics

    async def agents(self, request: Request) -> Response:
        """Every agent."""
        self._allow(request)
        _only(request, ())
        async with self._views.store.reading() as connection:
            found = await self._views.agents(connection)
        return JSONResponse({"agents": [agent.model_dump(mode="json") for agent in found]})

    async def agent(self, request: Request) -> Response:
        """One agent."""
        self._allow(request)
        _only(request, ())
        key = request.path_params["pbx"], request.path_params["extension"]
        async with self._views.store.reading() as connection:
            found = await self._views.agents(connection, [key])
        if not found:
            raise Refused(HTTPStatus.NOT_FOUND, "no call of this agent was ever seen")
        return JSONResponse(found[0].model_dump(mode="json"))

    async def calls(self, request: Request) -> Response:
        """A page of calls, newest first."""
        self._allow(request)
        _only(request, (*FILTERS, "limit", "cursor"))
        limit, after = _limit(request), _cursor(request)
        async with self._views.store.reading() as connection:
            page, following = await self._views.calls(connection, _filter(request), limit, after)
        return JSONResponse({"calls": page, "next_cursor": None if following is None else _encoded(following)})

    async def call(self, request: Request) -> Response:
        """One call."""
        self._allow(request)
        _only(request, ())
        async with self._views.store.reading() as connection:
            found = await self._views.call(connection, request.path_params["session_id"])
        if found is None:
            raise Refused(HTTPStatus.NOT_FOUND, "there is no call with this session_id")
        return JSONResponse(found)

    async def why(self, request: Request) -> Response:
        """One call's revisions, each with the rule that decided, what changed, and the raw records behind it."""
        self._allow(request)
        _only(request, ())
        session_id = request.path_params["session_id"]
        async with self._views.store.reading() as connection:
            found = await self._views.why(connection, session_id)
            legs = await self._views.legs(connection, session_id)
        if not found:
            raise Refused(HTTPStatus.NOT_FOUND, "there is no call with this session_id")
        return JSONResponse({"session_id": session_id, "legs": legs, "revisions": found})

    async def calls_csv(self, request: Request) -> Response:
        """The calls as CSV, streamed; cells that a spreadsheet would run as a formula are defused."""
        self._allow(request, query_token=True)
        _only(request, (*FILTERS, "access_token"))
        headers = {"Content-Disposition": 'attachment; filename="calls.csv"'}
        return StreamingResponse(self._csv(_filter(request)), media_type="text/csv; charset=utf-8", headers=headers)

    async def _csv(self, wanted: CallFilter) -> AsyncIterator[str]:
        yield _csv_line(CSV_COLUMNS)
        after: Cursor | None = None
        async with self._views.store.reading() as connection:
            while True:
                page, after = await self._views.calls(connection, wanted, LIMIT_MAX, after)
                yield "".join(_csv_line(_csv_cells(call)) for call in page)
                if after is None:
                    return

    async def stream(self, request: Request) -> Response:
        """The event stream."""
        self._allow(request, query_token=True)
        _only(request, ("access_token",))
        try:
            messages = await self._stream.subscribe(request.headers.get("last-event-id"), self._views.snapshot)
        except TooManyClientsError:
            raise Refused(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "too many streams; see PROJECTIONS_STREAM_CLIENTS_MAX",
                {"Retry-After": "5"},
            ) from None
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(messages, media_type="text/event-stream", headers=headers)

    async def openapi(self, _request: Request) -> Response:
        """The OpenAPI 3.1 document."""
        return JSONResponse(document())

    async def health(self, _request: Request) -> Response:
        """Whether the views can be read, and how far they are known."""
        try:
            positions = await self._views.store.positions()
        except (SQLAlchemyError, OSError):
            raise Refused(
                HTTPStatus.SERVICE_UNAVAILABLE, "the database does not answer", {"Retry-After": "5"}
            ) from None
        feeds = [feed.model_dump(mode="json") for feed in self._views.pbx_feeds()]
        return JSONResponse({"status": "ok", "partitions": len(positions), "feeds": feeds})

    async def metrics(self, _request: Request) -> Response:
        """Prometheus."""
        async with self._views.store.reading() as connection:
            counts = Counter((agent.pbx, agent.status.value) for agent in await self._views.agents(connection))
            open_calls = await self._views.open_calls(connection)
        for pbx in {*self._views.pbxs, *(pbx for pbx, _ in counts)}:
            self._metrics.gauge("open_calls", pbx).set(open_calls.get(pbx, 0))
            for status in AgentState:
                self._metrics.gauge("agents", pbx, status.value).set(counts[pbx, status.value])
        return exposition(self._metrics)

    def _allow(self, request: Request, *, query_token: bool = False) -> None:
        tokens = self._settings.tokens
        if not tokens:
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        sent = given if scheme.lower() == "bearer" else ""
        if not sent and query_token:
            sent = request.query_params.get("access_token", "")
        matches = [hmac.compare_digest(sent.strip().encode("utf-8", "surrogatepass"), token) for token in tokens]
        if not any(matches):
            raise Refused(
                HTTPStatus.UNAUTHORIZED,
                "send a token of PROJECTIONS_API_TOKENS as bearer",
                {"WWW-Authenticate": "Bearer"},
            )


def _only(request: Request, known: tuple[str, ...]) -> None:
    unknown = sorted(set(request.query_params.keys()) - set(known))
    repeated = sorted({name for name in known if len(request.query_params.getlist(name)) > 1})
    if unknown or repeated:
        what = f"unknown: {', '.join(unknown)}" if unknown else f"given more than once: {', '.join(repeated)}"
        raise Refused(HTTPStatus.BAD_REQUEST, f"query parameters {what[:200]}; known: {', '.join(known) or 'none'}")


def _filter(request: Request) -> CallFilter:
    given = {name: request.query_params.get(name) for name in FILTERS}
    for name, words in WORDS.items():
        if given[name] is not None and given[name] not in set(words):
            raise Refused(HTTPStatus.BAD_REQUEST, f"{name} is one of {', '.join(words)}")
    if any("\0" in value for value in given.values() if value is not None):
        raise Refused(HTTPStatus.BAD_REQUEST, "no parameter holds a NUL character")
    return CallFilter(
        pbx=given["pbx"],
        agent=given["agent"],
        direction=given["direction"],
        status=given["status"],
        outcome=given["outcome"],
        number=given["number"],
        began_from=_time(given["from"], "from"),
        began_to=_time(given["to"], "to"),
    )


def _time(text: str | None, name: str) -> datetime | None:
    if text is None:
        return None
    try:
        return times.from_text(text.replace(" ", "+"))  # a plus in a query arrives as a blank
    except (ValueError, OverflowError):
        raise Refused(HTTPStatus.BAD_REQUEST, f"{name} is an RFC 3339 time such as 2026-11-24T08:00:00Z") from None


def _limit(request: Request) -> int:
    text = request.query_params.get("limit", str(LIMIT_DEFAULT))
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:9]) <= LIMIT_MAX:
        raise Refused(HTTPStatus.BAD_REQUEST, f"limit is 1 to {LIMIT_MAX}")
    return int(text)


def _encoded(cursor: Cursor) -> str:
    text = f"{times.to_text(cursor.first_received_at)} {cursor.session_id}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _cursor(request: Request) -> Cursor | None:
    text = request.query_params.get("cursor")
    if text is None:
        return None
    try:
        decoded = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4)).decode("ascii")
        at, session_id = decoded.split(" ")
        return Cursor(times.from_text(at), session_id)
    except (ValueError, binascii.Error):
        raise Refused(HTTPStatus.BAD_REQUEST, "cursor is the next_cursor of an earlier answer, unchanged") from None


def _csv_cells(call: dict[str, Any]) -> list[str]:
    flat = {**call, **call["agent"]}
    cells = ["" if flat[name] is None else str(flat[name]) for name in CSV_COLUMNS]
    return [f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell for cell in cells]


def _csv_line(cells: list[str] | tuple[str, ...]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue()


async def _page(_request: Request) -> Response:
    return FileResponse(WALLBOARD / "index.html", headers=SECURITY_HEADERS)


async def _asset(request: Request) -> Response:
    path = WALLBOARD / request.path_params["name"]
    if path.suffix not in {".js", ".css", ".svg"} or path.parent != WALLBOARD or not path.is_file():
        raise HTTPException(HTTPStatus.NOT_FOUND)
    return FileResponse(path, headers=SECURITY_HEADERS)


def application(api: Api, metrics: Metrics) -> Starlette:
    """The routes of the design's section 2.3."""
    routes: dict[str, tuple[str, Handler]] = {
        "/api/v1/agents": ("agents", api.agents),
        "/api/v1/agents/{pbx}/{extension}": ("agent", api.agent),
        "/api/v1/calls": ("calls", api.calls),
        "/api/v1/calls.csv": ("calls.csv", api.calls_csv),
        "/api/v1/calls/{session_id}": ("call", api.call),
        "/api/v1/calls/{session_id}/why": ("why", api.why),
        "/api/v1/stream": ("stream", api.stream),
        "/openapi.json": ("openapi", api.openapi),
        "/health": ("health", api.health),
        "/metrics": ("metrics", api.metrics),
        "/": ("wallboard", _page),
        "/wallboard/{name}": ("wallboard", _asset),
    }
    served = [Served("GET", path, name, handler) for path, (name, handler) in routes.items()]
    away = (HTTPStatus.SERVICE_UNAVAILABLE, "the database does not answer")
    hint = "see /openapi.json for the routes and their methods"
    return serving.application(metrics, served, {SQLAlchemyError: away, OSError: away}, hint)
