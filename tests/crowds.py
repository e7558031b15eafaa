"""Good clients beside bad company: ``python -m tests.crowds``, two runs on a door of their own (Kafka away).

1. 2,000 connections that are silent, or send a head or a body byte by byte, or idle; each comes back when it is closed;
2. one PBX that floods: 64 connections, as fast as they are answered, without a rate limit and with one.

Told is the time of the answer for good clients at a steady rate, before and meanwhile. Exit status 0: p99 stays below
200 ms in both, and every good webhook is accepted.
"""

import argparse
import asyncio
import random
import sys
import tempfile
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop

from bench.load import Measured, at_rate, closed_loop, request
from deploy.local.broker import free_port
from tests.hostile import listening, talk
from tests.system import Service
from tests.waiting import eventually

P99_S_MAX: Final = 0.2
RATE: Final = 100
HEAD: Final = b"POST /webhook/3cx/call-event HTTP/1.1\r\nHost: a\r\nContent-Length: 60\r\n\r\n"
BODY: Final = b'{"caller":"+41225551234","agentExt":"201"}'
FLOODED: Final = "[pbx.loud]\n[pbx.limited]\nrate_max = 200\n[pbx.quiet]\n"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What good clients saw; `p99_s` while the crowd was there."""

    what: str
    before_s: float
    p99_s: float
    wrong: int
    company: str

    def __str__(self) -> str:
        """One line."""
        return (
            f"{self.what}: p99 {self.before_s * 1e3:.0f} ms before, {self.p99_s * 1e3:.0f} ms meanwhile;"
            f" {self.wrong} good webhooks refused; {self.company}"
        )

    @property
    def is_good(self) -> bool:
        """Whether the promise was kept."""
        return self.p99_s < P99_S_MAX and not self.wrong


async def door(stack: AsyncExitStack, folder: Path, **environment: str) -> int:
    """Start a door; its port."""
    port = free_port()
    (folder / "pbx.toml").write_text(FLOODED, "utf-8")
    own = {"INGEST_PORT": str(port), "DATA_DIR": str(folder), "PBX_CONFIG": str(folder / "pbx.toml")}
    service = Service(
        "ingest", own | {"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}"} | environment, folder / "ingest.log"
    )
    stack.callback(service.kill)
    await asyncio.wait_for(listening(port), 30)
    return port


async def good(port: int, seconds: float, pbx: str = "quiet") -> Measured:
    """Good clients, at a steady rate."""
    data = request(f"/webhook/3cx/{pbx}/call-event", BODY)
    return await at_rate(port, lambda _number: data, b"202", RATE, seconds)


async def linger(port: int, number: int) -> None:
    """A bad neighbour for as long as the crowd is there: silent, slow in the head, slow in the body, or idle."""
    rng = random.Random(number)
    while True:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                await _behave(number % 4, rng, reader, writer)
            finally:
                writer.close()
        await asyncio.sleep(rng.random())


async def _behave(kind: int, rng: random.Random, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    if kind == 0:
        await reader.read()
        return
    if kind == 1:
        writer.write(HEAD + b"x" * 60)
        await reader.read()
        return
    data = HEAD if kind == 2 else b"x" * 60
    if kind == 3:
        writer.write(HEAD)
    for byte in data[:-1]:
        writer.write(bytes([byte]))
        await asyncio.sleep(0.5 + rng.random())
        if reader.at_eof():
            return


async def _connections(port: int) -> int:
    """How many the door says are open."""
    told = await talk(port, [b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"], half_close=False)
    line = next(one for one in told.decode().splitlines() if one.startswith("threecx_ingest_connections "))
    return int(float(line.split()[1]))


async def beside_the_slow(folder: Path, connections: int, seconds: float) -> Verdict:
    """Run 1."""
    async with AsyncExitStack() as stack:
        port = await door(stack, folder)
        before = await good(port, seconds / 2)
        # A process of its own: its work must not be taken for the door's.
        neighbours = Service(
            "tests.crowds", {}, folder / "crowd.log", "--crowd", str(port), "--connections", str(connections)
        )
        stack.callback(neighbours.kill)
        await eventually(lambda: _connections(port), lambda found: found >= connections * 3 // 5, 60)
        meanwhile = await good(port, seconds)
        open_at_the_end = await _connections(port)
    company = f"{open_at_the_end} connections open"
    return Verdict(
        f"{connections} slow connections", before.percentile(0.99), meanwhile.percentile(0.99), meanwhile.wrong, company
    )


async def beside_the_loud(folder: Path, pbx: str, seconds: float) -> Verdict:
    """Run 2."""
    async with AsyncExitStack() as stack:
        port = await door(stack, folder)
        before = await good(port, seconds / 2)
        data = request(f"/webhook/3cx/{pbx}/call-event", BODY)
        flood = asyncio.create_task(closed_loop(port, lambda _number: data, b"202", 64, seconds + 1))
        await asyncio.sleep(0.5)
        meanwhile = await good(port, seconds)
        loud = await flood
    company = f"the other PBX sent {loud.rate:.0f}/s, {loud.wrong / loud.seconds:.0f}/s of them refused"
    return Verdict(
        f"a PBX that floods ({pbx})", before.percentile(0.99), meanwhile.percentile(0.99), meanwhile.wrong, company
    )


async def crowd(port: int, connections: int) -> None:
    """The bad neighbours, until killed."""
    await asyncio.gather(*(linger(port, number) for number in range(connections)))


async def run(connections: int, seconds: float, folder: Path) -> list[Verdict]:
    """Both runs."""
    verdicts = []
    for number, one in enumerate((None, "loud", "limited")):
        own = folder / str(number)
        own.mkdir()
        made = beside_the_slow(own, connections, seconds) if one is None else beside_the_loud(own, one, seconds)
        verdicts.append(await made)
    return verdicts


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.crowds")
    parser.add_argument("--connections", type=int, default=2_000)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--crowd", type=int, metavar="PORT", help="only be the crowd")
    options = parser.parse_args()
    if options.crowd is not None:
        uvloop.run(crowd(options.crowd, options.connections))
    with tempfile.TemporaryDirectory() as folder:
        verdicts = asyncio.run(run(options.connections, options.seconds, Path(folder)))
    print("\n".join(map(str, verdicts)))
    return 0 if all(one.is_good for one in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
