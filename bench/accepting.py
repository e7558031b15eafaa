"""Accepted (synced) webhooks per second and the time of the answer, against a bare handler on the same server."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

from bench.load import Measured, closed_loop, request
from bench.report import Line, compared
from deploy.local.broker import die_with_parent, free_port
from events.kafka import KafkaSettings
from tests.builders import end
from tests.system import System

CONNECTIONS = 64
SECONDS = 4.0
ROUNDS = 3
EVENT = "/webhook/3cx/call-event"


def body(number: int) -> bytes:
    """An end, each a call of its own."""
    return json.dumps(end(callId=str(number), party=f"+4122{number:08}")).encode()


async def measure(kafka: KafkaSettings, folder: Path) -> list[Line]:
    """Rounds in turn: ours, bare."""
    system = System(kafka, folder)
    system.start("ingest")
    await system.ready()
    port = free_port()
    bare = subprocess.Popen([sys.executable, "-m", "bench.bare", str(port)], preexec_fn=die_with_parent)
    ours_port = int(system.door.rsplit(":", 1)[1])
    rounds: list[tuple[Measured, Measured]] = []
    try:
        await _listening(port)
        for _ in range(ROUNDS):
            ours = await closed_loop(ours_port, lambda n: request(EVENT, body(n)), b"202", CONNECTIONS, SECONDS)
            theirs = await closed_loop(port, lambda n: request(EVENT, body(n)), b"204", CONNECTIONS, SECONDS)
            rounds.append((ours, theirs))
        slow = await closed_loop(ours_port, lambda n: request(EVENT, body(n)), b"202", 1, SECONDS / 2)
    finally:
        bare.kill()
        bare.wait()
        system.kill()
    wrong = sum(one.wrong for pair in rounds for one in pair) + slow.wrong
    if wrong:
        raise RuntimeError(f"{wrong} answers were not the expected ones")
    return [
        compared("accepted webhooks, synced (bare: 204)", "/s", [(ours.rate, theirs.rate) for ours, theirs in rounds]),
        *(
            compared(
                f"answer at {CONNECTIONS} connections, p{share:.0%}".replace("%", ""),
                "µs",
                [(ours.percentile(share) * 1e6, theirs.percentile(share) * 1e6) for ours, theirs in rounds],
            )
            for share in (0.5, 0.99)
        ),
        Line("answer, one at a time, p50 / p99", _milliseconds(slow), "-", "-"),
    ]


def _milliseconds(one: Measured) -> str:
    return f"{one.percentile(0.5) * 1e3:.2f} / {one.percentile(0.99) * 1e3:.2f} ms"


async def _listening(port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
