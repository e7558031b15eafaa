"""The read API: shapes as the document says, unknown parameters refused, tokens, CSV."""

import csv
import io
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter

from events.metrics import Metrics
from events.pbx import DEFAULT_PBX, Pbx
from events.session import Session
from projections.access import masked_number
from projections.agent_status import Agent
from projections.api import Api, application
from projections.call_log import Told
from projections.feeds import Feeds
from projections.openapi import document
from projections.settings import ProjectionsSettings
from projections.store import open_store
from projections.stream import Stream
from projections.views import Views
from tests.builders import X, Y
from tests.test_views import like, put, some_calls


@asynccontextmanager
async def client_of(tmp_path: Path, more: Sequence[Told] = (), **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """The API over a filled SQLite; `more`: besides the usual calls."""
    chosen = ProjectionsSettings(data_dir=tmp_path, **settings)
    store = await open_store(chosen.database_url, "sessions")
    await put(store, [*some_calls(1), *more])
    metrics = Metrics("projections")
    views = Views(store, Feeds(30, 1), {DEFAULT_PBX: Pbx()})
    app = application(Api(chosen, views, Stream("life", metrics, 10, 10, 10, 100_000), metrics), metrics)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client:
        yield client
    await store.close()


async def test_every_answer_has_the_shape_that_the_document_gives_it(tmp_path: Path) -> None:
    async with client_of(tmp_path) as client:
        page = (await client.get("/api/v1/calls?limit=1000")).json()
        TypeAdapter(list[Session]).validate_python(page["calls"])
        agents = (await client.get("/api/v1/agents")).json()["agents"]
        assert [agent["extension"] for agent in agents] == ["201", "202", "203"]
        TypeAdapter(list[Agent]).validate_python(agents)
        assert (await client.get("/api/v1/agents/default/202")).json() == agents[1]
        call = page["calls"][0]
        assert (await client.get(f"/api/v1/calls/{call['session_id']}")).json() == call
        why = (await client.get(f"/api/v1/calls/{call['session_id']}/why")).json()
        assert why["revisions"][-1]["session"] == call
        told = (await client.get("/openapi.json")).json()
        assert told == document()
        assert told["openapi"] == "3.1.0"
        for path in told["paths"]:
            assert "{" in path or path == "/api/v1/stream" or (await client.get(path)).status_code == 200


@pytest.mark.parametrize(
    "query",
    [
        "inferred=yes", "day=20261124", "day=today", "closed=1",
        "colour=red", "limit=0", "limit=1001", "limit=x", "limit=²", "cursor=nonsense", "cursor=%00", "status=closed",
        "direction=sideways", "from=yesterday", "to=2026-01-01T00:00:00", "number=%00", "pbx=a&pbx=b",
    ],
)  # fmt: skip
async def test_what_is_not_understood_is_refused_with_a_problem(tmp_path: Path, query: str) -> None:
    async with client_of(tmp_path) as client:
        answer = await client.get(f"/api/v1/calls?{query}")
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "text", ["00000000110000000", "00000001" + "0" * 5_000, "1" * 5_000, "0" * 5_000, "-1", "1.0", ""]
)
async def test_a_whole_number_is_judged_by_all_its_digits(tmp_path: Path, text: str) -> None:
    async with client_of(tmp_path) as client:
        for path in ("calls?limit", "figures/series?bucket_s"):
            answer = await client.get(f"/api/v1/{path}={text}")
            assert answer.status_code == 400, (path, answer.text[:200])
        assert (await client.get("/api/v1/calls?limit=000001")).status_code == 200


async def test_what_is_not_there_is_404(tmp_path: Path) -> None:
    async with client_of(tmp_path) as client:
        for path in (
            "/api/v1/calls/none",
            "/api/v1/calls/none/why",
            "/api/v1/calls/none/records",
            "/api/v1/agents/default/999",
            "/api/v2",
            "/wallboard/..%2Fapp.py",
        ):
            answer = await client.get(path)
            assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json"), path


async def test_with_tokens_only_who_has_one_sees_calls(tmp_path: Path) -> None:
    async with client_of(tmp_path, projections_api_tokens="one,two") as client:
        for path in ("/api/v1/calls", "/api/v1/agents", "/api/v1/calls.csv", "/api/v1/stream"):
            assert (await client.get(path)).status_code == 401
            assert (await client.get(path, headers={"Authorization": "Bearer three"})).status_code == 401
        assert (await client.get("/api/v1/calls", headers={"Authorization": "Bearer two"})).status_code == 200
        assert (await client.get("/api/v1/calls.csv?access_token=one")).status_code == 200
        assert (await client.get("/api/v1/calls?access_token=one")).status_code == 401
        assert (await client.get("/")).status_code == 200, "the page itself holds no data"


async def test_a_masked_token_sees_no_number_anywhere_and_cannot_search_one(tmp_path: Path) -> None:
    async with client_of(tmp_path, projections_api_tokens="one,two:masked") as client:
        masked = {"Authorization": "Bearer two"}
        page = (await client.get("/api/v1/calls?limit=1000", headers=masked)).json()["calls"]
        assert "+41 22 555 ** **" in {call["caller"] for call in page}
        paths = ["/api/v1/calls.csv?form=raw", "/api/v1/calls.ndjson", "/api/v1/agents"]
        paths += [f"/api/v1/calls/{call['session_id']}{more}" for call in page for more in ("", "/why")]
        for path in paths:
            text = (await client.get(path, headers=masked)).text
            assert X not in text
            assert Y not in text
        plain = (await client.get("/api/v1/calls.ndjson?access_token=one")).text
        assert X in plain, "the full token sees what the masked one does not"
        for path in ("/api/v1/calls", "/api/v1/figures", "/api/v1/calls.csv", "/api/v1/calls.ndjson"):
            assert (await client.get(f"{path}?number=5551234", headers=masked)).status_code == 403
        records = f"/api/v1/calls/{page[0]['session_id']}/records"
        assert (await client.get(records, headers=masked)).status_code == 403


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ("+41225551234", "+41 22 555 ** **"), ("0225551234", "22555****"), ("201", "201"), ("anonymous", "anonymous"),
        ("Jane Doe", "***"), ('"Jane Doe" <sip:+41225551234@pbx>', "+41 22 555 ** **"), ("", ""),
        ("Unknown number", "Unknown number"), ('"+41225551234" <anonymous>', "anonymous"),
        ("John Smith <anonymous>", "anonymous"),
        ("Anonymous (John Smith)", "Anonymous"), ("anonymous;phone=+41225551234", "anonymous"), ("(John Smith)", "***"),
        ("private (+41225551234)", "private"), ("Anonym Smith", "***"), ("9" * 33, "***"), ("***", "***"),
    ],
)  # fmt: skip
def test_a_masked_number_hides_its_last_four_digits_and_every_name(sent: str, seen: str) -> None:
    assert masked_number(sent) == seen


async def test_who_has_an_answer_already_is_told_so(tmp_path: Path) -> None:
    async with client_of(tmp_path) as client:
        for path in ("/api/v1/calls", "/api/v1/agents", "/api/v1/figures"):
            first = await client.get(path)
            assert first.headers["etag"].startswith('W/"')
            again = await client.get(path, headers={"If-None-Match": first.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")


async def test_the_lines_of_the_ndjson_are_the_calls(tmp_path: Path) -> None:
    async with client_of(tmp_path) as client:
        lines = (await client.get("/api/v1/calls.ndjson")).text.splitlines()
        page = (await client.get("/api/v1/calls?limit=1000")).json()["calls"]
        assert [json.loads(line) for line in lines] == page
        raw = list(csv.DictReader(io.StringIO((await client.get("/api/v1/calls.csv?form=raw")).text)))
        assert [row["caller"] for row in raw] == [call["caller"] or "" for call in page]
        assert (await client.get("/api/v1/calls.csv?form=excel")).status_code == 400


async def test_the_csv_holds_every_call_and_no_formula(tmp_path: Path) -> None:
    async with client_of(tmp_path) as client:
        answer = await client.get("/api/v1/calls.csv?form=spreadsheet")
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        page = (await client.get("/api/v1/calls?limit=1000")).json()["calls"]
        assert [row["session_id"] for row in rows] == [call["session_id"] for call in page]
        assert {row["caller"][0] for row in rows if row["caller"]} <= {"'", "a"}


@pytest.mark.parametrize(
    "caller",
    [
        "Bob;=cmd|'/C calc'!A0", "Bob;@SUM(1)", "Bob\t+1", "Bob\n=1+1", "Bob\r-1", 'Bob;"=1+1"', "Bob; =1", "Bob;;\t=1",
        'Bob, "x";=1', "=1;=2", "+41225551234",
    ],
)  # fmt: skip
async def test_no_cell_runs_as_a_formula_wherever_a_spreadsheet_parts_them(tmp_path: Path, caller: str) -> None:
    """In many countries a spreadsheet parts cells at semicolons, and knows no quotes in the middle of them."""
    async with client_of(tmp_path, [like(some_calls(1)[0], "odd", caller=caller)]) as client:
        text = (await client.get("/api/v1/calls.csv?form=spreadsheet")).text
        assert "odd" in text
        for delimiter in (",", ";", "\t"):
            cells = [cell for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) for cell in row]
            assert [cell for cell in cells if cell.lstrip().startswith(("=", "+", "-", "@"))] == [], delimiter
        rows = csv.DictReader(io.StringIO((await client.get("/api/v1/calls.csv?form=raw")).text, newline=""))
        assert caller in {row["caller"] for row in rows}


async def test_the_page_is_served_with_a_strict_policy_and_no_outside_host(tmp_path: Path) -> None:
    async with client_of(tmp_path) as client:
        for path in ("/", "/wallboard/board.js", "/wallboard/style.css", "/wallboard/words.js", "/wallboard/icon.svg"):
            answer = await client.get(path)
            assert answer.status_code == 200
            assert "default-src 'self'" in answer.headers["content-security-policy"]
            assert "https://" not in answer.text
