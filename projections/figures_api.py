"""Routes of the figures: all of them for any calls, by spans of time, and how long calls were."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from events import times
from projections import parameters, targets
from projections.access import Access
from projections.answers import answer
from projections.counting import DURATION_BOUNDS_S
from projections.figures import figures_of, links_of
from projections.filters import CallFilter
from projections.targets import Targets
from projections.views import Views
from projections.words import FILTERS

BUCKET_S: Final = 900
BUCKETS_MAX: Final = 1_000
DAY_S: Final = 86_400
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
        """The figures of each span of `bucket_s`, one after the other, `from` to `to` (default: the last day)."""
        role = self._access.role(request)
        parameters.only(request, (*FILTERS, "bucket_s", "include_inferred", "as_of"))
        wanted, inferred, at = self._wanted(request)
        bucket_s = parameters.whole(request, "bucket_s", BUCKET_S, 1, 31 * DAY_S)
        begin, end = _span(wanted, bucket_s, at)
        narrowed = replace(wanted, began_from=begin, began_to=end)
        async with self._views.store.reading() as connection:
            seen = await self._views.store.seen(connection)
            sources = await self._views.known_by(connection, at)
            found = await self._views.bucket_tallies(connection, narrowed, begin, bucket_s, sources)
        buckets: list[Json] = []
        edge = begin
        while edge < end:
            following = min(edge + timedelta(seconds=bucket_s), end)
            figures = figures_of(found.get(len(buckets), ()), include_inferred=inferred)
            buckets.append({"from": times.to_text(edge), "to": times.to_text(following), **figures})
            edge = following
        return answer(request, seen, role, {"buckets": buckets, **seen.stamp(at)})

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


def _span(wanted: CallFilter, bucket_s: int, at: datetime | None) -> tuple[datetime, datetime]:
    now_s = int((at or datetime.now(UTC)).timestamp())
    end = wanted.began_to or datetime.fromtimestamp(now_s - now_s % bucket_s + bucket_s, UTC)
    try:
        begin = wanted.began_from or end - timedelta(seconds=DAY_S)
    except OverflowError:
        raise parameters.refused("from and to are times of calls") from None
    if begin.microsecond or end.microsecond:
        raise parameters.refused("from and to are whole seconds here")
    if (end - begin).total_seconds() > BUCKETS_MAX * bucket_s:
        raise parameters.refused(f"from, to and bucket_s make more than {BUCKETS_MAX} buckets; take a longer bucket_s")
    return begin, end
