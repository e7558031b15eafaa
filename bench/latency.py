"""From POST to the message on the event stream, the whole system running, at a steady rate.

Beside it the floor of one transaction on this broker: a call's start, written by itself, with nothing else going on.
"""

import asyncio
import json
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx

from bench.load import Connection, Measured, request
from bench.report import Line
from events.kafka import KafkaSettings, ensure_topics
from events.session import Status
from processors.settings import ProcessorsSettings
from processors.transaction import Transactions
from tests.builders import Log, run, start, zulu
from tests.system import System, kafka_environment

RATE = 200
SECONDS = 45
WARM_UP_S = 15
"""Beside a broker that has just started: its JVM compiles for so long, and takes the cores from what is measured."""
CONNECTIONS = 16
AGENTS = 150
OPEN_CALLS = 100
EVENT = "/webhook/3cx/call-event"
DRAIN_S = 5
TRANSACTIONS = 300
WARM_UP = 20
LIMIT_S = 0.1
BESIDE_S = 0.05


async def measure(kafka: KafkaSettings, folder: Path) -> list[Line]:
    """Each webhook is told apart by its call and what became of it; warm-up does not count."""
    floor = await _transactions(kafka)
    system = System(kafka, folder)
    system.start()
    try:
        await system.ready()
        measured, missing = await _run(system)
    finally:
        system.kill()
    if missing:
        raise RuntimeError(f"{missing} webhooks never came out of the event stream")
    limit_s = max(LIMIT_S, floor.percentile(0.99) + BESIDE_S)
    ratio = f"{measured.percentile(0.99) / limit_s:.2f}"
    return [
        Line("one transaction at a time, p50 / p95 / p99", _shown(floor), "-", "-"),
        Line(f"POST to event stream at {RATE}/s, the same", _shown(measured), f"{limit_s * 1e3:.0f} ms", ratio),
    ]


def _shown(measured: Measured) -> str:
    return " / ".join(f"{measured.percentile(share) * 1e3:.0f}" for share in (0.5, 0.95, 0.99)) + " ms"


async def _transactions(kafka: KafkaSettings) -> Measured:
    """One after the other, each of one webhook, on topics of their own."""
    apart = kafka.model_copy(update={"kafka_topic_prefix": f"{kafka.kafka_topic_prefix}-floor"})
    await ensure_topics(apart)
    log = Log()
    for number in range(TRANSACTIONS):
        log.webhook(number / 100, start(str(number), t=None))
    environment = {name.lower(): value for name, value in kafka_environment(apart).items()}
    settings = ProcessorsSettings(**environment)  # type: ignore[arg-type]
    transactions = Transactions(settings, 0)
    await transactions.start()
    measured = Measured(0)
    for batch in run(log.records, batch_size=1).batches:
        began = time.perf_counter()
        await transactions.commit(batch)
        measured.answers_s.append(time.perf_counter() - began)
    del measured.answers_s[:WARM_UP]
    await transactions.discard()
    return measured


async def _run(system: System) -> tuple[Measured, int]:
    sent: dict[str, float] = {}
    seen: dict[str, float] = {}
    listening = asyncio.Event()
    listener = asyncio.create_task(_listen(system, seen, listening))
    await listening.wait()
    await _post(system, sent)
    deadline = time.perf_counter() + DRAIN_S
    while len(seen) < len(sent) and time.perf_counter() < deadline:
        await asyncio.sleep(0.05)
    listener.cancel()
    first = min(sent.values()) + WARM_UP_S
    measured = Measured(SECONDS)
    measured.answers_s = [seen[one] - at for one, at in sent.items() if one in seen and at > first]
    return measured, len(sent) - len(seen)


async def _listen(system: System, seen: dict[str, float], listening: asyncio.Event) -> None:
    async with (
        httpx.AsyncClient(timeout=60) as client,
        client.stream("GET", f"{system.board}/api/v1/stream") as answer,
    ):
        async for line in answer.aiter_lines():
            listening.set()
            if line.startswith("data: {") and '"call_id"' in line:
                now = time.perf_counter()
                for call in json.loads(line[6:]).get("calls", []):
                    seen.setdefault(f"start {call['call_id']}", now)  # told by its end, too
                    if call["status"] != Status.OPEN:
                        seen.setdefault(f"end {call['call_id']}", now)


async def _post(system: System, sent: dict[str, float]) -> None:
    """Evenly spaced, whatever the answers do; a start and an end in turn, of calls of a second."""
    loop = asyncio.get_running_loop()
    port = int(system.door.rsplit(":", 1)[1])
    clients = [(await loop.create_connection(Connection, "127.0.0.1", port))[1] for _ in range(CONNECTIONS)]
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for client in clients:
        free.put_nowait(client)

    async def one(number: int, client: Connection) -> None:
        call, is_end = divmod(number, 2)
        call -= OPEN_CALLS * is_end
        if call >= 0:
            now = zulu(datetime.now(UTC))
            kind = {"endUtc": now, "duration": 1} if is_end else {"startTime": now}
            body = {"callId": str(call), "caller": f"+4122{call:07}", "agentExt": str(1000 + call % AGENTS)}
            sent[f"{'end' if is_end else 'start'} {call}"] = time.perf_counter()
            await client.exchange(request(EVENT, json.dumps({**body, "direction": "Inbound", **kind}).encode()))
        free.put_nowait(client)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(RATE * (SECONDS + WARM_UP_S)):
            await asyncio.sleep(max(0.0, began + number / RATE - time.perf_counter()))
            group.create_task(one(number, await free.get()))
    for client in clients:
        client.close()
