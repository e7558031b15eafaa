"""The views on both databases: equal to the fold of the sessions, whatever the order, the batches and the repeats."""

import random
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest
from sqlalchemy import event, select, text
from sqlalchemy.engine import make_url

from events.away import AwayError
from events.pbx import DEFAULT_PBX, Pbx
from events.session_events import FeedProgress
from events.settings import ConfigurationError
from projections.agent_status import Agent, AgentFacts, AgentState, Moment, OpenCall, Today, agent_of
from projections.call_log import Told, folded, row_of, told_in
from projections.facts import AgentKey, Asked, agent_facts
from projections.feeds import FeedReason, Feeds
from projections.figures import Tally
from projections.filters import CallFilter, by_side
from projections.folding import Advance, Position, Rows, agent_rows, revision_rows
from projections.settings import ProjectionsSettings
from projections.store import ForeignWriterError, Store, open_store
from projections.tables import agents, calls, revisions
from projections.views import Views
from tests.builders import T0, Log, X, Y, at, end, run, start
from tests.plans import analyzed, plans_of, scans

ZONES = {DEFAULT_PBX: ZoneInfo("Europe/Zurich")}
OpenStore = Callable[[], Awaitable[Store]]


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
    return [told_in(0, event.model_dump_json().encode()) for event in out.events]


def like(told: Told, session_id: str, revision: int = 1, **said: Any) -> Told:
    """The call again under another id, with these JSON values in its session."""
    key = {"session_id": session_id, "revision": revision}
    return told_in(0, orjson.dumps({**told.event, **key, "session": {**told.session, **key, **said}}))


async def put(store: Store, told: list[Told]) -> None:
    """One batch, as the projector writes it."""
    rows = [row_of(one, ZONES, ZONES[DEFAULT_PBX]) for one in folded(told).values()]
    async with store.writing() as connection:
        await store.put(connection, store.given(Rows(rows, revision_rows(told), agent_rows(rows))), ())


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
        rows = Rows([row_of(one, ZONES, ZONES[DEFAULT_PBX]) for one in folded(told).values()], (), ())
        await store.put(connection, store.given(rows), [Advance(0, 0, Position(5, T0))])
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


async def test_a_snapshot_has_the_last_calls_of_each_pbx_however_busy_another_one_is(store: Store) -> None:
    (told,) = [one for one in some_calls(1) if one.session["status"] == "ended"][:1]
    received = "2026-11-24T09:{:02}:{:02}.000000Z"
    busy = [
        like(told, f"busy-{n:03}", pbx="busy", first_received_at=received.format(n // 60, n % 60)) for n in range(200)
    ]
    await put(store, [*busy, like(told, "alone", pbx="calm", first_received_at="2026-11-24T08:00:00.000000Z")])
    await analyzed(store)
    with plans_of(store) as plans:
        snapshot = await views_of(store).snapshot()
    found = sorted(call["session_id"] for call in snapshot["calls"])
    assert found == ["alone", *(f"busy-{n:03}" for n in range(150, 200))]
    assert [plan for plan in scans(plans) if "first_received_at" in plan] == []


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
    linked = [one for one in folded(told).values() if one.session["linked_session_id"]]
    assert linked
    for one in linked:
        session_id, other = one.session["session_id"], one.session["linked_session_id"]
        async with store.reading() as connection:
            legs = await views_of(store).legs(connection, session_id)
            others = await views_of(store).legs(connection, other)
        assert other in legs
        assert session_id in others


def shown(facts: AgentFacts, moment: Moment) -> Agent:
    """The agent, as its shape has it."""
    values = agent_of(facts, moment)
    assert list(values) == list(Agent.model_fields)
    assert set(values["today"]) == set(Today.model_fields)
    return Agent.model_validate(values)


async def test_agents_are_on_a_call_as_long_as_one_is_open(store: Store) -> None:
    log = Log().webhook(1, start(t=0)).webhook(2, start(party=Y, t=1)).webhook(30, end(t=29, duration=28))
    told = [told_in(0, event.model_dump_json().encode()) for event in run(log.records).events]
    await put(store, told)
    async with store.reading() as connection:
        ((facts, partition),) = await agent_facts(
            connection, lambda _: Asked(day=T0.date().isoformat(), lately_from=T0), None
        )
    agent = shown(facts, Moment(at(31), "2026-11-24", at(31)))
    assert (agent.status, len(agent.calls), agent.since, partition) == (AgentState.ON_CALL, 1, at(1), 0)
    assert (agent.today.calls, agent.today.answered, agent.today.talk_s) == (2, 1, 28)


async def test_agents_of_all_pbxs_take_one_set_of_queries_a_day_and_come_in_order(store: Store) -> None:
    days = {"a": "2026-11-24", "b": "2026-11-25", "c": "2026-11-24"}

    async def agents_of(keys: list[AgentKey] | None, lately_s: float) -> list[Any]:
        facts = await agent_facts(connection, lambda pbx: Asked(day=days[pbx], lately_from=at(lately_s)), keys)
        return [agent_of(one, Moment(at(0), days[one.pbx], at(0))) for one, _ in facts]

    told = [one for seed in (4, 5) for one in some_calls(seed)]
    await put(store, [like(one, f"{pbx}{one.key[0]}", one.key[1], pbx=pbx) for pbx in "cab" for one in told])
    statements: list[str] = []
    async with store.reading() as connection:
        event.listen(store.engine.sync_engine, "before_cursor_execute", lambda *said: statements.append(said[2]))
        found = await agents_of(None, 0)
        assert sum(said.startswith("SELECT") for said in statements) == 7, (
            "the PBXs; agents, open calls and tallies of either day"
        )
        for lately_s in (0, 400, 10_000):  # most, some, no calls are of late
            alone = [await agents_of([(pbx, str(number)) for number in range(201, 204)], lately_s) for pbx in "abc"]
            assert found == [agent for some in alone for agent in some]
    assert {agent["today"]["calls"] > 0 for agent in found if agent["pbx"] != "b"} == {True}


def test_while_the_feed_is_silent_nobody_knows_and_why_is_said() -> None:
    facts = AgentFacts("default", "201", None, None, None, None, [OpenCall("s", at(0))], list[Tally]())
    agent = shown(facts, Moment(at(40), "d", at(5), FeedReason.NO_PROGRESS))
    assert (agent.status, agent.reason, agent.since) == (AgentState.UNKNOWN, FeedReason.NO_PROGRESS, at(5))
    agent = shown(facts, Moment(at(40), "d", at(40)))
    assert (agent.status, agent.reason, agent.since) == (AgentState.ON_CALL, None, at(0))


@pytest.mark.parametrize(
    ("now_s", "wrap_up_s", "status", "since_s"),
    [(61, 0, "available", 60), (61, 20, "wrap_up", 60), (79.9, 20, "wrap_up", 60), (80, 20, "available", 80)],
)
async def test_wrap_up_follows_an_answered_call_where_it_is_set(
    store: Store, now_s: float, wrap_up_s: float, status: str, since_s: float
) -> None:
    log = Log().webhook(1, start(t=0)).webhook(60, end(t=60, duration=50))
    log.webhook(1, start("202", Y, t=0)).ticks_until(62)
    log.webhook(63, end("202", Y, t=60, duration=None, direction="Missed"))
    await put(store, [told_in(0, event.model_dump_json().encode()) for event in run(log.records).events])
    asked = Asked(day="2026-11-24", lately_from=at(0), ended_from=at(now_s - wrap_up_s), ended_to=at(now_s + wrap_up_s))
    async with store.reading() as connection:
        facts = await agent_facts(connection, lambda _: asked, None)
    one, other = (shown(each, Moment(at(now_s), "2026-11-24", at(now_s), None, wrap_up_s)) for each, _ in facts)
    assert (one.status, one.since) == (status, at(since_s))
    assert one.wrap_up_until == (at(60 + wrap_up_s) if status == "wrap_up" else None)
    assert other.status is AgentState.AVAILABLE, "nobody took that call"


def progress(seconds: float) -> FeedProgress:
    return FeedProgress(
        id="p", time=at(seconds), live_time_us=0, stream_time=at(seconds), received_at={DEFAULT_PBX: at(seconds)}
    )


def test_nobody_knows_before_anything_came_after_a_while_and_in_a_backlog() -> None:
    feeds = Feeds(30, 1)
    assert feeds.unknown_because(0, at(0), 0) is FeedReason.NOT_HEARD
    feeds.known(0, at(0))
    assert feeds.unknown_because(0, at(1), 1) is FeedReason.NOT_HEARD, "what the database says is not progress"
    feeds.heard(0, progress(1), at(1), 1)
    assert feeds.unknown(at(30), 30) == []
    assert feeds.unknown(at(32), 32) == [0]
    assert feeds.unknown_because(0, at(2), 32) is FeedReason.NO_PROGRESS, "the wall clock was set back"
    assert feeds.unknown_because(0, at(1) + timedelta(seconds=31), 2) is FeedReason.BEHIND, "it tells of long ago"


def test_a_feed_is_live_quiet_lagging_or_silent_each_with_its_reason_and_since_when() -> None:
    feeds = Feeds(30, 1, lagging_s=10, quiet_s=100)

    def seen(now_s: float) -> tuple[str, str | None, datetime | None]:
        (feed,) = feeds.of_pbxs([DEFAULT_PBX], at(now_s), now_s)
        return feed.status, feed.reason, feed.since

    def hear(stream_s: float, webhook_s: float, now_s: float) -> None:
        said = {"stream_time": at(stream_s), "received_at": {DEFAULT_PBX: at(webhook_s)}}
        feeds.heard(0, progress(0).model_copy(update=said), at(now_s), now_s)

    assert seen(0) == ("silent", "not_heard", None)
    hear(1, 0, 1)
    assert seen(2) == ("live", None, at(1))
    hear(100, 0, 31)
    hear(101, 0, 32)
    assert seen(32) == ("quiet", "no_webhook", at(0))
    hear(121, 120, 60)
    assert seen(60) == ("live", None, at(120)), "since the webhook that ended the quiet"
    assert seen(91) == ("silent", "no_progress", at(121)), "since what is known ends"
    hear(75, 120, 92)
    assert seen(92) == ("lagging", "behind", at(92))
    hear(80, 120, 93)
    assert seen(93) == ("lagging", "behind", at(92)), "it lags on"
    hear(93, 120, 94)
    assert seen(94)[:2] == ("live", None)


def test_each_pbx_is_quiet_after_its_own_time() -> None:
    feeds = Feeds(30, 1, quiet_s=100, quiet_s_of={"night": 1000})
    said = {"stream_time": at(200), "received_at": {DEFAULT_PBX: at(0), "night": at(0)}}
    feeds.heard(0, progress(0).model_copy(update=said), at(200), 0)
    assert [feed.status for feed in feeds.of_pbxs([], at(200), 0)] == ["quiet", "live"]


def test_the_highest_revision_wins_in_any_order() -> None:
    told = some_calls(5)
    last = {one.event["session_id"]: one.event for one in told}
    for seed in range(20):
        shuffled = random.Random(seed).sample(told, len(told)) + told[:5]
        assert {sid: one.event for sid, one in folded(shuffled).items()} == last


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("postgresql://nobody@127.0.0.1:1/none", "nobody:***@127.0.0.1:1/none cannot be reached"),
        ("mysql://x/y", "is not supported"),
        ("nonsense", "not a database URL"),
    ],
)
async def test_a_database_that_cannot_be_used_is_one_sentence_without_the_password(url: str, complaint: str) -> None:
    settings = ProjectionsSettings(projections_database_url=url.replace("nobody@", "nobody:canary@"))
    with pytest.raises((ConfigurationError, AwayError)) as raised:
        await open_store(settings.database_url, "sessions")
    assert complaint in str(raised.value)
    assert "canary" not in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (CallFilter(), "calls_newest_first"),
        (CallFilter(status="open"), "calls_open (status=?)"),
        (CallFilter(pbx="default"), "calls_of_pbx_newest_first (pbx=?)"),
        (CallFilter(pbx="default", agent="201"), "calls_of_agent_newest_first (pbx=? AND extension=?)"),
        (CallFilter(number=X), "calls_of_caller_newest_first (caller_key=?)"),
    ],
)
async def test_a_page_is_read_in_the_order_of_an_index(tmp_path: Path, wanted: CallFilter, index: str) -> None:
    store = await open_store(make_url(f"sqlite+aiosqlite:///{tmp_path}/views.sqlite"), "sessions")
    async with store.reading() as connection:
        page = views_of(store).matching(by_side(wanted)[0]).limit(101)
        query = page.compile(connection.sync_connection, compile_kwargs={"literal_binds": True})
        plan = [row.detail for row in await connection.execute(text(f"explain query plan {query}"))]
    await store.close()
    assert plan in ([f"SEARCH calls USING INDEX {index}"], [f"SCAN calls USING INDEX {index}"])
