"""The whole way, as a newcomer walks it: webhooks in by HTTP, calls out by API, event stream and wallboard."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from playwright.async_api import expect

from deploy.local.brokers import AnyBroker
from events.kafka import KafkaSettings
from tests.browser import chromium
from tests.builders import zulu
from tests.system import System, calls_of, post
from tests.waiting import eventually

Json = dict[str, Any]


def seed_start(began: datetime, **more: str) -> Json:
    """The seed's start sample, with the time of today."""
    return {
        "caller": "+41225551234",
        "callee": "+41225555678",
        "agentExt": "201",
        "agentMail": "agent@company.com",
        "direction": "Inbound",
        "startTime": zulu(began),
    } | more


def seed_end(ended: datetime, **more: str) -> Json:
    """The seed's end sample, with the time of today."""
    return {
        "callId": "12345",
        "caller": "+41225551234",
        "callee": "+41225555678",
        "agentExt": "201",
        "agentMail": "agent@company.com",
        "direction": "Inbound",
        "duration": "00:04:32",
        "wav": "https://pbx.company.com/recordings/12345.wav",
        "endUtc": zulu(ended),
    } | more


async def test_the_seeds_samples_give_one_call_and_the_agent_goes_on_call_and_back(system: System) -> None:
    ended = datetime.now(UTC).replace(microsecond=0)
    began = ended - timedelta(seconds=272)
    async with httpx.AsyncClient() as client, chromium() as browser:
        page = await browser.new_page()
        await page.goto(system.board)
        sent = [seed_start(began), seed_end(ended)]
        await post(client, system, sent[0])
        card = page.locator('[data-key="default/201"]')
        await expect(card).to_have_attribute("data-status", "on_call", timeout=3000)
        await expect(card.locator(".party")).to_contain_text("+41225551234")
        await post(client, system, sent[1])
        await expect(card).to_have_attribute("data-status", "available", timeout=3000)
        await expect(page.locator("#last tr")).to_have_count(1)
        (call,) = await calls_of(client, system)
        agent = (await client.get(f"{system.board}/api/v1/agents/default/201")).json()
        why = (await client.get(f"{system.board}/api/v1/calls/{call['session_id']}/why")).json()
        raw = (await client.get(f"{system.board}/api/v1/calls/{call['session_id']}/records")).json()
    assert [json.loads(record["body"]) for record in raw["records"]] == sent
    assert (call["status"], call["outcome"], call["duration_s"], call["span_s"]) == ("ended", "answered", 272, 272)
    assert (call["started_at"], call["started_at_source"]) == (zulu(began), "reported")
    assert (call["ended_at"], call["ended_at_source"]) == (zulu(ended), "reported")
    assert call["recording_url"] == "https://pbx.company.com/recordings/12345.wav"
    assert (agent["status"], agent["calls"], agent["last_call"]) == ("available", [], call["session_id"])
    of_today = agent["today"]["day"] == began.date().isoformat()  # its day is that of its start
    assert (agent["today"]["answered"], agent["today"]["talk_s"]) == ((1, 272) if of_today else (0, 0))
    assert [event["reason"] for event in why["revisions"]] == ["started", "end_matched_by_party"]
    assert system.stop() == {"ingest": 0, "processors": 0, "projections": 0}


async def test_kills_of_every_service_in_the_middle_of_calls_lose_and_double_nothing(system: System) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    prefixes = {"projections": "0791", "processors": "0792", "ingest": "0793"}
    expected = 0
    async with httpx.AsyncClient() as client:
        for name, prefix in prefixes.items():
            for number in range(20):
                agent = f"{prefix}-{number}"
                party = f"{prefix}{number:06}"
                await post(client, system, seed_start(now - timedelta(seconds=272), agentExt=agent, caller=party))
                expected += 1
            system.services[name].kill()
            system.start(name)
            await system.ready()
            for number in range(20):
                agent = f"{prefix}-{number}"
                party = f"{prefix}{number:06}"
                await post(client, system, seed_end(now, agentExt=agent, caller=party, callId=f"{name}{number}"))

        async def ended() -> list[Json]:
            return [call for call in await calls_of(client, system) if call["status"] == "ended"]

        found = await eventually(ended, lambda seen: len(seen) >= expected, 40)
        everything = await calls_of(client, system)
    assert len(everything) == len(found) == expected
    assert {(call["revision"], call["duration_s"], call["started_at_source"]) for call in found} == {
        (2, 272, "reported")
    }


async def test_with_kafka_killed_every_webhook_is_accepted_and_shown_once_afterwards(
    own_broker: AnyBroker, topic_prefix: str, tmp_path: Path
) -> None:
    settings = KafkaSettings(
        kafka_bootstrap_servers=own_broker.bootstrap_servers, kafka_topic_prefix=topic_prefix, kafka_topic_partitions=4
    )
    system = System(settings, tmp_path, INGEST_FORWARD_TIMEOUT_S="3")
    system.start()
    try:
        await system.ready()
        now = datetime.now(UTC).replace(microsecond=0)
        async with httpx.AsyncClient() as client:
            own_broker.kill()
            bodies = [seed_end(now, callId=str(n), agentExt=str(n % 9), caller=f"+41225{n:06}") for n in range(300)]
            ids = [await post(client, system, body) for body in bodies]
            assert len(set(ids)) == len(ids)
            health = (await client.get(f"{system.door}/webhook/3cx/health")).json()
            assert health["journal"]["records"] == len(bodies)
            own_broker.spawn()
            await asyncio.to_thread(own_broker.wait_until_answering)

            async def seen() -> int:
                return len(await calls_of(client, system))

            await eventually(seen, lambda count: count >= len(bodies), 60)
            found = await calls_of(client, system)
            assert sorted(int(call["call_id"]) for call in found) == list(range(300))

            async def depth() -> Json:
                told: Json = (await client.get(f"{system.door}/webhook/3cx/health")).json()
                return told

            emptied = await eventually(
                depth, lambda told: told["journal"]["records"] == 0 and told["kafka"]["reachable"]
            )
            assert emptied["status"] == "ok"
    finally:
        system.kill()


async def test_the_event_stream_resumes_without_a_gap(system: System) -> None:
    async with httpx.AsyncClient(timeout=20) as client:
        first, last_id = await listen(client, system, None, 1)
        assert first[0][0] == "snapshot"
        ended = datetime.now(UTC).replace(microsecond=0)
        for number in range(5):
            await post(client, system, seed_end(ended, callId=str(number), caller=f"+4122555000{number}"))

        async def seen() -> int:
            return len(await calls_of(client, system))

        await eventually(seen, lambda count: count == 5)
        missed, resumed_id = await listen(client, system, last_id, 1, until_calls=5)
        # A feed that wakes up is told as a snapshot, too: only the numbers show that nothing is missing.
        assert number_of(resumed_id) == number_of(last_id) + len(missed)
        told = [call["call_id"] for name, data in missed if name == "change" for call in data["calls"]]
        assert sorted(told) == [str(number) for number in range(5)]


def number_of(event_id: str) -> int:
    return int(event_id.rpartition("-")[2])


async def listen(
    client: httpx.AsyncClient, system: System, last_id: str | None, count: int, until_calls: int = 0
) -> tuple[list[tuple[str, Json]], str]:
    """Read the stream until `count` messages and `until_calls` calls have come; returns them and the last id."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    messages: list[tuple[str, Json]] = []
    name, identity, told = "", "", 0
    async with client.stream("GET", f"{system.board}/api/v1/stream", headers=headers) as answer:
        async for line in answer.aiter_lines():
            field, _, value = line.partition(": ")
            if field == "id":
                identity = value
            elif field == "event":
                name = value
            elif field == "data":
                data: Json = json.loads(value)
                messages.append((name, data))
                told += len(data.get("calls", [])) if name == "change" else 0
                if len(messages) >= count and told >= until_calls:
                    break
    return messages, identity
