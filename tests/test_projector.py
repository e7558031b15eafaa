"""The projector handed its records by the test: what is told, and what comes again, on both databases."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from aiokafka import TopicPartition
from sqlalchemy.ext.asyncio import AsyncConnection

from events.metrics import Metrics
from events.pbx import DEFAULT_PBX, Pbx
from projections import projector
from projections import stream as streams
from projections.feeds import Feeds
from projections.forgetting import entries_of
from projections.projector import Projector
from projections.settings import ProjectionsSettings
from projections.store import Store
from projections.stream import Stream
from projections.views import Views
from tests.test_stream import stream_of, told
from tests.views_folded import folded_rows, session_records, stored_rows

PARTITION = 1


def views_of(store: Store) -> Views:
    return Views(store, Feeds(30, 1), {DEFAULT_PBX: Pbx()})


def projector_of(
    store: Store, stream: Stream, views: Views | None = None, settings: ProjectionsSettings | None = None
) -> Projector:
    return Projector(settings or ProjectionsSettings(), store, views or views_of(store), stream, Metrics("projections"))


async def test_nothing_is_told_that_is_not_committed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projector, "RETRY_S", 0)
    writing = store.writing

    @asynccontextmanager
    async def refused() -> AsyncIterator[AsyncConnection]:
        async with writing() as connection:
            yield connection
            raise OSError

    stream = stream_of()
    folding = projector_of(store, stream)
    records: Any = session_records(2)
    messages = await stream.subscribe(None, views_of(store).snapshot)
    monkeypatch.setattr(store, "writing", refused)
    with pytest.raises(OSError):
        await folding._handle(records)
    monkeypatch.setattr(store, "writing", writing)
    await folding._handle(records)
    (_, _, before), (identity, name, change) = await told(messages, 2)
    assert (before["calls"], identity, name) == ([], "life-1", "change")
    assert len(change["calls"]) == 2


async def test_records_that_come_again_move_nothing(store: Store) -> None:
    stream = stream_of()
    folding = projector_of(store, stream)
    records: Any = session_records(3)
    await folding._handle(records)
    rows = await stored_rows(store)
    await folding._handle(records[:2])
    await folding._handle(records)
    assert await stored_rows(store) == rows
    assert (await store.positions())[PARTITION].next_offset == len(records)
    assert stream._number == 1, "nor is it told again"


@pytest.mark.parametrize(
    "forged",
    [
        {"caller": "\0"},
        {"session_id": "\0"},
        {"agent": {"extension": "\0", "email": None}},
        {"revision": 2**31},
        {"revision": -(2**31) - 1},
        {"duration_s": 2**63},
        {"duration_s": -(2**63) - 1},
        {"span_s": 2**64},
        {"first_received_at": "0001-01-01T00:00:00Z"},
        {"started_at": "9999-12-31T23:59:59Z"},
        {"ended_between": {"earliest": "2026-01-01T00:00:00Z", "latest": "9999-12-31T23:59:59Z"}},
    ],
    ids=str,
)
async def test_what_no_database_takes_is_unreadable_and_the_next_one_goes_on(
    store: Store, forged: dict[str, Any]
) -> None:
    """Only another writer of the topic can make such events: the processors' have bounded values."""
    folding = projector_of(store, stream_of())
    first, *_, last = session_records(1)
    event = orjson.loads(first.value or b"")
    said = {name: value for name, value in forged.items() if name in event}
    value = json.dumps({**event, **said, "session": {**event["session"], **forged}}).encode()
    records: Any = [first._replace(value=value), last]
    await folding._handle(records)
    assert [row[0] for row in (await stored_rows(store))["calls"]] == [event["session_id"]]
    assert folding._metrics.counter("unreadable_total")._value.get() == 1


async def test_a_commit_whose_answer_never_came_is_no_other_writer(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database went away in the middle of a commit, and had it: `make chaos` with a failing sync of PostgreSQL."""
    monkeypatch.setattr(projector, "RETRY_S", 0)
    writing = store.writing

    @asynccontextmanager
    async def unanswered() -> AsyncIterator[AsyncConnection]:
        async with writing() as connection:
            yield connection
        raise OSError

    views = views_of(store)
    folding = projector_of(store, stream_of(), views)
    records: Any = session_records(3)
    await folding._handle(records[:2])
    monkeypatch.setattr(store, "writing", unanswered)
    with pytest.raises(OSError):
        await folding._handle(records[2:4])
    monkeypatch.setattr(store, "writing", writing)
    await folding._handle(records[2:])
    assert (await store.positions())[PARTITION].next_offset == len(records)
    assert await stored_rows(store) == folded_rows(records, "sessions")
    assert views.untold == 1, "clients are to be told anew"


async def test_while_nobody_hears_changes_are_only_counted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    stream, views = stream_of(), views_of(store)
    folding = projector_of(store, stream, views)
    records: Any = session_records(4)
    messages = await stream.subscribe(None, views.snapshot)
    ((identity, _, _),) = await told(messages, 1)
    await messages.aclose()
    await folding._handle(records[:2])
    back = await stream.subscribe(identity, views.snapshot)
    ((identity, name, _),) = await told(back, 1)
    assert name == "change", "who left just now is told what it missed"
    await back.aclose()
    monkeypatch.setattr(streams, "RESUME_S", 0)
    with monkeypatch.context() as patched:
        patched.setattr(views, "change", None)
        await folding._handle(records[2:])
    ((_, name, snapshot),) = await told(await stream.subscribe(identity, views.snapshot), 1)
    assert name == "snapshot"
    assert len(snapshot["calls"]) == 4


@pytest.fixture
def behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of two records and more are written behind the handler's back."""
    monkeypatch.setattr(projector, "BEHIND_RECORDS_MIN", 2)
    monkeypatch.setattr(projector, "RETRY_S", 0.01)


def failing(store: Store, times: int, *, before_commit: bool = True) -> Any:
    """The store's `writing`, which fails so many times, before the commit or after it."""
    writing, left = store.writing, times

    @asynccontextmanager
    async def fails() -> AsyncIterator[AsyncConnection]:
        nonlocal left
        left -= 1
        async with writing() as connection:
            yield connection
            if left >= 0 and before_commit:
                raise OSError
        if left >= 0:
            raise OSError

    return fails


@pytest.mark.usefixtures("behind")
@pytest.mark.parametrize("before_commit", [True, False])
async def test_what_is_written_behind_is_written_at_last_in_order_and_told_once(
    store: Store, monkeypatch: pytest.MonkeyPatch, *, before_commit: bool
) -> None:
    stream, views = stream_of(), views_of(store)
    folding = projector_of(store, stream, views)
    records: Any = session_records(4)
    messages = await stream.subscribe(None, views.snapshot)
    monkeypatch.setattr(store, "writing", failing(store, 2, before_commit=before_commit))
    await folding._handle(records[:3])
    assert await store.positions() == {}, "the handler came back before the database had it"
    await folding._handle(records[3:6])
    await folding._handle(records[6:])
    await folding._handle([])
    assert await stored_rows(store) == folded_rows(records, "sessions")
    assert (await store.positions())[PARTITION].next_offset == len(records)
    told_of = [change["position"] for _, _, change in (await told(messages, 4 if before_commit else 3))[1:]]
    assert told_of == ([3, 6, len(records)] if before_commit else [6, len(records)])
    assert views.untold == (0 if before_commit else 1)


def consumer_that_notes(sought: dict[TopicPartition, int]) -> Any:
    """A consumer that keeps where it is sought to."""
    return SimpleNamespace(seek=sought.__setitem__, resume=lambda *_: None)


@pytest.mark.usefixtures("behind")
async def test_what_was_taken_before_a_seek_is_let_go_of_as_a_whole(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rebalance while the database fails: a batch without the one before it would be a hole."""
    folding = projector_of(store, stream_of())
    records: Any = session_records(4)
    monkeypatch.setattr(store, "writing", failing(store, 1))
    await folding._handle(records[:3])
    batch = asyncio.create_task(folding._handle(records[3:6]))
    await asyncio.sleep(0)  # it is taken
    await folding.on_partitions_revoked([])
    await batch
    await folding._handle(records[6:9])
    sought: dict[TopicPartition, int] = {}
    await folding._begin(consumer_that_notes(sought), [place := TopicPartition("sessions", PARTITION)])
    assert sought == {place: 0}
    assert await store.positions() == {}, "nothing is begun while a rebalance goes on"
    await folding._handle(records[:4])
    await folding._handle(records[4:])
    await folding._handle([])
    assert await stored_rows(store) == folded_rows(records, "sessions")


@pytest.mark.usefixtures("behind")
@pytest.mark.parametrize("failures", [1, 0])
async def test_what_is_let_go_of_only_after_a_seek_is_not_taken_for_folded(
    store: Store, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    """The rebalance is over before the batch that waits for its turn, or is still folded, learns of it.

    What comes again and straddles its end would be cut there, and what lies before it never come into the views.
    """
    folding = projector_of(store, stream_of())
    records: Any = session_records(6)
    sought: dict[TopicPartition, int] = {}
    place = TopicPartition("sessions", PARTITION)
    fold_batch = folding._batch

    async def slowly(taken: Any) -> Any:
        batch = await fold_batch(taken)
        await folding.on_partitions_revoked([])
        await folding._begin(consumer_that_notes(sought), [place])
        return batch

    monkeypatch.setattr(store, "writing", failing(store, failures))
    await folding._handle(records[:3])
    if not failures:
        assert folding._behind is not None
        await folding._behind
    with monkeypatch.context() as patched:
        patched.setattr(folding, "_batch", slowly)
        await folding._handle(records[3:6])
    assert sought == {place: 0 if failures else 3}
    await folding._handle(records[sought[place] : 10])
    await folding._handle(records[10:])
    await folding._handle([])
    assert await stored_rows(store) == folded_rows(records, "sessions")


async def test_a_rebalance_during_a_commit_does_not_go_back_behind_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would take its own rows for another writer's."""
    writing, looked, in_transaction = store.writing, store.positions, asyncio.Event()

    @asynccontextmanager
    async def slow() -> AsyncIterator[AsyncConnection]:
        async with writing() as connection:
            yield connection
            in_transaction.set()
            await asyncio.sleep(0.1)

    async def slower() -> dict[int, Any]:
        positions = await looked()
        await asyncio.sleep(0.2)
        return positions

    folding = projector_of(store, stream_of())
    records: Any = session_records(3)
    consumer: Any = SimpleNamespace(seek=lambda *_: None, resume=lambda *_: None, assignment=set)
    await folding._handle(records[:2])
    monkeypatch.setattr(store, "writing", slow)
    monkeypatch.setattr(store, "positions", slower)
    handling = asyncio.create_task(folding._handle(records[2:4]))
    await in_transaction.wait()
    await folding._begin(consumer, [TopicPartition("any", PARTITION)])
    await handling
    await folding._handle(records[2:])
    assert not folding.failed.done()
    assert await stored_rows(store) == folded_rows(records, "sessions")


@asynccontextmanager
async def _held(store: Store, begun: asyncio.Event, until: asyncio.Event) -> AsyncIterator[AsyncConnection]:
    """A transaction that is not committed before `until`."""
    async with Store.writing(store) as connection:
        yield connection
        begun.set()
        await until.wait()


async def test_who_takes_a_partition_over_begins_after_the_transaction_that_runs(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would read the old position, and take what its predecessor then commits for another writer's."""
    before, after = projector_of(store, stream_of()), projector_of(store, stream_of())
    records: Any = session_records(3)
    begun, until = asyncio.Event(), asyncio.Event()
    sought: dict[TopicPartition, int] = {}
    place = TopicPartition("sessions", PARTITION)
    await before._handle(records[:1])
    with monkeypatch.context() as patched:
        patched.setattr(store, "writing", partial(_held, store, begun, until))
        handling = asyncio.create_task(before._handle(records[1:4]))
        await begun.wait()
    asyncio.get_running_loop().call_later(0.1, until.set)
    await before.on_partitions_revoked([place])
    await after._begin(consumer_that_notes(sought), [place])
    await handling
    assert sought == {place: 4}
    await before._handle(records[4:5])  # it is another's now: nothing is begun
    await after._handle(records[4:])
    assert await stored_rows(store) == folded_rows(records, "sessions")


async def test_a_rebalance_does_not_wait_for_a_hanging_transaction_for_ever(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    folding = projector_of(store, stream_of(), settings=ProjectionsSettings(projections_session_timeout_s=1))
    records: Any = session_records(1)
    begun, until = asyncio.Event(), asyncio.Event()
    monkeypatch.setattr(store, "writing", partial(_held, store, begun, until))
    handling = asyncio.create_task(folding._handle(records))
    await begun.wait()
    async with asyncio.timeout(1):
        await folding.on_partitions_revoked([])
    assert not handling.done()
    until.set()
    await handling


@pytest.mark.usefixtures("behind")
async def test_what_hangs_at_the_end_is_given_up_before_the_group_hears_of_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever takes over reads where the database stands: nothing of ours may be committed after that."""
    monkeypatch.setattr(projector, "LAST_BATCH_S", 0.1)
    folding = projector_of(store, stream_of())
    begun, until = asyncio.Event(), asyncio.Event()

    async def left() -> None:
        until.set()
        await asyncio.sleep(0.1)
        assert await store.positions() == {}

    records: Any = session_records(1)
    monkeypatch.setattr(store, "writing", partial(_held, store, begun, until))
    monkeypatch.setattr(folding._broker, "stop", left)
    await folding._handle(records)
    await begun.wait()
    await folding.stop()


@pytest.mark.usefixtures("behind")
async def test_who_is_forgotten_between_the_fold_and_the_transaction_is_not_written(store: Store) -> None:
    stream = stream_of()
    folding = projector_of(store, stream)
    records: Any = session_records(4)
    await folding._handle(records[:1])
    async with stream.lock:
        await folding._handle(records[1:])
        async with store.changing() as connection:
            await store.put_forgotten(connection, "00", entries_of("+41225550002", None, "00", datetime.now(UTC)))
    await folding._handle([])
    assert (await store.positions())[PARTITION].next_offset == len(records)
    rows = repr(await stored_rows(store))
    assert "+41225550001" in rows
    assert "+41225550002" not in rows
