"""Numbers agree by construction: on both databases each figure is what its own rows add up to."""

import math
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete
from sqlalchemy.engine import make_url

from events import times
from events.metrics import Metrics
from events.session import Outcome, Status
from projections.api import Api, application
from projections.figures import FIGURES, Tally, figures_of, links_of
from projections.settings import ProjectionsSettings
from projections.store import Store, open_store
from projections.stream import Stream
from projections.tables import agents, calls
from tests.builders import T0
from tests.postgres import own_cluster
from tests.test_views import like, put, some_calls, views_of

ENDED = st.fixed_dictionaries(
    {
        "status": st.sampled_from(list(Status)),
        "outcome": st.sampled_from(list(Outcome)),
        "duration_s": st.none() | st.integers(0, 5_000),
        "began_s": st.integers(-90_000, 90_000),
    }
)
GIVEN = st.sampled_from(["", "status=ended", "outcome=missed", "inferred=true", "closed=true", "day=2026-11-24"])


def client_of(store: Store, tmp_path: Path) -> httpx.AsyncClient:
    """The API over that store."""
    metrics = Metrics("projections")
    stream = Stream("life", metrics, 10, 10, 10, 100_000)
    app = application(Api(ProjectionsSettings(data_dir=tmp_path), views_of(store), stream, metrics), metrics)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api")


async def fill(store: Store, kinds: list[dict[str, Any]], base: datetime = T0) -> None:
    """Replace what is there by one call of each kind."""
    async with store.writing() as connection:
        await connection.execute(delete(calls))
        await connection.execute(delete(agents))
    (told,) = some_calls(1)[:1]
    made = []
    for number, kind in enumerate(kinds):
        began = base + timedelta(seconds=kind["began_s"])
        said = {"status": kind["status"], "outcome": kind["outcome"], "duration_s": kind["duration_s"]}
        made.append(like(told, f"s{number}", **said, started_at=began))
    await put(store, made)


def by_hand(name: str, rows: list[dict[str, Any]]) -> Any:
    """The figure, from the calls that its link lists."""
    talks = [call["duration_s"] for call in rows]
    match name:
        case "talk_s":
            return sum(talks)
        case "average_handling_s":
            return round(sum(talks) / len(talks), 3) if talks else None
        case _:
            return len(rows)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kinds=st.lists(ENDED, max_size=12), query=GIVEN, include_inferred=st.booleans())
async def test_every_figure_is_what_its_rows_add_up_to(
    store: Store, tmp_path: Path, kinds: list[dict[str, Any]], query: str, *, include_inferred: bool
) -> None:
    await fill(store, kinds)
    async with client_of(store, tmp_path) as client:
        asked = f"{query}&include_inferred={str(include_inferred).lower()}"
        answer = (await client.get(f"/api/v1/figures?{asked.lstrip('&')}")).json()
        assert set(answer["figures"]) == {figure.name for figure in FIGURES}
        for name, link in answer["links"].items():
            rows = [] if link is None else (await client.get(link)).json()["calls"]
            if name == "inferred_share":
                everything = (await client.get(f"/api/v1/calls?{query}")).json()["calls"]
                closed = [call for call in everything if call["status"] != "open"]
                expected = round(len(rows) / len(closed), 6) if closed else None
            else:
                expected = by_hand(name, rows)
            assert answer["figures"][name] == expected, (name, link)


async def test_a_series_adds_up_to_the_figure_of_its_whole_span(store: Store, tmp_path: Path) -> None:
    await put(store, some_calls(4))
    async with client_of(store, tmp_path) as client:
        span = f"from={T0.isoformat()[:19]}Z&to={(T0 + timedelta(minutes=11)).isoformat()[:19]}Z"
        buckets = (await client.get(f"/api/v1/figures/series?bucket_s=90&{span}")).json()["buckets"]
        whole = (await client.get(f"/api/v1/figures?{span}")).json()
        assert whole["figures"]["calls"] > 0
        for name in ("calls", "open", "answered", "missed", "talk_s", "inferred_ends"):
            assert sum(bucket[name] for bucket in buckets) == whole["figures"][name], name
        assert [one["to"] for one in buckets[:-1]] == [one["from"] for one in buckets[1:]]
        for bucket in buckets:
            inside = await client.get(f"/api/v1/calls?from={bucket['from']}&to={bucket['to']}&limit=1000")
            assert len(inside.json()["calls"]) == bucket["calls"]


@pytest.mark.parametrize(("day", "hours"), [("2026-11-24", 24), ("2026-10-25", 25), ("2026-03-29", 23)])
async def test_a_days_series_is_from_midnight_to_midnight_of_the_pbx_and_holds_all_its_calls(
    store: Store, tmp_path: Path, day: str, hours: int
) -> None:
    kind = {"status": Status.ENDED, "outcome": Outcome.ANSWERED, "duration_s": 5}
    half_hours = [{**kind, "began_s": minute * 60} for minute in range(-24 * 60 + 15, 48 * 60, 30)]
    await fill(store, half_hours, datetime.fromisoformat(f"{day}T00:00Z"))
    async with client_of(store, tmp_path) as client:
        buckets = (await client.get(f"/api/v1/figures/series?day={day}")).json()["buckets"]
        figures = (await client.get(f"/api/v1/figures?day={day}")).json()["figures"]
        assert [bucket["calls"] for bucket in buckets] == [0, 1] * hours * 2
        assert figures["calls"] == hours * 2
        began, ended = (datetime.fromisoformat(one) for one in (buckets[0]["from"], buckets[-1]["to"]))
        zone = ZoneInfo("Europe/Zurich")
        assert began.astimezone(zone).isoformat()[:16] == f"{day}T00:00"
        assert ended.astimezone(zone).time() == time(0)
        noon = times.to_text(began + timedelta(hours=12))
        later = (await client.get(f"/api/v1/figures/series?day={day}&from={noon}")).json()["buckets"]
        assert (later[0]["from"], later[-1]["to"]) == (noon, buckets[-1]["to"])
        for edge in ("0001-01-01", "9999-12-31"):
            assert (await client.get(f"/api/v1/figures/series?day={edge}")).status_code == 200


async def test_the_histogram_holds_every_reported_duration_once(store: Store, tmp_path: Path) -> None:
    await put(store, some_calls(4))
    async with client_of(store, tmp_path) as client:
        answer = (await client.get("/api/v1/figures/durations")).json()
        rows = (await client.get("/api/v1/calls?has_duration=true&limit=1000")).json()["calls"]
        assert len(answer["counts"]) == len(answer["bounds_s"]) + 1
        assert sum(answer["counts"]) == len(rows) > 0
        assert answer["counts"][0] == len([call for call in rows if call["duration_s"] < answer["bounds_s"][0]])


def test_an_average_leaves_inferred_ends_out_unless_asked_for() -> None:
    tallies = [
        Tally("inbound", "answered", "ended", True, 2, 20),  # noqa: FBT003 - a tally's own field
        Tally("inbound", "answered", "end_missed", True, 1, 100),  # noqa: FBT003 - a tally's own field
    ]
    assert figures_of(tallies)["average_handling_s"] == 10
    assert figures_of(tallies, include_inferred=True)["average_handling_s"] == 40
    assert "inferred=false" in str(links_of({})["average_handling_s"])
    assert links_of({"outcome": "missed"})["answered"] is None, "no call is both"


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kinds=st.lists(ENDED, max_size=12))
async def test_api_event_stream_agents_and_prometheus_tell_the_same_numbers(
    store: Store, tmp_path: Path, kinds: list[dict[str, Any]]
) -> None:
    await fill(store, kinds, datetime.now(UTC).replace(microsecond=0))
    async with client_of(store, tmp_path) as client:
        (streamed,) = (await views_of(store).snapshot())["figures"]
        pbx, day = streamed.pop("pbx"), streamed.pop("day")
        answer = (await client.get(f"/api/v1/figures?pbx={pbx}&day={day}")).json()
        assert streamed == answer["figures"]
        scraped = (await client.get("/metrics")).text
        for name, value in answer["figures"].items():
            gauge = f'threecx_projections_today{{figure="{name}",pbx="{pbx}"}}'
            (line,) = [one for one in scraped.splitlines() if one.startswith(gauge)]
            assert float(line.split()[-1]) == pytest.approx(math.nan if value is None else value, nan_ok=True)
        told = (await client.get("/api/v1/agents")).json()["agents"]
        for name in ("calls", "open", "answered", "missed", "not_answered", "talk_s", "inferred_ends"):
            assert sum(agent["today"][name] for agent in told) == answer["figures"][name]
            assert (
                sum(one[name] for agent in told for one in agent["today"]["directions"].values())
                == (answer["figures"][name])
            )


async def test_without_its_database_a_scrape_says_all_else_and_no_old_figure(tmp_path: Path) -> None:
    """An operator needs the metrics most while the database is away."""
    with own_cluster() as cluster:
        store = await open_store(make_url(f"{cluster.url}/postgres"), "sessions")
        await fill(store, [{"status": Status.OPEN, "outcome": Outcome.UNKNOWN, "duration_s": None, "began_s": 0}])
        async with client_of(store, tmp_path) as client:
            assert "threecx_projections_database_up 1" in (await client.get("/metrics")).text
            cluster.kill()
            scraped = await client.get("/metrics")
            assert scraped.status_code == 200
            assert "threecx_projections_database_up 0" in scraped.text
            assert "threecx_projections_lag_records" in scraped.text
            for name in ("agents", "open_calls", "today"):
                assert f"threecx_projections_{name}{{" not in scraped.text
            cluster.start()
            again = (await client.get("/metrics")).text
            assert "threecx_projections_database_up 1" in again
            assert "threecx_projections_today{" in again
        await store.close()
