"""Pages that never shift, and answers of one position: while a writer goes on, on both databases."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import delete

from events.metrics import Metrics
from events.session import Status
from projections.api import Api, application
from projections.call_log import Told, row_of
from projections.folding import Advance, Position, Rows, agent_rows
from projections.settings import ProjectionsSettings
from projections.store import Store
from projections.stream import Stream
from projections.tables import calls
from tests.builders import T0, at
from tests.test_views import ZONES, like, put, some_calls, views_of

ROUNDS = 40


@asynccontextmanager
async def client_of(store: Store, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    metrics = Metrics("projections")
    stream = Stream("life", metrics, 10, 10, 10, 100_000)
    app = application(Api(ProjectionsSettings(data_dir=tmp_path), views_of(store), stream, metrics), metrics)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client:
        yield client


@pytest.mark.parametrize("seed", [1, 2])
async def test_pages_never_shift_while_calls_come_and_are_corrected(store: Store, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    (model, *_) = some_calls(1)
    there = [f"{number:024x}" for number in range(60)]
    # Several calls of one instant: only the id orders them.
    times = {session_id: float(number // 4) for number, session_id in enumerate(there)}
    await put(
        store, [like(model, session_id, first_received_at=at(received_s)) for session_id, received_s in times.items()]
    )
    seen: list[str] = []
    cursor, revision = "", 1
    async with client_of(store, tmp_path) as client:
        while True:
            answer = (await client.get(f"/api/v1/calls?limit=7{cursor}")).json()
            seen += [call["session_id"] for call in answer["calls"]]
            if answer["next_cursor"] is None:
                break
            cursor, revision = f"&cursor={answer['next_cursor']}", revision + 1
            changed = [
                like(
                    model,
                    one,
                    revision,
                    first_received_at=at(times[one]),
                    started_at=at(rng.uniform(-9_000, 9_000)),
                    caller="+41791112233",
                )
                for one in rng.sample(there, 10)
            ]
            late = [
                like(model, f"{rng.getrandbits(96):024x}", first_received_at=at(rng.uniform(0, 30))) for _ in range(5)
            ]
            await put(store, [*changed, *late])
    assert [one for one in seen if one in times] == sorted(there, key=lambda one: (times[one], one), reverse=True)
    assert len(seen) == len(set(seen))


async def test_no_answer_mixes_two_positions(store: Store, tmp_path: Path) -> None:
    """At every position n there are n calls that are open, all of one second: any mixture would tell two numbers."""
    (model, *_) = some_calls(1)
    began = T0 + timedelta(seconds=5)

    async def write() -> None:
        for number in range(1, ROUNDS + 1):
            told = like(
                model, f"{number:024x}", first_received_at=at(5), status=Status.OPEN, started_at=began, ended_at=None
            )
            async with store.writing() as connection:
                await store.advance(connection, [Advance(0, number - 1, Position(number, at(number)))])
                await _put_within(store, connection, told)
            await asyncio.sleep(0)

    async with client_of(store, tmp_path) as client:
        async with store.writing() as connection:
            await connection.execute(delete(calls))
        writing = asyncio.create_task(write())
        positions: set[int] = set()
        while not writing.done():
            page = (await client.get("/api/v1/calls?limit=1000")).json()
            figures = (await client.get("/api/v1/figures")).json()
            agents = (await client.get("/api/v1/agents")).json()
            snapshot = await views_of(store).snapshot()
            assert len(page["calls"]) == page["position"]
            assert figures["figures"]["open"] == figures["position"]
            assert sum(len(agent["calls"]) for agent in agents["agents"]) == agents["position"]
            assert len(snapshot["calls"]) == snapshot["position"]
            positions |= {page["position"], figures["position"], agents["position"], int(str(snapshot["position"]))}
        await writing
    assert len(positions) > 3, "the writer wrote between the answers"


async def _put_within(store: Store, connection: Any, told: Told) -> None:
    row = row_of(told, ZONES, ZONES["default"])
    await store.put(connection, store.given(Rows([row], (), agent_rows([row]))), ())
