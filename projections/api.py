"""The read API of the design's section 2.3. Unknown parameters are refused, errors are problem+json.

With `PROJECTIONS_API_TOKENS` every route under ``/api/`` wants a bearer token; a browser's EventSource cannot send
headers, so the stream and the CSV also take it as the query parameter ``access_token``. The page itself holds no data.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from events import serving, times
from events.metrics import Metrics
from events.serving import Handler, Refused, Served, exposition
from projections import parameters
from projections.access import Access, shown
from projections.agent_status import AgentState
from projections.answers import answer
from projections.exports import Exports
from projections.facts import AgentKey
from projections.feeds import FeedState
from projections.figures import FIGURES
from projections.figures_api import FiguresApi
from projections.openapi import document
from projections.parity_watch import Compared
from projections.raw import RawWebhooks, UnreachableError
from projections.records import places_of, shown_of
from projections.settings import ProjectionsSettings
from projections.sources import TooManyChangedError
from projections.stream import Stream, TooManyClientsError
from projections.streaming import Streamed
from projections.views import Views
from projections.words import FILTERS, FORMS, SPREADSHEET

WALLBOARD: Final = Path(__file__).parent / "wallboard"
ASSETS: Final = frozenset({".js", ".css", ".svg"})
SECURITY_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class Api:
    """What the routes need; one per process."""

    def __init__(
        self,
        settings: ProjectionsSettings,
        views: Views,
        stream: Stream,
        metrics: Metrics,
        compared: Compared | None = None,
    ) -> None:
        """Only keeps what it is given."""
        self._compared = compared or Compared()
        self._access = Access(settings.tokens)
        self.figures = FiguresApi(self._access, views, settings.targets)
        self._views = views
        self._exports = Exports(views, settings.projections_exports_max)
        self._raw = RawWebhooks(settings)
        self._stream = stream
        self._metrics = metrics

    async def agents(self, request: Request) -> Response:
        """Every agent; with `as_of` as they were known then."""
        role = self._access.role(request)
        parameters.only(request, ("as_of",))
        at = parameters.as_of(request)
        async with self._views.store.reading() as connection:
            seen = await self._views.store.seen(connection)
            agents = await self._agents(connection, at)
        feeds = self._feeds() if at is None else []
        return answer(request, seen, role, {"agents": agents, "feeds": feeds, **seen.stamp(at)})

    async def _agents(
        self, connection: AsyncConnection, at: datetime | None, keys: list[AgentKey] | None = None
    ) -> list[dict[str, Any]]:
        if at is None:
            return await self._views.agents(connection, keys)
        return await self._views.agents_then(connection, at, keys)

    async def feeds(self, request: Request) -> Response:
        """The state of every PBX's feed."""
        role = self._access.role(request)
        parameters.only(request, ())
        async with self._views.store.reading() as connection:
            seen = await self._views.store.seen(connection)
        return answer(request, seen, role, {"feeds": self._feeds(), **seen.stamp()})

    async def agent(self, request: Request) -> Response:
        """One agent."""
        role = self._access.role(request)
        parameters.only(request, ("as_of",))
        at = parameters.as_of(request)
        key = request.path_params["pbx"], request.path_params["extension"]
        _no_nul(*key)
        async with self._views.store.reading() as connection:
            seen = await self._views.store.seen(connection)
            found = await self._agents(connection, at, [key])
        if not found:
            raise Refused(HTTPStatus.NOT_FOUND, "no call of this agent was ever seen")
        return answer(request, seen, role, found[0])

    async def calls(self, request: Request) -> Response:
        """A page of calls, newest first."""
        role = self._access.role(request)
        parameters.only(request, (*FILTERS, "limit", "cursor", "as_of"))
        self._access.may_search(request)
        limit, after = parameters.limit(request), parameters.cursor(request)
        wanted, at = parameters.call_filter(request), parameters.as_of(request)
        async with self._views.store.reading() as connection:
            seen = await self._views.store.seen(connection)
            sources = await self._views.known_by(connection, at)
            page, following = await self._views.calls(connection, wanted, limit, after, sources)
        cursor = None if following is None else parameters.encoded(following)
        return answer(request, seen, role, {"calls": shown(page, role), "next_cursor": cursor, **seen.stamp(at)})

    async def call(self, request: Request) -> Response:
        """One call."""
        role = self._access.role(request)
        parameters.only(request, ("as_of",))
        at = parameters.as_of(request)
        session_id = request.path_params["session_id"]
        _no_nul(session_id)
        async with self._views.store.reading() as connection:
            seen = await self._views.store.seen(connection)
            found = await self._views.call(connection, session_id, await self._views.known_by(connection, at))
        if found is None:
            raise Refused(HTTPStatus.NOT_FOUND, "there is no call with this session_id")
        return answer(request, seen, role, shown(found, role))

    async def why(self, request: Request) -> Response:
        """One call's revisions, each with the rule that decided, what changed, and the raw records behind it."""
        role = self._access.role(request)
        parameters.only(request, ())
        session_id = request.path_params["session_id"]
        _no_nul(session_id)
        async with self._views.store.reading() as connection:
            seen = await self._views.store.seen(connection)
            found = await self._views.why(connection, session_id)
            legs = await self._views.legs(connection, session_id)
            is_known = bool(found) or await self._views.call(connection, session_id) is not None
        if not is_known:
            raise Refused(HTTPStatus.NOT_FOUND, "there is no call with this session_id")
        body = {"session_id": session_id, "legs": legs, "revisions": shown(found, role), **seen.stamp()}
        return answer(request, seen, role, body)

    async def records(self, request: Request) -> Response:
        """The webhooks behind one call, as they were accepted; a masked role may not see them."""
        role = self._access.role(request)
        parameters.only(request, ())
        self._access.may_see_bodies(role)
        session_id = request.path_params["session_id"]
        _no_nul(session_id)
        async with self._views.store.reading() as connection:
            seen = await self._views.store.seen(connection)
            call = await self._views.call(connection, session_id)
            places = places_of(await self._views.why(connection, session_id))
            forgotten = await self._views.store.forgotten_in(connection)
        if call is None:
            raise Refused(HTTPStatus.NOT_FOUND, "there is no call with this session_id")
        first_received_at = times.from_text(call["first_received_at"])
        raw = await self._raw.read(places) if places else []
        shown_ = [shown_of(place, one, forgotten, first_received_at) for place, one in zip(places, raw, strict=True)]
        return answer(request, seen, role, {"session_id": session_id, "records": shown_, **seen.stamp()})

    async def parity(self, request: Request) -> Response:
        """Webhooks against polling, as they were last compared."""
        role = self._access.role(request)
        parameters.only(request, ())
        async with self._views.store.reading() as connection:
            seen = await self._views.store.seen(connection)
        body = {"compared_at": self._compared.at, "pbxs": self._compared.pbxs, **seen.stamp()}
        return answer(request, seen, role, body)

    async def calls_csv(self, request: Request) -> Response:
        """The calls as CSV, streamed; `form`: ``spreadsheet`` (no cell runs as a formula) or ``raw``."""
        role = self._access.role(request, query_token=True)
        parameters.only(request, (*FILTERS, "form", "as_of", "access_token"))
        self._access.may_search(request, query_token=True)
        at = parameters.as_of(request)
        form = request.query_params.get("form", SPREADSHEET)
        if form not in FORMS:
            raise parameters.refused(f"form is one of {', '.join(FORMS)}")
        return await self._exports.csv_answer(parameters.call_filter(request), at, role, form)

    async def calls_ndjson(self, request: Request) -> Response:
        """The calls, one JSON object to a line, streamed."""
        role = self._access.role(request, query_token=True)
        parameters.only(request, (*FILTERS, "as_of", "access_token"))
        self._access.may_search(request, query_token=True)
        return await self._exports.ndjson_answer(parameters.call_filter(request), parameters.as_of(request), role)

    async def stream(self, request: Request) -> Response:
        """The event stream."""
        role = self._access.role(request, query_token=True)
        parameters.only(request, ("access_token",))
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        if request.method == "HEAD":
            return Response(None, media_type="text/event-stream", headers=headers)
        try:
            messages = await self._stream.subscribe(request.headers.get("last-event-id"), self._views.snapshot, role)
        except TooManyClientsError:
            raise Refused(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "too many streams; see PROJECTIONS_STREAM_CLIENTS_MAX",
                {"Retry-After": "5"},
            ) from None
        return Streamed(messages, "text/event-stream", headers)

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
        now = times.to_text(datetime.now(UTC))
        return JSONResponse({"status": "ok", "now": now, "partitions": len(positions), "feeds": self._feeds()})

    def _feeds(self) -> list[dict[str, Any]]:
        return [feed.model_dump(mode="json") for feed in self._views.pbx_feeds()]

    async def metrics(self, _request: Request) -> Response:
        """Prometheus; without a database all but what only the database knows."""
        try:
            async with self._views.store.reading() as connection:
                counts = Counter((agent["pbx"], agent["status"]) for agent in await self._views.agents(connection))
                open_calls = await self._views.open_calls(connection)
                today = await self._views.today(connection)
        except (SQLAlchemyError, OSError):
            self._metrics.empty("agents", "open_calls", "today")
            self._metrics.gauge("database_up").set(0)
        else:
            self._metrics.gauge("database_up").set(1)
            self._set_rows(counts, open_calls, today)
        for feed in self._views.pbx_feeds():
            for state in FeedState:
                self._metrics.gauge("feed", feed.pbx, state).set(feed.status is state)
            if feed.last_webhook_at is not None:
                self._metrics.gauge("last_webhook_timestamp_seconds", feed.pbx).set(feed.last_webhook_at.timestamp())
        return exposition(self._metrics)

    def _set_rows(
        self, counts: Mapping[tuple[str, str], int], open_calls: Mapping[str, int], today: Sequence[Mapping[str, Any]]
    ) -> None:
        for one in today:
            for figure in FIGURES:
                value = one[figure.name]
                self._metrics.gauge("today", one["pbx"], figure.name).set(math.nan if value is None else value)
        for pbx in {*self._views.pbxs, *(pbx for pbx, _ in counts)}:
            self._metrics.gauge("open_calls", pbx).set(open_calls.get(pbx, 0))
            for status in AgentState:
                self._metrics.gauge("agents", pbx, status.value).set(counts[pbx, status.value])


def _no_nul(*words: str) -> None:
    if any("\0" in word for word in words):
        raise Refused(HTTPStatus.NOT_FOUND, "nothing has a NUL character in its name")


async def _page(_request: Request) -> Response:
    return FileResponse(WALLBOARD / "index.html", headers=SECURITY_HEADERS)


async def _calls_page(_request: Request) -> Response:
    return FileResponse(WALLBOARD / "calls.html", headers=SECURITY_HEADERS)


async def _parity_page(_request: Request) -> Response:
    return FileResponse(WALLBOARD / "parity.html", headers=SECURITY_HEADERS)


def _assets() -> Handler:
    """Serves what stands in the folder now, and nothing else, whatever the path says."""
    files = {path.relative_to(WALLBOARD).as_posix(): path for path in WALLBOARD.rglob("*") if path.suffix in ASSETS}

    async def asset(request: Request) -> Response:
        path = files.get(request.path_params["name"])
        if path is None:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return FileResponse(path, headers=SECURITY_HEADERS)

    return asset


def application(api: Api, metrics: Metrics) -> Starlette:
    """The routes of the design's section 2.3."""
    routes: dict[str, tuple[str, Handler]] = {
        "/api/v1/agents": ("agents", api.agents),
        "/api/v1/agents/{pbx}/{extension}": ("agent", api.agent),
        "/api/v1/feeds": ("feeds", api.feeds),
        "/api/v1/calls": ("calls", api.calls),
        "/api/v1/calls.csv": ("calls.csv", api.calls_csv),
        "/api/v1/calls.ndjson": ("calls.ndjson", api.calls_ndjson),
        "/api/v1/figures": ("figures", api.figures.figures),
        "/api/v1/figures/series": ("series", api.figures.series),
        "/api/v1/figures/durations": ("durations", api.figures.durations),
        "/api/v1/calls/{session_id}": ("call", api.call),
        "/api/v1/calls/{session_id}/why": ("why", api.why),
        "/api/v1/calls/{session_id}/records": ("records", api.records),
        "/api/v1/parity": ("parity", api.parity),
        "/api/v1/stream": ("stream", api.stream),
        "/openapi.json": ("openapi", api.openapi),
        "/health": ("health", api.health),
        "/metrics": ("metrics", api.metrics),
        "/": ("wallboard", _page),
        "/calls": ("wallboard", _calls_page),
        "/parity": ("wallboard", _parity_page),
        "/wallboard/{name:path}": ("wallboard", _assets()),
    }
    served = [Served("GET", path, name, handler) for path, (name, handler) in routes.items()]
    changed = (HTTPStatus.BAD_REQUEST, "too many calls known at as_of have changed since; take a later as_of")
    away = (HTTPStatus.SERVICE_UNAVAILABLE, "the database does not answer")
    unread = (HTTPStatus.SERVICE_UNAVAILABLE, "Kafka does not answer, and only Kafka has the webhooks")
    hint = "see /openapi.json for the routes and their methods"
    return serving.application(
        metrics,
        served,
        {TooManyChangedError: changed, SQLAlchemyError: away, OSError: away, UnreachableError: unread},
        hint,
    )
