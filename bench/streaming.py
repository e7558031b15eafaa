"""From the session topic to 1,000 event streams at 50 changes a second, as every fiftieth of them sees it."""

import asyncio
import json
import time
from pathlib import Path

import httpx
import psutil

from bench.reading import answers
from bench.report import Line
from events.kafka import KafkaSettings
from processors.task import InputRecord
from tests.system import System, producing
from tests.test_projections_on_kafka import session_records
from tests.waiting import eventually

CLIENTS = 1_000
LOOKED_AT = 50
RATE = 50
SECONDS = 30
WARM_UP_S = 5
DRAIN_S = 20
LIMIT_MS = 500
REQUEST = b"GET /api/v1/stream HTTP/1.1\r\nHost: bench\r\n\r\n"
Change = tuple[str, int]


async def measure(kafka: KafkaSettings, folder: Path) -> list[Line]:
    """The clients share the machine with the service and the broker."""
    system = System(kafka, folder)
    system.start("projections")
    try:
        return await _run(kafka, system)
    finally:
        system.kill()


async def _run(kafka: KafkaSettings, system: System) -> list[Line]:
    port = int(system.board.rsplit(":", 1)[1])
    async with httpx.AsyncClient(base_url=system.board) as asking:
        await eventually(lambda: answers(asking), timeout_s=60)  # before, a stream is refused
    sent: dict[Change, float] = {}
    taken: list[float] = []
    connected = asyncio.Semaphore(0)
    clients = []
    for number in range(CLIENTS):
        look = number % LOOKED_AT == 0
        clients.append(asyncio.create_task(_client(port, connected, sent, taken if look else None)))
        await connected.acquire()
    service = psutil.Process(system.services["projections"].pid)
    began, spent = time.perf_counter(), sum(service.cpu_times()[:2])
    count = await _send(kafka, sent)
    cores = (sum(service.cpu_times()[:2]) - spent) / (time.perf_counter() - began)
    expected = count * (CLIENTS // LOOKED_AT)
    deadline = time.perf_counter() + DRAIN_S
    while len(taken) < expected and time.perf_counter() < deadline:
        await asyncio.sleep(0.1)
    ended = sum(client.done() for client in clients)
    for client in clients:
        client.cancel()
    if ended or len(taken) < expected:
        raise RuntimeError(f"{ended} streams ended; {expected - len(taken)} changes of {expected} did not come")
    taken.sort()
    p50, p99 = (taken[int(share * (len(taken) - 1))] * 1e3 for share in (0.5, 0.99))
    what = f"change to {CLIENTS:,} event streams at {RATE}/s, p50 / p99"
    return [
        Line(what, f"{p50:.0f} / {p99:.0f} ms", f"{LIMIT_MS} ms", f"{p99 / LIMIT_MS:.2f}"),
        Line("cores that the service took for it", f"{cores:.2f}", "-", "-"),
    ]


async def _send(kafka: KafkaSettings, sent: dict[Change, float]) -> int:
    """Evenly spaced; how many changes count: the ends, but for those of the warm-up."""
    records: list[InputRecord] = session_records(RATE * (SECONDS + WARM_UP_S) // 2)
    changes = [(record, json.loads(record.value or b"{}")) for record in records]
    changes = [(record, told) for record, told in changes if "session_id" in told]
    count = 0
    async with producing(kafka) as producer:
        began = time.perf_counter()
        for number, (record, told) in enumerate(changes):
            await asyncio.sleep(max(0.0, began + number / RATE - time.perf_counter()))
            # A start may be told together with its end, as one state; every end is told.
            if number >= RATE * WARM_UP_S and told["type"] == "call.ended":
                sent[told["session_id"], told["revision"]] = time.perf_counter()
                count += 1
            await producer.send(
                kafka.topic_set.call_sessions,
                record.value,
                record.key,
                partition=record.partition,
                headers=list(record.headers),
            )
    return count


async def _client(
    port: int, connected: asyncio.Semaphore, sent: dict[Change, float], taken: list[float] | None
) -> None:
    """Reads all, looks at nothing unless `taken` is there to be filled."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=16_000_000)
    writer.write(REQUEST)
    await reader.readuntil(b"event: snapshot")
    connected.release()
    if taken is None:
        while await reader.read(65_536):
            pass
        return
    while line := await reader.readline():
        if line.startswith(b"data: ") and b'"revision"' in line:
            now = time.perf_counter()
            calls = json.loads(line[6:]).get("calls", [])
            known = [sent.get((call["session_id"], call["revision"])) for call in calls]
            taken.extend(now - at for at in known if at is not None)
