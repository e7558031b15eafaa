"""What is written by the driver, many rows at once, stands as SQLAlchemy would have written it, row by row."""

import threading
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url

from projections.call_log import Row, row_of
from projections.folding import Rows, agent_rows, revision_rows
from projections.store import SHORT_MAX, Store, open_store
from projections.upserts import ROWS_TOGETHER_MAX, ROWS_TOGETHER_MIN
from tests.test_views import ZONES, like, some_calls, tables

SESSIONS = 3 * ROWS_TOGETHER_MAX // 30
ELSEWHERE = timezone(timedelta(hours=5, minutes=30))


def batches() -> list[Rows]:
    """More calls than one statement takes; then a few of them again, older ones and newer ones."""
    told = [like(one, f"s{n}-{one.event['session_id']}", 2) for n in range(SESSIONS) for one in some_calls(n)]
    older = [like(one, one.event["session_id"], 1, email="older") for one in told[: ROWS_TOGETHER_MIN - 1]]
    newer = [like(one, one.event["session_id"], 3, outcome="missed") for one in told[: ROWS_TOGETHER_MIN + 1]]
    found = []
    for batch in (told, older, newer):
        calls: dict[str, Row] = {one.event["session_id"]: row_of(one, ZONES, ZONES["default"]) for one in batch}
        found.append(Rows([*calls.values()], revision_rows(batch), agent_rows(calls.values())))
    assert len(found[0].calls) > 2 * ROWS_TOGETHER_MAX
    assert any(row["closed_at"] is None for row in found[0].calls)
    return found


async def test_many_rows_at_once_are_what_each_of_them_alone_is(store: Store, tmp_path: Path) -> None:
    other = await open_store(make_url(f"sqlite+aiosqlite:///{tmp_path}/other.sqlite"), "sessions")
    for rows in batches():
        async with store.writing() as connection:
            await store.put(connection, store.given(rows), ())
        async with other.writing() as connection:
            for upsert, table in zip(other.upserts, (rows.calls, rows.revisions, rows.agents), strict=True):
                for row in table:
                    await connection.execute(upsert.statement, row)
    assert await tables(store) == await tables(other)
    await other.close()


async def test_a_time_of_another_zone_is_kept_as_the_same_moment(store: Store) -> None:
    (row,) = [row_of(one, ZONES, ZONES["default"]) for one in some_calls(1)[:1]]
    there = row | {"first_received_at": row["first_received_at"].astimezone(ELSEWHERE)}
    async with store.writing() as connection:
        await store.put(connection, store.given(Rows([there], (), ())), ())
    ((found,), _, _) = await tables(store)
    assert row["first_received_at"] in found
    assert found[8].utcoffset() == timedelta(0)


async def test_what_concerns_few_rows_stays_in_the_callers_thread_and_nothing_else(tmp_path: Path) -> None:
    store = await open_store(make_url(f"sqlite+aiosqlite:///{tmp_path}/views.sqlite"), "sessions")
    (row,) = [row_of(one, ZONES, ZONES["default"]) for one in some_calls(1)[:1]]
    seen: list[tuple[str, bool]] = []

    def note(statement: str) -> None:
        seen.append((statement.split(" ", 1)[0], threading.current_thread() is threading.main_thread()))

    for count, stays in ((SHORT_MAX, True), (SHORT_MAX + 1, False)):
        async with store.writing() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            await driver.set_trace_callback(note)
            seen.clear()
            with store.shortly(connection, count):
                await store.put(connection, store.given(Rows([row], (), ())), ())
            await store.generation_in(connection)
        assert seen == [("INSERT", stays), ("SELECT", False), ("COMMIT", False)]
    await store.close()
