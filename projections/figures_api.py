"""Routes of the figures: all of them for any calls, by spans of time, and how long calls were."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from events import times
from projections import parameters, targets
from projections.access import Access
from projections.answers import answer
from projections.counting import DURATION_BOUNDS_S
from projections.figures import Tally, figures_of, links_of
from projections.filters import CallFilter
from projections.targets import Targets
from projections.views import Views
from projections.words import FILTERS

BUCKET_S: Final = 900
BUCKETS_MAX: Final = 1_000
DAY_S: Final = 86_400
FIRST: Final = datetime.min.replace(tzinfo=UTC)
Json = dict[str, Any]


class FiguresApi:
    """What the routes need."""

    def __init__(self, access: Access, views: Views, targets: Targets) -> None:
        """Only keeps what it is given."""
        self._access = access
        self._views = views
        self._targets = targets

    async def figures(self, request: Request) -> Response:
        """Every figure of the calls that the filters name, each with where its rows are."""
        role = self._access.role(request)
        parameters.only(request, (*FILTERS, "include_inferred", "as_of"))
        wanted, inferred, at = self._wanted(request)
        async with self._views.store.reading() as connection:
            seen = await self._views.store.seen(connection)
            sources = await self._views.known_by(connection, at)
            found = await self._views.tallies(connection, wanted, sources)
        given = parameters.given_filters(request)
        body = {
            "figures": figures_of(found, include_inferred=inferred),
            "links": links_of(given, include_inferred=inferred, as_of=request.query_params.get("as_of")),
            "targets": targets.told(self._targets, wanted.pbx),
            **seen.stamp(at),
        }
        return answer(request, seen, role, body)

    async def series(self, request: Request) -> Response:
        """The figures of each span of `bucket_s`, one after the other, `from` to `to`.

        Of a `day` the default is its midnights, where the PBX is; else the last 24 hours.

        At most `BUCKETS_MAX`; `next_from` is where the next ones begin.
        """
        role = self._access.role(request)
        parameters.only(request, (*FILTERS, "bucket_s", "include_inferred", "as_of"))
        wanted, inferred, at = self._wanted(request)
        bucket_s = parameters.whole(request, "bucket_s", BUCKET_S, 1, 31 * DAY_S)
        edges, following = _edges(self._of_its_day(wanted), bucket_s, at)
        async with self._views.store.reading() as connection:
            seen = await self._views.store.seen(connection)
            found: dict[int, list[Tally]] = {}
            if len(edges) > 1:
                sources = await self._views.known_by(connection, at)
                narrowed = replace(wanted, began_from=edges[0], began_to=edges[-1])
                found = await self._views.bucket_tallies(connection, narrowed, edges[0], bucket_s, sources)
        buckets: list[Json] = [
            {
                "from": times.to_text(begin),
                "to": times.to_text(end),
                **figures_of(found.get(number, ()), include_inferred=inferred),
            }
            for number, (begin, end) in enumerate(pairwise(edges))
        ]
        next_from = None if following is None else times.to_text(following)
        return answer(request, seen, role, {"buckets": buckets, "next_from": next_from, **seen.stamp(at)})

    async def durations(self, request: Request) -> Response:
        """How many calls lasted how long, of those whose duration was reported."""
        role = self._access.role(request)
        parameters.only(request, (*FILTERS, "as_of"))
        wanted, _, at = self._wanted(request)
        async with self._views.store.reading() as connection:
            seen = await self._views.store.seen(connection)
            sources = await self._views.known_by(connection, at)
            counts = await self._views.durations(connection, wanted, sources)
        body = {"bounds_s": list(DURATION_BOUNDS_S), "counts": counts, **seen.stamp(at)}
        return answer(request, seen, role, body)

    def _wanted(self, request: Request) -> tuple[CallFilter, bool, datetime | None]:
        self._access.may_search(request)
        inferred = bool(parameters.switch(request, "include_inferred"))
        return parameters.call_filter(request), inferred, parameters.as_of(request)

    def _of_its_day(self, wanted: CallFilter) -> CallFilter:
        """From midnight to midnight, where a day is asked for and nothing else is said."""
        span = None if wanted.day is None else self._views.span_of(wanted.day, wanted.pbx)
        if span is None:
            return wanted
        return replace(wanted, began_from=wanted.began_from or span[0], began_to=wanted.began_to or span[1])


def _edges(wanted: CallFilter, bucket_s: int, at: datetime | None) -> tuple[list[datetime], datetime | None]:
    """The edges of the buckets, and where those begin that are too many; buckets begin on whole seconds."""
    now_s = int((at or datetime.now(UTC)).timestamp())
    end = wanted.began_to or datetime.fromtimestamp(now_s - now_s % bucket_s + bucket_s, UTC)
    day, bucket = timedelta(seconds=DAY_S), timedelta(seconds=bucket_s)
    begin = wanted.began_from or (end - day if end - FIRST > day else FIRST)
    edges = [begin]
    edge = begin.replace(microsecond=0)
    while edges[-1] < end:
        if len(edges) > BUCKETS_MAX:
            return edges, edges[-1]
        edge = edge + bucket if end - edge > bucket else end
        edges.append(edge)
    return edges, None
