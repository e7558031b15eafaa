"""The views on both databases: equal to the fold of the sessions, whatever the order, the batches and the repeats."""

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select
from sqlalchemy.engine import make_url

from events.pbx import DEFAULT_PBX, Pbx
from events.session_events import CallEvent, FeedProgress
from events.settings import ConfigurationError
from projections.agent_status import AgentFacts, AgentState, OpenCall, agent_of
from projections.call_log import Told, folded, row_of
from projections.feeds import Feeds
from projections.figures import Tally
from projections.filters import CallFilter
from projections.projector import _agent_rows, _revision_rows
from projections.settings import ProjectionsSettings
from projections.store import Advance, ForeignWriterError, Position, Store, open_store
from projections.tables import agents, calls, revisions
from projections.views import Views
from tests.builders import T0, Log, X, Y, at, end, run, start

ZONES = {DEFAULT_PBX: ZoneInfo("Europe/Zurich")}
OpenStore = Callable[[], Awaitable[Store]]


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    """An empty store, once on each database."""
    opened = await open_store(make_url(database_url), "sessions")
    yield opened
    await opened.close()


def some_calls(seed: int) -> list[Told]:
    """What the processors say about a seeded hour: calls, corrections, inferred ends."""
    rng = random.Random(seed)
    log = Log()
    for number in range(30):
        agent, party = str(rng.choice([201, 202, 203])), rng.choice([X, Y, "anonymous"])
        log.webhook(number * 20 + 1, start(agent, party, t=number * 20, agentMail=rng.choice([None, f"{agent}@x.ch"])))
        if rng.random() < 0.8:
            log.webhook(number * 20 + 11, end(agent, party, t=number * 20 + 10, duration=8, callId=str(number)))
        if rng.random() < 0.3:
            log.webhook(
                number * 20 + 15, end(agent, party, t=number * 20 + 10, duration=8, callId=str(number), wav="w")
            )
    out = run(log.records)
    return [Told(0, event, event.model_dump_json().encode()) for event in out.events]


async def put(store: Store, told: list[Told]) -> None:
    """One batch, as the projector writes it."""
    rows = [row_of(one, ZONES, ZONES[DEFAULT_PBX]) for one in folded(told).values()]
    async with store.writing() as connection:
        await store.put_calls(connection, rows)
        await store.put_revisions(connection, _revision_rows(told))
        await store.put_agents(connection, _agent_rows(rows))


async def tables(store: Store) -> list[list[Any]]:
    async with store.reading() as connection:
        return [
            sorted(map(tuple, (await connection.execute(select(table))).all())) for table in (calls, revisions, agents)
        ]


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_any_batches_and_any_repeats_fold_to_the_same_tables(store: Store, seed: int) -> None:
    told = some_calls(seed)
    await put(store, told)
    at_once = await tables(store)
    rng = random.Random(seed)
    for _ in range(5):
        first = rng.randrange(len(told))
        await put(store, told[first : first + rng.randrange(1, 9)])
    assert await tables(store) == at_once, "a repeat changes nothing"


async def test_batches_of_one_in_any_order_equal_one_batch(store: Store, tmp_path: Path) -> None:
    told = some_calls(7)
    shuffled = random.Random(7).sample(told, len(told))
    for one in shuffled:
        await put(store, [one])
    other = await open_store(make_url(f"sqlite+aiosqlite:///{tmp_path}/other.sqlite"), "sessions")
    await put(other, told)
    assert await tables(store) == await tables(other)
    await other.close()


async def test_rows_and_offset_move_together_or_not_at_all(store: Store) -> None:
    told = some_calls(1)
    with pytest.raises(RuntimeError):
        await _commit_and_fail(store, told)
    assert await tables(store) == [[], [], []]
    assert await store.positions() == {}


async def _commit_and_fail(store: Store, told: list[Told]) -> None:
    async with store.writing() as connection:
        await store.put_calls(connection, [row_of(one, ZONES, ZONES[DEFAULT_PBX]) for one in folded(told).values()])
        await store.advance(connection, [Advance(0, 0, Position(5, T0))])
        raise RuntimeError


async def test_a_second_writer_is_told_by_the_offset(store: Store) -> None:
    async with store.writing() as connection:
        await store.advance(connection, [Advance(0, 0, Position(5, T0)), Advance(1, 0, Position(2, None))])
    assert await store.positions() == {0: Position(5, T0), 1: Position(2, None)}
    for stale in (Advance(0, 0, Position(6, T0)), Advance(0, 4, Position(6, T0)), Advance(2, 7, Position(8, T0))):
        with pytest.raises(ForeignWriterError, match="another writer"):
            await _advance(store, stale)
    await _advance(store, Advance(0, 5, Position(6, T0)))


async def _advance(store: Store, step: Advance) -> None:
    async with store.writing() as connection:
        await store.advance(connection, [step])


def views_of(store: Store) -> Views:
    return Views(store, Feeds(30, 1), {DEFAULT_PBX: Pbx(timezone="Europe/Zurich", country="CH")})


async def test_pages_are_newest_first_and_never_shift(store: Store) -> None:
    told = some_calls(3)
    await put(store, told)
    views = views_of(store)
    async with store.reading() as connection:
        whole, _ = await views.calls(connection, CallFilter(), 1000)
        paged, cursor = await views.calls(connection, CallFilter(), 7)
        while cursor is not None:
            page, cursor = await views.calls(connection, CallFilter(), 7, cursor)
            paged += page
    assert paged == whole
    order = [(call["first_received_at"], call["session_id"]) for call in whole]
    assert order == sorted(order, reverse=True)


async def test_every_filter_gives_exactly_the_calls_that_have_it(store: Store) -> None:
    await put(store, some_calls(4))
    views = views_of(store)
    async with store.reading() as connection:
        whole, _ = await views.calls(connection, CallFilter(), 1000)
        for name, key in (("direction", "direction"), ("status", "status"), ("outcome", "outcome"), ("pbx", "pbx")):
            for value in {call[key] for call in whole}:
                found, _ = await views.calls(connection, CallFilter(**{name: value}), 1000)
                assert found == [call for call in whole if call[key] == value]
        found, _ = await views.calls(connection, CallFilter(agent="202"), 1000)
        assert found == [call for call in whole if call["agent"]["extension"] == "202"]
        for spelling in (X, "0041 22 555 12 34", "022 555 12 34", "5551234"):
            found, _ = await views.calls(connection, CallFilter(number=spelling), 1000)
            assert found == [call for call in whole if call["caller"] == X], spelling
        found, _ = await views.calls(connection, CallFilter(began_from=at(100), began_to=at(300)), 1000)
        assert len(found) == 10


async def test_the_legs_of_a_call_are_found_from_either(store: Store) -> None:
    told = some_calls(3)
    await put(store, told)
    linked = [one for one in folded(told).values() if one.event.session.linked_session_id]
    assert linked
    for one in linked:
        session = one.event.session
        async with store.reading() as connection:
            legs = await views_of(store).legs(connection, session.session_id)
            others = await views_of(store).legs(connection, session.linked_session_id or "")
        assert session.linked_session_id in legs
        assert session.session_id in others


async def test_agents_are_on_a_call_as_long_as_one_is_open(store: Store) -> None:
    log = Log().webhook(1, start(t=0)).webhook(2, start(party=Y, t=1)).webhook(30, end(t=29, duration=28))
    told = [Told(0, event, event.model_dump_json().encode()) for event in run(log.records).events]
    await put(store, told)
    async with store.reading() as connection:
        ((facts, partition),) = await store.agent_facts(connection, {}, T0.date().isoformat(), None)
    agent = agent_of(facts, "2026-11-24", at(31), silent=False)
    assert (agent.status, len(agent.calls), agent.since, partition) == (AgentState.ON_CALL, 1, at(1), 0)
    assert (agent.today.calls, agent.today.answered, agent.today.talk_s) == (2, 1, 28)


def test_while_the_feed_is_silent_nobody_knows() -> None:
    facts = AgentFacts("default", "201", None, None, None, [OpenCall("s", at(0))], list[Tally]())
    assert agent_of(facts, "d", at(5), silent=True).status is AgentState.UNKNOWN
    assert agent_of(facts, "d", at(5), silent=False).status is AgentState.ON_CALL


def progress(seconds: float) -> FeedProgress:
    return FeedProgress(
        id="p", time=at(seconds), live_time_us=0, stream_time=at(seconds), received_at={DEFAULT_PBX: at(seconds)}
    )


def test_a_feed_is_silent_before_anything_came_after_a_while_and_in_a_backlog() -> None:
    feeds = Feeds(30, 1)
    assert feeds.is_silent(0, at(0), 0)
    feeds.known(0, at(0))
    assert feeds.is_silent(0, at(1), 1), "what the database says is not progress"
    feeds.heard(0, progress(1), 1)
    assert not feeds.is_silent(0, at(30), 30)
    assert feeds.is_silent(0, at(32), 32)
    assert feeds.is_silent(0, at(2), 32), "the wall clock was set back, and still nothing came"
    assert feeds.is_silent(0, at(1) + timedelta(seconds=31), 2), "it came now, but tells of long ago"
    (feed,) = feeds.of_pbxs([DEFAULT_PBX], at(5), 5)
    assert (feed.status, feed.as_of, feed.last_webhook_at) == ("live", at(1), at(1))


def test_the_highest_revision_wins_in_any_order() -> None:
    told = some_calls(5)
    last: dict[str, CallEvent] = {one.event.session_id: one.event for one in told}
    for seed in range(20):
        shuffled = random.Random(seed).sample(told, len(told)) + told[:5]
        assert {sid: one.event for sid, one in folded(shuffled).items()} == last


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("postgresql://nobody@127.0.0.1:1/none", "PROJECTIONS_DATABASE_URL: postgresql"),
        ("mysql://x/y", "is not supported"),
        ("nonsense", "not a database URL"),
    ],
)
async def test_a_database_that_cannot_be_used_is_one_sentence_without_the_password(url: str, complaint: str) -> None:
    settings = ProjectionsSettings(projections_database_url=url.replace("nobody@", "nobody:canary@"))
    with pytest.raises(ConfigurationError) as raised:
        await open_store(settings.database_url, "sessions")
    assert complaint in str(raised.value)
    assert "canary" not in str(raised.value)
    assert "\n" not in str(raised.value)
