"""A live run's records, values and headers, under every published version of the schemas."""

import json
from pathlib import Path

import httpx

from events.kafka import KafkaSettings
from tests.builders import end, start
from tests.system import System, read_committed
from tests.test_schemas import assert_valid, text_of
from tests.waiting import eventually


async def test_what_a_live_run_writes_is_valid(kafka: KafkaSettings, tmp_path: Path) -> None:
    names = kafka.topic_set
    system = System(kafka, tmp_path)
    try:
        system.start("ingest", "processors")
        await system.ready()
        async with httpx.AsyncClient() as client:
            for body in (start(), end(), {"nothing": "of a call"}):
                await client.post(f"{system.door}/webhook/3cx/call-event", json=body)

        async def kinds() -> set[str]:
            return {json.loads(one.value)["type"] for one in await read_committed(kafka, names.call_sessions)}

        await eventually(kinds, lambda seen: seen >= {"call.started", "call.ended", "threecx.feed.progress"}, 40)
        await eventually(lambda: read_committed(kafka, names.dead_letters), timeout_s=40)
    finally:
        system.kill()
    for record in await read_committed(kafka, names.call_sessions):
        message = json.loads(record.value)
        assert_valid(message["type"], message)
        assert_valid("headers.session-event", text_of(record.headers))
    for record in await read_committed(kafka, names.webhooks):
        headers = text_of(record.headers)
        assert_valid("headers.tick" if headers["ce_type"] == "threecx.clock.tick" else "headers.webhook", headers)
    for record in await read_committed(kafka, names.dead_letters):
        assert_valid("headers.dead-letter", text_of(record.headers))
