"""What is too old leaves the views of both databases, class by class and PBX by PBX; and nothing else."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import make_url

from events.pbx import DEFAULT_PBX, Pbx
from events.session import Status
from projections import retention
from projections.call_log import Told, folded, told_in
from projections.retention import Retention
from projections.settings import ProjectionsSettings
from projections.store import IMMEDIATE, Store, open_store
from tests.builders import Log, X, Y, at, end, run, start, zulu
from tests.plans import analyzed, plans_of, scans
from tests.test_figures import client_of
from tests.test_rebuilding import Site
from tests.test_rebuilding import site as site  # noqa: PLC0414 - a fixture
from tests.test_views import like, put
from tests.views_folded import session_records, stored_rows

DAY_S = 86_400
PBXS = {DEFAULT_PBX: Pbx(), "geneva": Pbx(calls_kept_days=0, revisions_kept_days=2), "bern": Pbx(calls_kept_days=5)}


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    """An empty store, once on each database."""
    opened = await open_store(make_url(database_url), "sessions")
    yield opened
    await opened.close()


def days_of_calls() -> list[Told]:
    """On each of eight days, at each PBX: a call that ended, and one that no end was heard of."""
    log = Log()
    for day in range(8):
        log.silence(day * DAY_S)
        for number, pbx in enumerate(PBXS):
            second = day * DAY_S + number * 10
            log.webhook(second + 1, start(f"20{day}", X, t=second), pbx)
            log.webhook(second + 5, end(f"20{day}", X, t=second + 4, duration=3), pbx)
            log.webhook(second + 6, start("300", Y, t=second + 6), pbx)
    out = run(log.records)
    return [told_in(0, event.model_dump_json().encode()) for event in out.events]


def left(told: list[Told], calls_days: dict[str, float], now: datetime) -> set[str]:
    """The sessions that are open or young enough."""
    return {
        session_id
        for session_id, one in folded(told).items()
        if one.session["status"] == Status.OPEN
        or now - one.first_received_at <= timedelta(days=calls_days.get(one.session["pbx"], 3))
    }


async def test_each_class_of_each_pbx_is_kept_its_days(store: Store, tmp_path: Path) -> None:
    told = days_of_calls()
    await put(store, told)
    now = at(7.5 * DAY_S)
    settings = ProjectionsSettings(projections_calls_kept_days=3, data_dir=tmp_path)
    before = await stored_rows(store)
    expired = await Retention(settings, PBXS).expire(store, now)
    after = await stored_rows(store)
    kept = left(told, {"geneva": 99, "bern": 5}, now)
    with_history = left(told, {"geneva": 2, "bern": 5}, now)
    assert {row[0] for row in after["calls"]} == kept
    assert {row[0] for row in after["revisions"]} == with_history
    assert kept > with_history > set()
    assert len(kept) < len(before["calls"])
    assert set(after["calls"]) <= set(before["calls"])
    for table, count in expired.items():
        assert len(before[table]) - len(after[table]) == count > 0, table
    assert await Retention(settings, PBXS).expire(store, now) == dict.fromkeys(expired, 0)
    assert await Retention(ProjectionsSettings(data_dir=tmp_path), {}).expire(store, now) == dict.fromkeys(expired, 0)
    async with client_of(store, tmp_path) as client:
        session_id = min(kept - with_history)
        why = await client.get(f"/api/v1/calls/{session_id}/why")
    assert (why.status_code, why.json()["revisions"]) == (200, [])


async def told_apart(store: Store, keep: Retention, now: datetime) -> tuple[dict[str, int], list[str], set[str]]:
    """What was deleted, how the database found its rows (plans), and what it did in transactions that write."""
    writes: set[str] = set()

    def note(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if connection.get_execution_options().get(IMMEDIATE, False) and "meta" not in statement:
            writes.add(statement.split(maxsplit=1)[0])

    event.listen(store.engine.sync_engine, "before_cursor_execute", note)
    try:
        with plans_of(store) as plans:
            return await keep.expire(store, now), plans, writes - {"BEGIN"}
    finally:
        event.remove(store.engine.sync_engine, "before_cursor_execute", note)


async def test_no_run_looks_again_at_what_is_gone_already(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "AT_ONCE", 50)
    ended = next(one for one in days_of_calls() if one.session["status"] == Status.ENDED)
    received = {day: zulu(at(day * DAY_S)) for day in range(8)}
    calls = [
        like(ended, f"{day}-{number:03}", first_received_at=received[day], pbx="abc"[number % 3])
        for day in range(8)
        for number in range(300)
    ]
    # Told on its day.
    await put(store, [one._replace(event={**one.event, "time": one.session["first_received_at"]}) for one in calls])
    await analyzed(store)
    now, settings = at(7.5 * DAY_S), ProjectionsSettings(projections_revisions_kept_days=3, data_dir=tmp_path)
    keep = Retention(settings, {"b": Pbx(revisions_kept_days=0)})
    expired, plans, writes = await told_apart(store, keep, now)
    assert expired == {"calls": 0, "revisions": 5 * 200, "agents": 0}
    assert scans(plans) == []
    pages = [plan for plan in plans if "revisions_known" in plan]
    assert len(pages) == 5 * 300 // 50 + 1, "once through what was known then"
    assert writes == {"DELETE"}, "what is deleted is found beforehand"
    again, plans, writes = await told_apart(store, keep, now)
    assert (again["revisions"], writes) == (0, set())
    assert len([plan for plan in plans if "revisions_known" in plan]) == 5 * 100 // 50 + 1, "of the PBX that keeps them"
    _, plans, _ = await told_apart(store, Retention(ProjectionsSettings(projections_calls_kept_days=9), {}), now)
    assert scans([plan for plan in plans if "agents" not in plan]) == []


@pytest.mark.timeout(300)
async def test_the_service_deletes_at_its_start_and_a_rebuild_brings_nothing_back(site: Site) -> None:
    await site.append(session_records(20))
    site.system.start("projections")
    await site.caught_up()
    site.system.stop()
    assert len((await stored_rows(site.store))["calls"]) == 20
    said = await site.rebuild(projections_calls_kept_days=36_500)
    assert "calls: 20 equal" in said
    # What the builders made is of the past: yesterday's calls and older ones are too old.
    await site.rebuild(projections_calls_kept_days=1)
    seen = await stored_rows(site.store)
    assert (seen["calls"], seen["revisions"], seen["agents"]) == ([], [], [])
    assert len(seen["offsets"]) == 1
