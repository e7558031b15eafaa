"""Hostile bytes at the real door: ``python -m tests.hostile --requests 200000 --seed 1``.

Requests are built from parts that are right, and then bent: lengths, codings, chunks, header lines, targets, bodies,
single bytes, pieces that come one by one. Of every answer it is asked: is it whole, is its status declared, is an error
a problem+json, and is no event accepted that did not show the secret. At the end the door must be the same process, no
fatter, and take a good webhook. Exit status 0: nothing was found.
"""

import argparse
import asyncio
import json
import logging
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from deploy.local.broker import free_port
from ingest.openapi import document
from tests.system import Service

SECRET: Final = b"right-7c1f"
SECRET_LINE: Final = b"X-Webhook-Secret: " + SECRET
CONNECTIONS: Final = 48
GROWTH_BYTES_MAX: Final = 64 * 1024 * 1024
WARM_UP: Final = 4_000
PATHS: Final = (
    *(
        b"/webhook/3cx/call-event",
        b"/webhook/3cx/default/call-event",
        b"/webhook/3cx/test",
        b"/webhook/3cx/nobody/test",
    ),
    *(
        b"/webhook/3cx/health",
        b"/metrics",
        b"/openapi.json",
        b"/",
        b"*",
        b"http://a/webhook/3cx/test",
        b"//x",
        b"/%00%zz",
    ),
    *(b"http://[/webhook", b"/webhook/3cx/%64efault/call-event?x=1#y", b"/webhook/3cx/../test", b""),
)
BODIES: Final = (
    *(b'{"caller":"+41225551234","agentExt":"201"}', b"", b"{}", b"null", b"[1]", b'"x"', b"caller=%2B41&agentExt=2"),
    *(
        b"[" * 30_000,
        b'{"a":' * 9_000,
        b"9" * 40_000,
        b'{"duration":' + b"9" * 20_000 + b"}",
        b'{"a":NaN,"b":-Infinity}',
    ),
    *(
        b'{"caller":"1","caller":"2"}',
        b'{"caller":"\\ud800"}',
        b'{"caller":"\\u0000"}',
        b'{"caller":"\0"}',
        b"\xff\xfe{\x00",
    ),
    *(
        b"\xef\xbb\xbf{}",
        b"a=1&" * 15_000,
        b'{"startTime":"0000-99-99T99:99:99Z","duration":"99:99:99"}',
        b"\x1f\x8b\x08",
    ),
    *(b'{"endUtc":"9999-12-31T23:59:60+99:99","duration":"-1"}', b'{"' + b"k" * 60_000 + b'":1}', b'{"a":1e999999}'),
    *(
        b'{"duration":1e400,"startTime":1e300}',
        b'{"caller":{"a":[]},"agentExt":[1]}',
        b"%" * 50_000,
        b'{"caller":"\xf0\x9f"}',
    ),
)
LINES: Final = (
    *(
        b"Content-Length: 5",
        b"Content-Length: -1",
        b"Content-Length: 0x5",
        b"Content-Length: 1000000000",
        b"Content-Length:",
    ),
    *(b"Content-Length: 18446744073709551616", b"Content-Length: " + b"0" * 5_000 + b"5", b"Content-Length: 5,5"),
    *(
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: chunked, chunked",
        b"Transfer-Encoding: gzip",
        b"TE: trailers",
    ),
    *(
        b"Transfer-Encoding:\x0bchunked",
        b"Transfer-Encoding : chunked",
        b"Connection: close",
        b"Connection: upgrade, x",
    ),
    *(
        b"Upgrade: h2c",
        b"Upgrade: websocket",
        b"Expect: 100-continue",
        b"Expect: 200-ok",
        b"Host: b",
        b"Host:",
        b" folded",
    ),
    *(b"\tfolded", b"X: \x00", b"X: \r", b"X\xff: y", b": y", b"X", b"X-Webhook-Secret: wrong", b"X-Webhook-Secret:"),
    *(b"X-Webhook-Secret: \xff\xfe", b"Content-Encoding: gzip", b"Content-Encoding: identity", b"Content-Type: \xff"),
    *(
        b"Content-Type: application/json; charset=utf-7",
        b"Content-Type: text/x; charset=idna",
        b"Content-Type: multipart/x",
    ),
    *(b"X-Forwarded-For: " + b"1," * 3_000, b"X: " + b"y" * 17_000, b"webhook-id: a", b"webhook-timestamp: 1e400"),
    *(
        b"webhook-signature: v1,\xff v1",
        b"Keep-Alive: x",
        b"Trailer: Host",
        b"Range: bytes=0-",
        b"Cookie: " + b"=;" * 99,
    ),
)
Mutation = Callable[[random.Random, bytes], bytes]


def chunked(rng: random.Random, body: bytes) -> bytes:
    """The body in chunks, not all of them right."""
    parts: list[bytes] = []
    while body and len(parts) < 50:
        length = rng.choice((1, 7, 100, len(body)))
        size = rng.choice((b"%x", b"%X", b"0%x", b"%x;a=b", b"%x;" + b"e" * 300, b"%x ", b"-%x", b"%x" + b"0" * 17))
        head = size % min(length, len(body)) if rng.random() < 0.1 else b"%x" % min(length, len(body))
        end = b"\r\n" if rng.random() < 0.98 else rng.choice((b"\n", b"", b"\r", b"x\r\n"))
        parts.append(head + b"\r\n" + body[:length] + end)
        body = body[length:]
    last = (
        b"0\r\n\r\n"
        if rng.random() < 0.9
        else rng.choice((b"0\r\nX: y\r\n\r\n", b"0\n\n", b"", b"00000\r\nHost: a\r\n\r\n"))
    )
    return b"".join(parts) + last


def request(rng: random.Random) -> bytes:
    """One request, right or bent in its parts."""
    method = rng.choices(
        (b"POST", b"GET", b"HEAD", b"PUT", b"CONNECT", b"OPTIONS", b"PRI", b"post"), (30, 3, 2, 1, 1, 1, 1, 1)
    )[0]
    version = rng.choices(
        (b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.10", b"http/1.1", b""), (60, 5, 1, 1, 1, 1, 1)
    )[0]
    path = PATHS[0] if rng.random() < 0.6 else rng.choice(PATHS)
    body = BODIES[0] if rng.random() < 0.4 else rng.choice(BODIES)
    lines = [b"Host: a", *([SECRET_LINE] if rng.random() < 0.8 else [])]
    if rng.random() < 0.2:
        lines.append(b"Transfer-Encoding: chunked")
        body = chunked(rng, body)
    else:
        lines.append(b"Content-Length: %d" % len(body))
    lines += rng.sample(LINES, rng.choices((0, 1, 2, 5), (50, 35, 10, 5))[0])
    if rng.random() < 0.3:
        rng.shuffle(lines)
    if rng.random() < 0.01:
        lines += [b"X%d: y" % number for number in range(3_000)]
    end = b"\r\n" if rng.random() < 0.97 else rng.choice((b"\n", b"\r", b"\r\r\n", b"\n\r"))
    return end.join([method + b" " + path + b" " + version, *lines, b"", b""]) + body


def bent(rng: random.Random, data: bytes) -> bytes:
    """Some bytes flipped, left out, repeated or put in."""
    for _ in range(rng.choices((0, 1, 2, 8), (60, 25, 10, 5))[0]):
        near = min(len(data), 400) if rng.random() < 0.9 else len(data)
        begin = rng.randrange(near + 1)
        end = min(len(data), begin + rng.choice((0, 1, 1, 4, 30)))
        piece = rng.choice(
            (
                b"",
                bytes([rng.randrange(256)]),
                data[begin:end] * 2,
                b"\r\n",
                b"\0",
                b"\r\n\r\n",
                b" ",
                b"\n",
                b"\x80",
                b"A" * 999,
            )
        )
        data = data[:begin] + piece + data[end:]
    return data


@dataclass(slots=True)
class Found:
    """What came of the requests; `wrong` holds a sentence and the bytes that led to it."""

    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[tuple[str, bytes]] = field(default_factory=list)
    slow: list[float] = field(default_factory=list)


def answers_in(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Status, head and body of every answer; raises ValueError when something else is in between."""
    while data:
        head, separator, rest = data.partition(b"\r\n\r\n")
        if not separator or not head.startswith(b"HTTP/1.1 "):
            message = "an answer is not whole"
            raise ValueError(message)
        status = int(head[9:12])
        at = head.find(b"content-length: ")
        length = 0 if status == 100 else int(head[at + 16 :].split(b"\r\n", 1)[0])
        is_bodiless = rest.startswith(b"HTTP/1.1 ") or not rest  # an answer to HEAD
        body, data = (b"", rest) if is_bodiless else (rest[:length], rest[length:])
        if not is_bodiless and len(body) != length:
            message = "a body is not whole"
            raise ValueError(message)
        yield status, head, body


DECLARED: Final = frozenset(
    int(status) for path in document()["paths"].values() for one in path.values() if "responses" in one
    for status in one["responses"]
) | {100}  # fmt: skip


def judge(found: Found, sent: bytes, answered: bytes) -> None:
    """Look at everything that came back for what was sent on one connection."""
    try:
        told = list(answers_in(answered))
    except ValueError as error:
        found.wrong.append((str(error), sent))
        return
    for status, head, body in told:
        found.statuses[str(status)] += 1
        if status not in DECLARED or status == 500:
            found.wrong.append((f"{status} is not declared", sent))
        if status >= 400 and body and json.loads(body)["status"] != status:
            found.wrong.append(("a problem with another status", sent))
        if status >= 400 and b"content-type: application/problem+json" not in head:
            found.wrong.append(("an error that is no problem+json", sent))
    accepted = sum(status == 202 for status, _, _ in told)
    if accepted > sent.count(SECRET):
        found.wrong.append(("accepted without the secret", sent))
    if not told:
        found.statuses["closed without a word"] += 1


async def talk(port: int, pieces: list[bytes], *, half_close: bool) -> bytes:
    """Send the pieces; everything that comes back until the door closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        with suppress(OSError):  # the door has ended the connection already: what it said comes all the same
            for piece in pieces:
                writer.write(piece)
                if len(pieces) > 1:
                    await asyncio.sleep(0)
            if half_close:
                writer.write_eof()
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def cut(rng: random.Random, data: bytes) -> list[bytes]:
    """In one piece, or in up to ten."""
    if rng.random() < 0.7:
        return [data]
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(1, 10)))
    return [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True) if begin < end]


async def attack(port: int, seed: int, requests: int, found: Found) -> None:
    """So many requests over one connection after the other."""
    rng = random.Random(seed)
    while requests > 0:
        count = rng.choices((1, 2, 5), (80, 15, 5))[0]
        data = b"".join(bent(rng, request(rng)) for _ in range(count))
        requests -= count
        began = time.perf_counter()
        # Now and then nobody says that no more comes, and the door has to find its own end.
        answered = await talk(port, cut(rng, data), half_close=rng.random() < 0.998)
        found.slow.append(time.perf_counter() - began)
        judge(found, data, answered)


GOOD: Final = (
    b"POST /webhook/3cx/call-event HTTP/1.1\r\nHost: a\r\n"
    + SECRET_LINE
    + b"\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
)


async def listening(port: int) -> None:
    """Wait for the door."""
    while True:
        try:
            if b" 202 " in await talk(port, [GOOD], half_close=True):
                return
        except OSError:
            await asyncio.sleep(0.05)


async def run(folder: Path, requests: int, seed: int) -> Found:
    """The whole attack on a door of its own, with no Kafka behind it."""
    port = free_port()
    environment = {
        "INGEST_PORT": str(port),
        "DATA_DIR": str(folder),
        "INGEST_WEBHOOK_SECRETS": f"{SECRET.decode()},other",
        "INGEST_SIGNATURE_KEYS": "whsec_AAAA",
        "INGEST_TRUSTED_PROXIES": "127.0.0.0/8",
        "INGEST_IDLE_TIMEOUT_S": "3",
        "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
        "LOG_LEVEL": "DEBUG",
    }
    door = Service("ingest", environment, folder / "ingest.log")
    found = Found()
    try:
        await asyncio.wait_for(listening(port), 20)
        first = min(WARM_UP, requests // 2)
        await _attack_all(port, seed, first, found)
        before = psutil.Process(door.pid).memory_info().rss
        await _attack_all(port, seed + 1_000, requests - first, found)
        growth = psutil.Process(door.pid).memory_info().rss - before
        # What Kafka has not taken yet may be kept in memory, up to a limit: that is no leak.
        print(f"memory grew by {growth / 2**20:.1f} MiB")
        if growth > GROWTH_BYTES_MAX:
            found.wrong.append((f"the door's memory grew by {growth} bytes", b""))
        if b" 202 " not in await talk(port, [GOOD], half_close=False) or door.returncode is not None:
            found.wrong.append(("the door does not take a good webhook any more", b""))
        log = (folder / "ingest.log").read_text("utf-8", "replace")
        if "bug" in log or "Traceback" in log or SECRET.decode() in log:
            found.wrong.append(("the log tells of a bug, or a secret", log[-3_000:].encode()))
    finally:
        door.kill()
    return found


async def _attack_all(port: int, seed: int, requests: int, found: Found) -> None:
    share = -(-requests // CONNECTIONS)
    await asyncio.gather(*(attack(port, seed * 10_000 + number, share, found) for number in range(CONNECTIONS)))


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile")
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # that the door hangs up while we send is the point
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(run(Path(folder), options.requests, options.seed))
    print(f"seed {options.seed}, {options.requests} requests in {time.perf_counter() - began:.0f} s")
    print(dict(sorted(found.statuses.items())))
    print("503 is declared: the disk did not take a webhook within its time")
    ordered = sorted(found.slow)
    print(
        "until the connection's end: "
        + ", ".join(f"p{share:.1%} {ordered[int(len(ordered) * share)] * 1e3:.0f} ms" for share in (0.5, 0.99, 0.999))
    )
    for sentence, sent in found.wrong[:20]:
        print(sentence, sent[:2_000])
    print(f"{len(found.wrong)} findings")
    return min(1, len(found.wrong))


if __name__ == "__main__":
    sys.exit(main())
