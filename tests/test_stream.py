"""The event stream: snapshot and changes in their documented shapes, resuming, and clients that do not read."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from events.metrics import Metrics
from events.pbx import DEFAULT_PBX, Pbx
from events.serving import listen, serving
from events.session_events import FeedProgress
from projections import app, streaming
from projections import stream as streams
from projections.access import MASKED
from projections.api import Api, application
from projections.feeds import Feeds
from projections.openapi import StreamChange, StreamSnapshot
from projections.settings import ProjectionsSettings
from projections.store import Store, open_store
from projections.stream import Stream, TooManyClientsError
from projections.views import FIGURES_SHARE, Views
from tests.builders import X, zulu
from tests.test_views import like, put, some_calls
from tests.waiting import eventually

QUEUE_MAX = 5
HISTORY_MAX = 20


def stream_of(metrics: Metrics | None = None, clients_max: int = 2, bytes_max: int = 100_000_000) -> Stream:
    return Stream("life", metrics or Metrics("projections"), clients_max, QUEUE_MAX, HISTORY_MAX, bytes_max)


async def picture() -> dict[str, Any]:
    return {"calls": [{"caller": X}]}


def parsed(part: bytes) -> list[tuple[str, str, Any]]:
    """Id, event and data of each message in what was sent at once."""
    texts = [text for text in part.decode().split("\n\n") if text.startswith("id:")]
    lines = [dict(line.split(": ", 1) for line in text.split("\n")) for text in texts]
    return [(one["id"], one["event"], json.loads(one["data"])) for one in lines]


async def told(messages: AsyncIterator[bytes], count: int) -> list[tuple[str, str, Any]]:
    """The next messages, that many."""
    found: list[tuple[str, str, Any]] = []
    while len(found) < count:
        found += parsed(await asyncio.wait_for(anext(messages), 5))
    assert len(found) == count
    return found


async def test_a_client_gets_a_snapshot_then_every_change_and_resumes_without_a_gap() -> None:
    stream = stream_of()
    messages = await stream.subscribe(None, picture)
    stream.publish("change", {"n": 1})
    stream.publish("change", {"n": 2})
    assert [(name, data.get("n")) for _, name, data in await told(messages, 3)] == [
        ("snapshot", None), ("change", 1), ("change", 2),
    ]  # fmt: skip
    await messages.aclose()
    stream.publish("change", {"n": 3})
    again = await stream.subscribe("life-1", picture)
    assert [data["n"] for _, _, data in await told(again, 2)] == [2, 3]


@pytest.mark.parametrize("last", ["other-1", "life-99", "life-x", "life-0", "", "\u00e9", "life-" + "9" * 5_000])
async def test_who_cannot_be_told_what_was_missed_gets_a_new_snapshot(last: str) -> None:
    stream = stream_of()
    for number in range(HISTORY_MAX + 5):
        stream.publish("change", {"n": number})
    ((identity, name, _),) = await told(await stream.subscribe(last, picture), 1)
    assert (identity, name) == (f"life-{HISTORY_MAX + 5}", "snapshot")


async def test_a_slow_client_is_dropped_at_its_limit_and_others_go_on() -> None:
    metrics = Metrics("projections")
    stream = stream_of(metrics)
    slow, quick = await stream.subscribe(None, picture), await stream.subscribe(None, picture)
    await told(slow, 1)
    await told(quick, 1)
    for number in range(QUEUE_MAX + 3):
        stream.publish("change", {"n": number})
        await told(quick, 1)
    async with asyncio.timeout(10):
        held = [data["n"] async for data in changes(slow)]
    assert held == list(range(QUEUE_MAX)), "what waited is sent, then the stream ends"
    assert metrics.counter("stream_clients_dropped_total")._value.get() == 1
    assert [data["n"] for _, _, data in await told(await stream.subscribe("life-5", picture), 3)] == [5, 6, 7]


async def test_messages_are_kept_up_to_so_many_bytes_and_who_missed_more_gets_a_new_snapshot() -> None:
    metrics = Metrics("projections")
    stream = stream_of(metrics, bytes_max=5_000)
    for number in range(QUEUE_MAX + 2):
        stream.publish("change", {"n": number, "filling": "x" * 1_000})
    kept = metrics.registry.get_sample_value("threecx_projections_stream_bytes")
    assert kept is not None
    assert 4_000 < kept <= 5_000
    assert metrics.registry.get_sample_value("threecx_projections_stream_bytes_limit") == 5_000
    resumed = await stream.subscribe(f"life-{QUEUE_MAX + 2 - 4}", picture)
    assert [data["n"] for _, _, data in await told(resumed, 4)] == [3, 4, 5, 6]
    ((_, name, _),) = await told(await stream.subscribe(f"life-{QUEUE_MAX + 2 - 5}", picture), 1)
    assert name == "snapshot"


@pytest.mark.parametrize("count", [3, QUEUE_MAX + 3])  # fewer than may wait for a client, and more
async def test_who_has_yet_to_take_what_is_let_go_of_for_its_bytes_is_dropped_without_a_gap(count: int) -> None:
    metrics = Metrics("projections")
    stream = stream_of(metrics, bytes_max=2_500)
    slow, quick = await stream.subscribe(None, picture), await stream.subscribe(None, picture)
    await told(slow, 1)
    await told(quick, 1)
    for number in range(count):
        stream.publish("change", {"n": number, "filling": "x" * 1_000})
        assert [data["n"] for _, _, data in await told(quick, 1)] == [number]
    async with asyncio.timeout(10):
        assert [data["n"] async for data in changes(slow)] == []
    assert metrics.counter("stream_clients_dropped_total")._value.get() == 1
    ((_, name, _),) = await told(await stream.subscribe("life-0", picture), 1)
    assert name == "snapshot"


def kept_bytes(metrics: Metrics) -> float:
    return metrics.registry.get_sample_value("threecx_projections_stream_bytes") or 0


async def test_what_a_masked_client_is_sent_counts_towards_the_bytes_that_are_kept() -> None:
    metrics = Metrics("projections")
    stream = stream_of(metrics, bytes_max=5_000)
    masked = await stream.subscribe(None, picture, MASKED)
    await told(masked, 1)
    for number in range(4):
        stream.publish("change", {"n": number, "filling": "x" * 1_000})
    assert 4_000 < kept_bytes(metrics) <= 5_000
    assert [data["n"] for _, _, data in await told(masked, 4)] == [0, 1, 2, 3]
    assert 4_000 < kept_bytes(metrics) <= 5_000
    ((_, name, _),) = await told(await stream.subscribe("life-1", picture), 1)
    assert name == "snapshot", "there was room for two of them, in both forms"


@pytest.mark.parametrize("bytes_max", [7_000, 100_000_000])
async def test_who_resumes_and_does_not_read_is_sent_away_when_that_is_let_go_of(bytes_max: int) -> None:
    """For its bytes, or as there are too many: otherwise it would hold all of it, beside what is kept."""
    metrics = Metrics("projections")
    stream = stream_of(metrics, bytes_max=bytes_max)
    for number in range(QUEUE_MAX + 1):
        stream.publish("change", {"n": number, "filling": "x" * 1_000})
    slow, quick = await stream.subscribe("life-0", picture), await stream.subscribe(None, picture)
    await told(quick, 1)
    for number in range(QUEUE_MAX + 1, HISTORY_MAX + 1):
        stream.publish("change", {"n": number, "filling": "x" * 1_000})
        await told(quick, 1)
    async with asyncio.timeout(10):
        assert [data["n"] async for data in changes(slow)] == []
    assert metrics.counter("stream_clients_dropped_total")._value.get() == 1
    ((_, name, _),) = await told(await stream.subscribe("life-0", picture), 1)
    assert name == "snapshot"


async def test_what_others_are_woken_for_while_a_client_is_written_to_waits_for_no_later_change() -> None:
    stream = stream_of()
    messages = await stream.subscribe(None, picture)
    await told(messages, 1)
    stream.publish("change", {"n": 0})
    await told(messages, 1)  # it is being sent that from now on
    stream.publish("change", {"n": 1})
    await asyncio.sleep(0.1)
    assert [data["n"] for _, _, data in await told(messages, 1)] == [1]


async def test_who_resumes_after_more_than_may_wait_for_a_client_is_sent_all_of_it_and_what_comes_then() -> None:
    stream = stream_of()
    for number in range(QUEUE_MAX * 2):
        stream.publish("change", {"n": number})
    resumed = await stream.subscribe("life-0", picture)
    for number in range(QUEUE_MAX * 2, QUEUE_MAX * 3):
        stream.publish("change", {"n": number})
    assert [data["n"] for _, _, data in await told(resumed, QUEUE_MAX * 3)] == list(range(QUEUE_MAX * 3))
    stream.publish("change", {"n": -1})
    assert [data["n"] for _, _, data in await told(resumed, 1)] == [-1], "nor is it dropped for what it missed"


async def test_a_message_that_is_larger_than_all_that_may_be_kept_is_sent_all_the_same() -> None:
    stream = stream_of(bytes_max=100)
    messages = await stream.subscribe(None, picture, MASKED)
    await told(messages, 1)
    for number in range(3):
        stream.publish("change", {"n": number, "filling": "x" * 1_000})
        assert [data["n"] for _, _, data in await told(messages, 1)] == [number]


async def test_what_waits_for_a_client_is_sent_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PIECE_BYTES", 2_500)
    stream = stream_of()
    kept, dropped = await stream.subscribe(None, picture), await stream.subscribe(None, picture)
    for client in (kept, dropped):
        await told(client, 1)
    for number in range(QUEUE_MAX):
        stream.publish("change", {"n": number, "filling": "x" * 1_000})
    pieces = [[data["n"] for _, _, data in parsed(await anext(kept))] for _ in range(3)]
    assert pieces == [[0, 1], [2, 3], [4]]
    stream.publish("change", {})
    pieces = [[data["n"] for _, _, data in parsed(piece)] async for piece in dropped]
    assert pieces == [[0, 1], [2, 3], [4]]


async def changes(messages: AsyncIterator[bytes]) -> AsyncIterator[Any]:
    """The changes until the stream ends."""
    async for part in messages:
        for _, name, data in parsed(part):
            if name == "change":
                yield data


async def test_a_masked_client_never_sees_a_number_and_too_many_clients_are_refused() -> None:
    stream = stream_of()
    masked, full = await stream.subscribe(None, picture, MASKED), await stream.subscribe(None, picture)
    stream.publish("change", {"calls": [{"caller": X, "recording_url": "x"}]})
    assert X not in json.dumps(await told(masked, 2))
    assert X in json.dumps(await told(full, 2))
    with pytest.raises(TooManyClientsError):
        await stream.subscribe(None, picture)


async def test_many_who_come_at_once_cost_one_snapshot() -> None:
    asked = 0

    async def counted() -> dict[str, Any]:
        nonlocal asked
        asked += 1
        return {}

    stream = stream_of(clients_max=50)
    await asyncio.gather(*(stream.subscribe(None, counted) for _ in range(50)))
    assert asked == 1
    stream.publish("feeds", {})
    stream.close()
    await stream.subscribe(None, counted)
    assert asked == 2, "after a message the picture is another"


async def test_a_stream_on_which_nothing_happens_is_kept_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "KEEP_ALIVE_S", 0.02)
    messages = await stream_of().subscribe(None, picture)
    await told(messages, 1)
    assert await asyncio.wait_for(anext(messages), 5) == b": keep-alive\n\n"


async def test_many_clients_are_woken_seldom_and_then_sent_all_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PACE_S", 0.2)
    stream = stream_of()
    messages, other = await stream.subscribe(None, picture), await stream.subscribe(None, picture)
    for client in (messages, other):
        await told(client, 1)
    stream.publish("change", {"n": 1})
    await told(messages, 1)
    stream.publish("change", {"n": 2})
    waiting = asyncio.ensure_future(anext(messages))
    await asyncio.sleep(0.05)
    stream.publish("change", {"n": 3})
    assert [data["n"] for _, _, data in parsed(await asyncio.wait_for(waiting, 5))] == [2, 3]
    assert [data["n"] for _, _, data in parsed(await asyncio.wait_for(anext(other), 5))] == [1, 2, 3]


async def test_snapshot_and_change_have_the_documented_shapes(tmp_path: Path) -> None:
    store = await open_store(make_url(f"sqlite+aiosqlite:///{tmp_path}/views.sqlite"), "sessions")
    await put(store, some_calls(1))
    views = Views(store, Feeds(30, 1), {DEFAULT_PBX: Pbx()})
    snapshot = StreamSnapshot.model_validate(await views.snapshot())
    assert snapshot.calls
    assert [one.pbx for one in snapshot.figures] == [DEFAULT_PBX]
    async with store.reading() as connection:
        session = snapshot.calls[0].model_dump(mode="json")
        change = await views.change(connection, [session], [(DEFAULT_PBX, "201")])
    assert [agent.extension for agent in StreamChange.model_validate(change).agents] == ["201"]
    await store.close()


async def test_figures_that_take_long_to_count_are_owed_and_told_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await open_store(make_url(f"sqlite+aiosqlite:///{tmp_path}/views.sqlite"), "sessions")
    await put(store, some_calls(1))
    views = Views(store, Feeds(30, 1), {DEFAULT_PBX: Pbx()})
    count, counted = views.today, []

    async def slowly(connection: Any, pbxs: Any = None) -> Any:
        await asyncio.sleep(0.05)
        counted.append(pbxs)
        return await count(connection, pbxs)

    monkeypatch.setattr(views, "today", slowly)
    async with store.reading() as connection:
        first = await views.change(connection, [], [(DEFAULT_PBX, "201")])
        views.told(first)
        second = await views.change(connection, [], [(DEFAULT_PBX, "202")])
        views.told(second)
        assert [len(one["figures"]) for one in (first, second)] == [1, 0], "the second comes too early"
        assert views.owed == {DEFAULT_PBX}
        came_s = time.monotonic()
        third = await eventually(partial(views.change, connection, [], []), lambda seen: bool(seen["figures"]))
        assert time.monotonic() - came_s > 0.05 / FIGURES_SHARE / 2
        assert third["figures"] == first["figures"]
        assert views.owed == {DEFAULT_PBX}, "until clients were sent it"
        views.told(third)
    assert not views.owed
    assert counted == [[DEFAULT_PBX]] * 2
    await store.close()


async def test_owed_figures_come_with_the_heartbeat_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "HEARTBEAT_S", 0.02)
    store = await open_store(make_url(f"sqlite+aiosqlite:///{tmp_path}/views.sqlite"), "sessions")
    await put(store, some_calls(1))
    views, stream = Views(store, Feeds(30, 1), {DEFAULT_PBX: Pbx()}), stream_of()
    messages = await stream.subscribe(None, views.snapshot)
    beating = asyncio.create_task(app._beat(views, stream))
    ((_, _, first),) = await told(messages, 1)
    views.owed.add(DEFAULT_PBX)
    changes = [data for _, name, data in await told(messages, 8) if name == "change"]
    assert [one["figures"] for one in changes] == [first["figures"]]
    beating.cancel()
    stream.close()
    await store.close()


@asynccontextmanager
async def wrapping_up(store: Store) -> AsyncIterator[tuple[Views, list[str]]]:
    """The heartbeat over an agent whose call has just ended, and all that a client is told of its status."""
    now = datetime.now(UTC)
    ended = next(one for one in some_calls(1) if one.session["outcome"] == "answered")
    await put(store, [like(ended, "just-now", started_at=zulu(now - timedelta(seconds=60)), ended_at=zulu(now))])
    feeds = Feeds(30, 1)
    came = {"id": "p", "time": now, "live_time_us": 0, "stream_time": now, "received_at": {}}
    feeds.heard(0, FeedProgress.model_validate(came), now, time.monotonic())
    views, stream = Views(store, feeds, {DEFAULT_PBX: Pbx()}, wrap_up_s=2), stream_of()
    messages, statuses = await stream.subscribe(None, views.snapshot), list[str]()

    async def read() -> None:
        async for part in messages:
            statuses.extend(one["status"] for _, _, data in parsed(part) for one in data.get("agents", ()))

    tasks = [asyncio.create_task(read()), asyncio.create_task(app._beat(views, stream))]
    await eventually(_value(lambda: statuses), lambda seen: seen == ["wrap_up"])
    yield views, statuses
    stream.close()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_the_end_of_a_wrap_up_is_told_whoever_else_has_seen_it_and_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "HEARTBEAT_S", 0.2)
    async with wrapping_up(store) as (views, statuses):

        async def scraped() -> list[Any]:
            """As a scrape, GET agents and a new client's snapshot see them."""
            async with store.reading() as connection:
                agents = await views.agents(connection)
            return [one["status"] for one in [*agents, *(await views.snapshot())["agents"]]]

        await eventually(scraped, lambda seen: seen == ["available", "available"])
        await eventually(_value(lambda: statuses), lambda seen: seen == ["wrap_up", "available"], 5)
        await asyncio.sleep(app.HEARTBEAT_S * 3)
        assert statuses == ["wrap_up", "available"]


async def test_the_end_of_a_wrap_up_is_told_after_the_database_failed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "HEARTBEAT_S", 0.1)
    async with wrapping_up(store) as (_, statuses):
        await rename(store, "agents", "mislaid")
        await asyncio.sleep(2.5)
        assert statuses == ["wrap_up"]
        await rename(store, "mislaid", "agents")
        await eventually(_value(lambda: statuses), lambda seen: seen == ["wrap_up", "available"], 5)


async def rename(store: Store, table: str, other: str) -> None:
    async with store.writing() as connection:
        await connection.execute(text(f"alter table {table} rename to {other}"))


async def test_a_client_that_takes_nothing_from_its_socket_is_left_and_lets_go_of_all_it_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "SEND_S", 0.3)
    metrics = Metrics("projections")
    settings = ProjectionsSettings(data_dir=tmp_path)
    store = await open_store(settings.database_url, "sessions")
    stream = stream_of(metrics)
    views = Views(store, Feeds(30, 1), {DEFAULT_PBX: Pbx()})
    listener = listen("127.0.0.1", 0, "PORT")
    port = listener.getsockname()[1]
    clients = metrics.gauge("stream_clients")._value
    async with serving(application(Api(settings, views, stream, metrics), metrics), listener, 1, 10):
        reader = socket.create_connection(("127.0.0.1", port))
        reader.sendall(b"GET /api/v1/stream HTTP/1.1\r\nHost: x\r\n\r\n")
        await eventually(_value(clients.get), lambda seen: seen == 1)
        for _ in range(QUEUE_MAX * 4):
            stream.publish("change", {"filling": "x" * 2_000_000})
            await asyncio.sleep(0.02)
        await eventually(_value(clients.get), lambda seen: seen == 0)
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"http://127.0.0.1:{port}/api/v1/calls")).status_code == 200
            assert (await client.head(f"http://127.0.0.1:{port}/api/v1/stream")).status_code == 200
        reader.close()
        stream.close()
    await store.close()


def _value(look: Any) -> Any:
    async def value() -> Any:
        return look()

    return value
