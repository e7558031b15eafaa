"""Accepted (synced) webhooks per second and the time of the answer, against a bare 204 and a plain Kafka endpoint."""

import asyncio
import functools
import json
import subprocess
import sys
from pathlib import Path

import psutil

from bench.load import Measured, at_rate, closed_loop, request
from bench.report import Line, compared
from deploy.local.broker import die_with_parent, free_port
from events.kafka import KafkaSettings
from tests.builders import end
from tests.system import System

CONNECTIONS = 64
SECONDS = 4.0
WARM_S = 3.0
"""Before the rounds: the broker is a Java process that was just started, and what it compiles is no webhook's cost."""
ROUNDS = 3
REQUESTS = 5_000
RATE = 500
STEADY_S = 6.0
EVENT = "/webhook/3cx/call-event"


def body(number: int) -> bytes:
    """An end, each a call of its own."""
    return json.dumps(end(callId=str(number), party=f"+4122{number:08}")).encode()


@functools.cache
def _made(number: int) -> bytes:
    return request(EVENT, body(number))


async def measure(kafka: KafkaSettings, folder: Path) -> list[Line]:
    """Rounds in turn: ours, bare, plain; then a steady rate, with Kafka up and with Kafka away."""
    system = System(kafka, folder)
    system.start("ingest")
    await system.ready()
    bare_port, plain_port = free_port(), free_port()
    peers = [
        _peer("bench.bare", str(bare_port)),
        _peer("bench.plain", str(plain_port), kafka.kafka_bootstrap_servers, kafka.topic_set.webhooks),
    ]
    ours_port = _port(system)
    rounds: list[tuple[Measured, Measured, Measured]] = []
    try:
        await _listening(bare_port)
        await _listening(plain_port)
        for port, expected in ((ours_port, b"202"), (bare_port, b"204"), (plain_port, b"202")):
            await closed_loop(port, lambda n: _made(n % REQUESTS), expected, CONNECTIONS, WARM_S)
        for _ in range(ROUNDS):
            ours = await _most(ours_port, b"202", system.services["ingest"].pid)
            bare = await _most(bare_port, b"204", peers[0].pid)
            rounds.append((ours, bare, await _most(plain_port, b"202", peers[1].pid)))
        slow = await closed_loop(ours_port, lambda n: request(EVENT, body(n)), b"202", 1, SECONDS / 2)
        steady = await at_rate(ours_port, lambda n: request(EVENT, body(n)), b"202", RATE, STEADY_S)
    finally:
        for peer in peers:
            peer.kill()
            peer.wait()
        system.kill()
    away = await _with_kafka_away(kafka, folder)
    wrong = sum(one.wrong for each in rounds for one in each) + slow.wrong + steady.wrong + away.wrong
    if wrong:
        raise RuntimeError(f"{wrong} answers were not the expected ones")
    return [
        compared("accepted webhooks, synced (bare: 204)", "/s", [(ours.rate, bare.rate) for ours, bare, _ in rounds]),
        compared("the same (bare: FastAPI, send_and_wait)", "/s", [(ours.rate, peer.rate) for ours, _, peer in rounds]),
        compared(
            "CPU of the server for one (bare: 204)", "µs", [(_cost(ours), _cost(bare)) for ours, bare, _ in rounds]
        ),
        compared(
            "the same (bare: FastAPI, send_and_wait)", "µs", [(_cost(ours), _cost(peer)) for ours, _, peer in rounds]
        ),
        *(
            compared(
                f"answer at {CONNECTIONS} connections, p{share:.0%}".replace("%", ""),
                "µs",
                [(ours.percentile(share) * 1e6, bare.percentile(share) * 1e6) for ours, bare, _ in rounds],
            )
            for share in (0.5, 0.99)
        ),
        Line("answer, one at a time, p50 / p99", _milliseconds(slow), "-", "-"),
        Line(f"answer at {RATE}/s, p50 / p99", _milliseconds(steady), "-", "-"),
        Line(f"answer at {RATE}/s, Kafka away, p50 / p99", _milliseconds(away), "-", "-"),
    ]


async def _with_kafka_away(kafka: KafkaSettings, folder: Path) -> Measured:
    nowhere = kafka.model_copy(update={"kafka_bootstrap_servers": f"127.0.0.1:{free_port()}"})
    own = folder / "away"
    own.mkdir()
    system = System(nowhere, own)
    system.start("ingest")
    try:
        await _listening(_port(system))
        return await at_rate(_port(system), lambda n: request(EVENT, body(n)), b"202", RATE, STEADY_S)
    finally:
        system.kill()


async def _most(port: int, expected: bytes, pid: int) -> Measured:
    """As many as are answered; `cpu_s` is what the server `pid` spent on them, forwarding included."""
    server = psutil.Process(pid)
    before = server.cpu_times()
    measured = await closed_loop(port, lambda n: _made(n % REQUESTS), expected, CONNECTIONS, SECONDS)
    after = server.cpu_times()
    measured.cpu_s = after.user + after.system - before.user - before.system
    return measured


def _cost(one: Measured) -> float:
    """Microseconds of the server's CPU for one answer: unlike the rate, the same on a machine that others use, too."""
    return one.cpu_s / len(one.answers_s) * 1e6


def _peer(module: str, *arguments: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", module, *arguments], preexec_fn=die_with_parent)


def _port(system: System) -> int:
    return int(system.door.rsplit(":", 1)[1])


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
