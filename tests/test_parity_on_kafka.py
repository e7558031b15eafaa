"""A site that runs both: a poller beside the webhooks, as a witness, too, and webhooks lost.

One call came by no webhook: the comparison finds it, though another withheld number is there at the same time. One is
listed twice, and counts once. Of the others no end came: the witness closes them.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import expect

from events.kafka import KafkaSettings
from tests.browser import accessible, chromium, watched
from tests.builders import zulu
from tests.stand_in_pbx import StandInPbx
from tests.system import Service, System, calls_of, kafka_environment, post, read_committed
from tests.waiting import eventually

CALLS = (("201", "anonymous"), ("202", "+41225559999"), ("203", "anonymous"), ("204", "+41225557777"))
LOST = "203"
QUEUED = "+41225559999"


async def run_parity(kafka: KafkaSettings, folder: Path, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "projections", "parity", *arguments]
    environment = os.environ | kafka_environment(kafka) | {"DATA_DIR": str(folder)}
    done = await asyncio.to_thread(
        subprocess.run, command, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout or done.stderr


@pytest_asyncio.fixture
async def system(kafka: KafkaSettings, tmp_path: Path) -> AsyncIterator[System]:
    """Everything, ready, with a short grace."""
    async with System(kafka, tmp_path, PROCESSORS_ABSENCE_GRACE_S="1") as running:
        yield running


@pytest.mark.timeout(240)
async def test_a_call_that_no_webhook_told_of_is_found(kafka: KafkaSettings, system: System, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    span = ("--from", zulu(now - timedelta(hours=1)), "--to", zulu(now + timedelta(hours=1)))
    status, said = await run_parity(kafka, system.data_dir, *span)
    assert (status, "run python -m ingest poll" in said) == (2, True), said
    async with StandInPbx().running() as pbx, httpx.AsyncClient() as client:
        environment = {
            **kafka_environment(kafka),
            "DATA_DIR": str(tmp_path),
            **pbx.settings,
            "POLLING_WITNESS": "true",
            "POLLING_HISTORY": "true",
            "POLLING_HISTORY_INTERVAL_S": "5",
            "POLLING_WITNESS_INTERVAL_S": "1",
        }
        poller = Service("ingest", environment, tmp_path / "poller.log", "poll")
        try:

            async def last() -> list[str]:
                found = await read_committed(kafka, kafka.topic_set.polled_calls)
                return (
                    sorted(call["Caller"] for call in json.loads(found[-1].value)["value"]) if found else ["none yet"]
                )

            await eventually(last, lambda seen: seen == [], 60)
            began = datetime.now(UTC)
            ids = [pbx.begin(f"10000 {number}", f"{agent} Agent") for agent, number in CALLS]
            ids.append(pbx.begin(f"10000 {QUEUED}", "800 Queue"))
            for agent, number in CALLS:
                if agent != LOST:
                    told = {"caller": number, "callee": "+41225555678", "agentExt": agent, "direction": "Inbound"}
                    await post(client, system, told | {"startTime": zulu(began)})
            await eventually(last, lambda seen: len(seen) == len(ids), 60)
            await asyncio.sleep(1.2)  # the witness has told of them
            ended = datetime.now(UTC)
            for identity in ids:
                pbx.end(identity)
            held = list(pbx.past)
            pbx.past.clear()
            await eventually(last, lambda seen: seen == [], 60)
            await the_witness_closes_them(client, system, ended)
            pbx.past += held
            await the_history_fills_in_their_ends(client, system, ended)
        finally:
            assert poller.stop() == 0
    await the_page_and_the_metrics_say_it(system)
    status, said = await run_parity(kafka, system.data_dir, *span)
    assert (status, said.splitlines()[-1]) == (1, "3 of 4 polled calls came by webhook; NOT safe to switch off"), said
    assert f"of ['10000', '{LOST}']" in said
    status, said = await run_parity(kafka, system.data_dir, *span, "--least", "0.7", "--format", "json")
    told = json.loads(said)
    assert (status, told["both"], told["missing"]) == (0, 3, 1)
    assert all(number not in said for _, number in CALLS)


async def the_witness_closes_them(client: httpx.AsyncClient, system: System, ended: datetime) -> None:
    closed = await eventually(
        partial(calls_of, client, system), lambda told: all(call["status"] != "open" for call in told), 60
    )
    assert {call["end_reason"] for call in closed} == {"absent_from_pbx"}
    for call in closed:
        bounds = {name: datetime.fromisoformat(at) for name, at in call["ended_between"].items()}
        assert bounds["earliest"] <= ended + timedelta(seconds=0.1)
        assert bounds["latest"] >= ended


async def the_history_fills_in_their_ends(client: httpx.AsyncClient, system: System, ended: datetime) -> None:
    filled = await eventually(
        partial(calls_of, client, system), lambda told: all(call["status"] == "ended" for call in told), 60
    )
    assert {(call["end_reason"], call["ended_at_source"]) for call in filled} == {("history", "reported")}
    for call in filled:
        assert abs(datetime.fromisoformat(call["ended_at"]) - ended) < timedelta(seconds=0.5)


async def the_page_and_the_metrics_say_it(system: System) -> None:
    """A projector begun anew reads what was polled before."""
    system.services["projections"].stop()
    system.environment["PROJECTIONS_PARITY_SETTLED_S"] = "0"
    system.start("projections")
    await system.ready()
    async with httpx.AsyncClient() as client, chromium() as browser:

        async def told() -> Any:
            return (await client.get(f"{system.board}/api/v1/parity")).json()["pbxs"]

        (one,) = await eventually(told, bool, 60)
        assert (one["pbx"], one["both"], one["holds"]) == ("default", 3, True)
        assert one["polling_only"] == {"queue_double": 1, "at_the_edge": 1}, "it began less than half a minute ago"
        metrics = (await client.get(f"{system.board}/metrics")).text
        assert 'threecx_projections_parity_completeness_ratio{pbx="default"} 1.0' in metrics
        assert 'threecx_projections_parity_calls{pbx="default",seen_by="both"} 3.0' in metrics
        page = await browser.new_page()
        complaints = watched(page)
        for language, sentence in (("en", "3 of 3 polled"), ("de", "3 von 3"), ("fr", "3 appels interrogés sur 3")):
            await page.goto(f"{system.board}/parity?lang={language}")
            await expect(page.locator(".verdict")).to_contain_text(sentence)
            await expect(page.locator(".verdict")).to_have_attribute("data-holds", "true")
            await accessible(page)
        seen = {"first_seen_at": one["from"], "last_seen_at": one["to"]}
        missing = {"pbx": "default", "id": "9", "extensions": ["<b>203</b>"], "reason": "missing", **seen}
        later = one | {"holds": False, "missing": 1, "completeness": 0.75, "missing_calls": [missing]}
        await page.route("**/api/v1/parity", lambda route: route.fulfill(json={"compared_at": None, "pbxs": [later]}))
        await page.goto(f"{system.board}/parity?lang=en")
        await expect(page.locator(".verdict")).to_have_text(
            "3 of 4 polled calls came by webhook (75%). Do not switch polling off yet."
        )
        await expect(page.locator("table").last).to_contain_text("<b>203</b>")
        await accessible(page)
        assert complaints == []
