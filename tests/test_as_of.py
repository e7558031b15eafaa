"""`as_of`: on both databases the view as it was known then equals the fold of only the events known by then."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete
from sqlalchemy.engine import make_url

from events import session_events, times
from events.metrics import Metrics
from events.pbx import DEFAULT_PBX, Pbx
from events.session_events import FeedProgress
from processors.rules import Rules
from projections import sources
from projections.agent_status import agent_of
from projections.api import Api, application
from projections.call_log import Told, told_in
from projections.facts import agent_facts
from projections.feeds import Feeds
from projections.folding import Advance, Position
from projections.settings import ProjectionsSettings
from projections.store import Store, open_store
from projections.stream import Stream
from projections.tables import agents, calls, offsets, revisions
from projections.views import Views
from tests.builders import Log, X, Y, at, end, new_task, run, start
from tests.test_views import put

END_S = 1_500
PBXS = {DEFAULT_PBX: Pbx(timezone="Europe/Zurich", country="CH", wrap_up_s=15)}
QUERIES = (
    "",
    "status=open",
    "outcome=answered",
    "agent=202",
    "day=2026-11-24",
    "inferred=true&limit=3",
    "number=5551234",
)


@cache
def told_calls(seed: int) -> list[Told]:
    """A busy quarter of an hour with inferred ends by time-out and late true ends; each event knows its feed's time."""
    rng = random.Random(seed)
    webhooks: list[tuple[float, dict[str, Any]]] = []
    for number in range(24):
        begun = rng.uniform(0, 900)
        agent, party = str(rng.choice([201, 202, 203])), rng.choice([X, Y, "anonymous", f"+412255500{number:02}"])
        mail = rng.choice([None, f"{agent}@x.ch", f"{number}@x.ch"])
        webhooks.append((begun + 1, start(agent, party, t=begun, agentMail=mail)))
        ended = begun + rng.uniform(5, 120)
        late_s = rng.choice([0.5, 2, 30, 400])
        if rng.random() < 0.9:
            more: dict[str, Any] = {"callId": str(number), "duration": int(ended - begun)}
            webhooks.append((ended + late_s, end(agent, party, t=ended, **more)))
            if rng.random() < 0.4:
                webhooks.append((ended + late_s + 20, end(agent, party, t=ended, wav="w", **more)))
    log = Log()
    for received_s, body in sorted(webhooks, key=lambda one: one[0]):
        log.webhook(received_s, body)
    log.ticks_until(END_S)
    rules = Rules(call_duration_max_s=200, superseded_grace_s=40)
    told: list[Told] = []
    feed_at: datetime | None = None
    for batch in run(log.records, new_task(rules)).batches:
        for out in batch.session_events:
            event = session_events.decode(out.value or b"")
            if isinstance(event, FeedProgress):
                feed_at = event.stream_time
            else:
                told.append(told_in(0, out.value or b"", feed_at))
    return told


async def fill(store: Store, told: list[Told]) -> None:
    """Nothing but these events, and a feed that is known up to the end."""
    async with store.writing() as connection:
        for table in (calls, revisions, agents, offsets):
            await connection.execute(delete(table))
        await store.advance(connection, [Advance(0, 0, Position(len(told), at(END_S)))])
    await put(store, told)


@asynccontextmanager
async def client_of(store: Store, tmp_path: Path) -> AsyncIterator[tuple[httpx.AsyncClient, Views]]:
    metrics = Metrics("projections")
    feeds = Feeds(30, 1)
    feeds.known(0, at(END_S))
    views = Views(store, feeds, PBXS)
    settings_ = ProjectionsSettings(data_dir=tmp_path)
    app = application(Api(settings_, views, Stream("life", metrics, 10, 10, 10, 100_000), metrics), metrics)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client:
        yield client, views


@pytest.fixture
async def other(tmp_path: Path) -> AsyncIterator[Store]:
    """Another store, for what is compared."""
    opened = await open_store(make_url(f"sqlite+aiosqlite:///{tmp_path}/other.sqlite"), "sessions")
    yield opened
    await opened.close()


async def agents_at(views: Views, moment: datetime, *, known_then: bool) -> list[Any]:
    """The agents at that moment: of what was known then, or of everything in the store."""
    async with views.store.reading() as connection:
        if known_then:
            return await views.agents_then(connection, moment)
        facts = await agent_facts(connection, lambda pbx: views._asked(moment, pbx), None)
        return [agent_of(one, views._moment_then(one.pbx, partition, moment)) for one, partition in facts]


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 3), asked_s=st.integers(0, END_S), query=st.sampled_from(QUERIES))
async def test_as_of_equals_the_fold_of_only_what_was_known_then(
    store: Store, other: Store, tmp_path: Path, seed: int, asked_s: int, query: str
) -> None:
    told, moment = told_calls(seed), at(asked_s)
    await fill(store, told)
    await fill(other, [one for one in told if one.known_at <= moment])
    then = f"&as_of={times.to_text(moment)}"
    async with client_of(store, tmp_path) as (client, views), client_of(other, tmp_path) as (known, known_views):
        wanted = (await known.get(f"/api/v1/calls?{query}")).json()
        found = (await client.get(f"/api/v1/calls?{query}{then}")).json()
        assert found["calls"] == wanted["calls"]
        assert found["next_cursor"] == wanted["next_cursor"]
        assert found["as_of"] == times.to_text(moment)
        for call in wanted["calls"][:3]:
            one = (await client.get(f"/api/v1/calls/{call['session_id']}?{then[1:]}")).json()
            assert one == call
        counted = query.partition("&limit")[0]
        for path in ("/api/v1/figures", "/api/v1/figures/durations", "/api/v1/calls.ndjson"):
            here, there = await client.get(f"{path}?{counted}{then}"), await known.get(f"{path}?{counted}")
            assert without_stamp(here) == without_stamp(there), path
        assert await agents_at(views, moment, known_then=True) == await agents_at(known_views, moment, known_then=False)


def without_stamp(answer: httpx.Response) -> Any:
    """What is told of the calls: not up to when, nor where."""
    assert answer.status_code == httpx.codes.OK, answer.text
    if answer.headers["content-type"] != "application/json":
        return answer.text
    return {name: value for name, value in answer.json().items() if name not in {"as_of", "position", "links"}}


async def test_a_figure_of_then_links_to_its_calls_of_then(store: Store, tmp_path: Path) -> None:
    await fill(store, told_calls(5))
    async with client_of(store, tmp_path) as (client, _):
        for asked_s in range(0, 1_200, 240):
            answer = (await client.get(f"/api/v1/figures?as_of={times.to_text(at(asked_s))}")).json()
            for name in ("calls", "open", "answered", "missed", "inferred_ends"):
                rows = (await client.get(answer["links"][name] + "&limit=1000")).json()["calls"]
                assert len(rows) == answer["figures"][name]


async def test_where_too_much_changed_since_the_answer_is_a_refusal(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(store, told_calls(3))
    monkeypatch.setattr(sources, "CHANGED_MAX", 1)
    async with client_of(store, tmp_path) as (client, _):
        for path in ("/api/v1/calls", "/api/v1/agents", "/api/v1/figures", "/api/v1/calls.csv"):
            answer = await client.get(f"{path}?as_of={times.to_text(at(500))}")
            assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")


async def test_what_is_to_come_is_asked_as_of_now(store: Store, tmp_path: Path) -> None:
    await fill(store, told_calls(3))
    async with client_of(store, tmp_path) as (client, _):
        later = (await client.get("/api/v1/calls?as_of=9000-01-01T00:00:00Z")).json()
        assert later["calls"] == (await client.get("/api/v1/calls")).json()["calls"]
