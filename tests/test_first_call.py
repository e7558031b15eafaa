"""The guided first call, with the real services: facts are ticked off as they come."""

import asyncio
import sys
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from projections.first_call import told
from tests.system import System, post
from tests.test_end_to_end import seed_end, seed_start


async def test_the_first_call_is_ticked_off_fact_by_fact(system: System) -> None:
    words = [sys.executable, "-u", "-m", "projections.first_call", "--url", system.board, "--timeout", "60"]
    watching = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    assert watching.stdout is not None
    assert (await watching.stdout.readline()).startswith(b"waiting")
    began = datetime.now(UTC) - timedelta(seconds=1.8)
    async with httpx.AsyncClient() as client:
        await post(client, system, seed_start(began))
        start = (await watching.stdout.readline()).decode()
        clock = (await watching.stdout.readline()).decode()
        await post(client, system, seed_end(datetime.now(UTC), duration="00:00:10"))
    rest, _ = await watching.communicate()
    assert start.split() == ["start", "✔", "inbound,", "+41225551234", "to", "+41225555678,", "agent", "201"]
    assert clock.startswith("    clock ✔ +")
    assert rest.decode().splitlines() == [
        "      end ✔ answered, duration 10 s",
        "recording ✔ https://pbx.company.com/recordings/12345.wav",
    ]
    assert watching.returncode == 0


async def test_an_api_that_is_not_there_is_said_and_is_no_success() -> None:
    words = [sys.executable, "-m", "projections.first_call", "--url", "http://127.0.0.1:9"]
    watching = await asyncio.create_subprocess_exec(*words, stdout=-3, stderr=asyncio.subprocess.PIPE)
    _, said = await watching.communicate()
    assert (watching.returncode, b"does not answer" in said) == (1, True)


CALL = {
    "agent": {"extension": "201", "email": None},
    "direction": "inbound",
    "caller": "+41225551234",
    "callee": None,
    "status": "ended",
    "outcome": "missed",
    "started_at": "2026-11-25T14:30:00Z",
    "started_at_source": "derived",
    "ended_at": "2026-11-25T14:30:09Z",
    "ended_at_source": "reported",
    "end_reason": "released",
    "duration_s": 0,
    "recording_url": None,
    "first_received_at": "2026-11-25T14:30:10.500Z",
}


@pytest.mark.parametrize(
    ("more", "name", "expected"),
    [
        ({}, "start", "- none came"),
        ({}, "recording", "- none was sent"),
        ({}, "clock", "✔ +1.5 s"),
        ({"first_received_at": "2026-11-25T15:30:10Z"}, "clock", "✘ +3601 s"),
        ({"ended_at": None, "started_at": None}, "clock", "- no time was sent"),
        ({"status": "end_missed", "end_reason": "timeout"}, "end", "✘ it never came (timeout)"),
    ],
)
def test_what_did_not_come_is_said_too(more: dict[str, str | None], name: str, expected: str) -> None:
    assert told(CALL | more)[name].startswith(expected)
