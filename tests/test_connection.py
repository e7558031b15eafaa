"""The door at the socket: limits, pipelines, ambiguities, slow and silent clients, TLS."""

import asyncio
import re
import ssl
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme

from events import reading
from ingest.connection import PENDING_MAX, PIECE_BYTES, Connection
from ingest.heads import HEAD_BYTES_MAX, HEADS_MAX, Heads
from ingest.http import Door
from ingest.requests import Reply, Request
from ingest.tls import Tls
from tests.doors import Rig, opened
from tests.waiting import eventually

EVENT = b"POST /webhook/3cx/call-event HTTP/1.1\r\nHost: a\r\n"
BODY = b'{"caller":"+41225551234","agentExt":"201"}'


def event(*lines: bytes, body: bytes = BODY) -> bytes:
    head = b"".join(line + b"\r\n" for line in lines)
    return EVENT + head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def statuses(answered: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", answered)]


CLOSE = b"Connection: close"


async def test_many_requests_in_one_piece_are_answered_in_their_order_and_all_kept(tmp_path: Path) -> None:
    async with opened(tmp_path) as rig:
        wrong = b"GET /elsewhere HTTP/1.1\r\nHost: a\r\n\r\n"
        answered = await rig.talk((event() + wrong) * 100 + event(CLOSE))
        assert statuses(answered) == [202, 404] * 100 + [202]
        assert len(await rig.kept()) == 101


@pytest.mark.parametrize("target", [b"/openapi.json", b"/metrics"])
async def test_who_sends_many_requests_at_once_gets_no_further_than_it_reads_the_answers(
    tmp_path: Path, target: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    pending: list[int] = []
    finish = Door.finish

    def counted(door: Door, request: Request, reply: Reply) -> None:
        connection = reply._connection
        assert isinstance(connection, Connection)
        pending.append(len(connection._replies))
        finish(door, request, reply)

    monkeypatch.setattr(Door, "finish", counted)
    one, count = b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % target, 2_000
    async with opened(tmp_path) as rig:
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        writer.write(one * count + event(CLOSE))
        await asyncio.sleep(1)
        assert 0 < len(pending) < count, "what the sockets' buffers hold was answered, and the rest waits"
        found = statuses(await reader.read())
        writer.close()
    assert found == [200] * count + [202]
    assert max(pending) <= PENDING_MAX + PIECE_BYTES // len(one)


async def test_a_request_in_single_bytes_and_one_in_chunks_are_read(tmp_path: Path) -> None:
    async with opened(tmp_path) as rig:
        assert statuses(await rig.talk(*(bytes([one]) for one in event(CLOSE)))) == [202]
        chunked = EVENT + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        pieces = [b"%x;x=y\r\n%s\r\n" % (len(part), part) for part in (BODY[:7], BODY[7:])]
        assert statuses(await rig.talk(chunked, *pieces, b"0\r\nTrailer: x\r\n\r\n")) == [202]
        assert [one.body for one in await rig.kept()] == [BODY, BODY]


async def test_who_expects_a_continue_gets_it_only_when_the_body_is_wanted(tmp_path: Path) -> None:
    async with opened(tmp_path, ingest_webhook_secrets="first") as rig:
        expecting = EVENT + b"Expect: 100-continue\r\nConnection: close\r\nContent-Length: 2\r\n"
        assert statuses(await rig.talk(expecting + b"X-Webhook-Secret: first\r\n\r\n", b"{}")) == [100, 202]
        assert statuses(await rig.talk(expecting + b"\r\n")) == [401]
        assert statuses(await rig.talk(EVENT + b"Expect: more\r\nContent-Length: 2\r\n\r\n")) == [417]


@pytest.mark.parametrize(
    "request_",
    [
        EVENT + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        EVENT + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        EVENT + b"Content-Length: 2, 2\r\n\r\n{}",
        EVENT + b"Content-Length: +2\r\n\r\n{}",
        EVENT + b"Content-Length: 99999999999999999999999\r\n\r\n{}",
        EVENT.replace(b"1.1", b"2.0") + b"Content-Length: 2\r\n\r\n{}",
        EVENT.replace(b"1.1", b"0.9") + b"Content-Length: 2\r\n\r\n{}",
        EVENT + b"X:\r\nContent-Length:\r\n\r\n{}",
        EVENT + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        EVENT + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        EVENT + b"Transfer-Encoding: chunked\r\n\r\n5\nhello\n0\n\n",
        EVENT + b"Content-Length : 2\r\n\r\n{}",
        EVENT + b" folded\r\nContent-Length: 2\r\n\r\n{}",
        EVENT + b"Host: b\r\nContent-Length: 2\r\n\r\n{}",
        EVENT + b"X: \0\r\nContent-Length: 2\r\n\r\n{}",
        EVENT.replace(b"Host: a\r\n", b"") + b"Content-Length: 2\r\n\r\n{}",
        EVENT.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        EVENT.replace(b"\r\n", b"\n") + b"Content-Length: 2\n\n{}",
        b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
async def test_what_two_readers_could_read_two_ways_is_400_and_the_end(tmp_path: Path, request_: bytes) -> None:
    async with opened(tmp_path) as rig:
        assert statuses(await rig.talk(request_ + event())) == [400]
        assert not await rig.kept()


async def test_a_long_head_a_long_body_and_endless_chunks_are_refused_unread(tmp_path: Path) -> None:
    async with opened(tmp_path, ingest_head_bytes_max=1_000, ingest_body_bytes_max=1_000) as rig:
        assert statuses(await rig.talk(EVENT + b"X: y\r\n" * 300)) == [431]
        assert statuses(await rig.talk(EVENT + b"X: ", *[b"y" * 100] * 20)) == [431]
        assert statuses(await rig.talk(b"POST /" + b"x" * 2_000)) == [431]
        assert statuses(await rig.talk(EVENT + b"Content-Length: 1000000000\r\n\r\n")) == [413]
        zeros = b"Content-Length: " + b"0" * 500 + b"2\r\n\r\n{}"
        assert statuses(await rig.talk(EVENT + b"Connection: close\r\n" + zeros)) == [202]
        endless = [b"X: " + b"y" * 100 + b"\r\n"] * 200, [b"X: ", *[b"y" * 100] * 200], [b"0;" + b"y" * 100] * 200
        for trailers in endless:
            chunked = EVENT + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
            assert statuses(await rig.talk(chunked, *trailers)) in ([400], [413], [431])
        chunk = b"64\r\n" + b"x" * 100 + b"\r\n"
        assert statuses(await rig.talk(EVENT + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 200)) == [413]
        assert statuses(await rig.talk(event(CLOSE))) == [202]


async def test_a_refused_request_that_came_whole_leaves_the_connection_open(tmp_path: Path) -> None:
    async with opened(tmp_path, ingest_webhook_secrets="first") as rig:
        assert statuses(await rig.talk(event() + event(b"X-Webhook-Secret: first", CLOSE))) == [401, 202]


async def test_slow_and_silent_clients_are_told_or_dropped_and_a_half_closed_one_gets_its_answer(
    tmp_path: Path,
) -> None:
    limits: dict[str, Any] = {"ingest_head_timeout_s": 0.3, "ingest_body_timeout_s": 0.3, "ingest_idle_timeout_s": 0.3}
    async with opened(tmp_path, **limits) as rig:
        assert await rig.talk() == b""
        assert statuses(await rig.talk(EVENT)) == [408]
        assert statuses(await rig.talk(EVENT + b"Content-Length: 5\r\n\r\n{")) == [408]
        assert statuses(await rig.talk(event())) == [202], "then idle, then closed without a word"
        assert statuses(await rig.talk(event(), half_close=True)) == [202]


async def test_a_length_with_more_zeros_than_python_reads_is_a_length(tmp_path: Path) -> None:
    async with opened(tmp_path) as rig:
        assert statuses(await rig.talk(event(CLOSE).replace(b"Length: ", b"Length: " + b"0" * 5_000))) == [202]


async def test_head_and_body_may_be_slow_but_not_both(tmp_path: Path) -> None:
    async with opened(tmp_path) as rig:
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        began = asyncio.get_running_loop().time()
        writer.write(EVENT)
        await asyncio.sleep(2.8)
        writer.write(b"Content-Length: 5\r\n\r\n{")
        assert statuses(await reader.read()) == [408]
        assert asyncio.get_running_loop().time() - began < 5, "3.4 s for all of it, then a second for the client to go"
        writer.close()


async def test_a_body_in_single_bytes_takes_no_more_room_than_another() -> None:
    request = Request("", 0)
    for _ in range(10_000):
        request.take(b"x")
    assert len(request._kept) == len(request.body) == 10_000
    assert isinstance(request._kept, bytearray)


async def test_when_it_is_crowded_those_who_idle_make_room(tmp_path: Path) -> None:
    async with opened(tmp_path, ingest_connections_max=8, ingest_head_timeout_s=0.3) as rig, AsyncExitStack() as stack:
        for _ in range(7):
            reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
            stack.callback(writer.close)
            writer.write(event())
            assert b"202" in await reader.readuntil(b"}")
        assert await asyncio.wait_for(reader.read(), 3) == b"", "long before its 75 s"


async def test_beyond_its_connections_the_door_says_503_and_comes_back(tmp_path: Path) -> None:
    async with opened(tmp_path, ingest_connections_max=3, ingest_head_timeout_s=3.4) as rig, AsyncExitStack() as stack:
        silent = [await asyncio.open_connection("127.0.0.1", rig.port) for _ in range(3)]
        for _, writer in silent:
            stack.callback(writer.close)
        assert statuses(await rig.talk(event(CLOSE))) == [503]
        silent[0][1].close()

        async def tried() -> list[int]:
            return statuses(await rig.talk(event(CLOSE)))

        await eventually(tried, lambda found: found == [202])


async def test_two_hundred_slow_connections_keep_nobody_waiting(tmp_path: Path) -> None:
    async with opened(tmp_path) as rig, AsyncExitStack() as stack:
        for number in range(200):
            _, writer = await asyncio.open_connection("127.0.0.1", rig.port)
            stack.callback(writer.close)
            writer.write(EVENT[: number % len(EVENT)])
        found = [await rig.client.post("/webhook/3cx/call-event", content=BODY) for _ in range(20)]
        assert {one.status_code for one in found} == {202}


async def test_a_client_that_asks_for_an_upgrade_is_answered_in_http_1_and_closed(tmp_path: Path) -> None:
    async with opened(tmp_path) as rig:
        asked = event(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk")
        assert statuses(await rig.talk(asked + b"anything")) == [202]
        assert statuses(await rig.talk(asked[:-5], asked[-5:])) == [202]
        assert [one.body for one in await rig.kept()] == [BODY, BODY]
        assert statuses(await rig.talk(b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n")) == [404]


async def test_head_has_no_body_and_the_document_is_served(tmp_path: Path) -> None:
    async with opened(tmp_path) as rig:
        answered = await rig.talk(b"HEAD /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert statuses(answered) == [200]
        assert answered.endswith(b"\r\n\r\n")
        assert (await rig.client.get("/openapi.json")).json()["openapi"] == "3.1.0"


async def _certificate_at(rig: Rig, trusted: ssl.SSLContext) -> bytes:
    _, writer = await asyncio.open_connection("127.0.0.1", rig.port, ssl=trusted, server_hostname="door.test")
    try:
        return bytes(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
    finally:
        writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()


async def test_tls_takes_up_a_renewed_certificate_and_keeps_the_old_one_while_half_of_it_is_new(
    tmp_path: Path,
) -> None:
    authority = trustme.CA()
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    certificate, key = tmp_path / "door.pem", tmp_path / "door.key"

    def renew(which: trustme.LeafCert) -> None:
        key.write_bytes(which.private_key_pem.bytes())
        certificate.write_bytes(b"".join(one.bytes() for one in which.cert_chain_pems))

    first, second = authority.issue_cert("door.test"), authority.issue_cert("door.test")
    renew(first)
    tls = Tls(certificate, key)
    watching = asyncio.create_task(tls.watch())
    async with opened(tmp_path, tls=tls.context) as rig:
        old = await _certificate_at(rig, trusted)
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port, ssl=trusted, server_hostname="door.test")
        writer.write(event(CLOSE))
        assert statuses(await reader.read()) == [202]
        writer.close()
        key.write_bytes(second.private_key_pem.bytes())
        tls._reload()
        assert await _certificate_at(rig, trusted) == old
        renew(second)
        await eventually(lambda: _certificate_at(rig, trusted), lambda now: now != old)
        ancient = ssl.create_default_context()
        authority.configure_trust(ancient)
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            ancient.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await _certificate_at(rig, ancient)
    watching.cancel()


async def test_a_head_that_is_known_lets_in_what_a_parsed_one_does_and_nothing_else(tmp_path: Path) -> None:
    """Each variant of a request follows on the very same bytes that were let in, each once known and once not."""
    known = event(b"X-Webhook-Secret: first")
    length = b"Content-Length: %d" % len(BODY)
    variants: list[tuple[bytes, int]] = [
        (known.replace(BODY, BODY.replace(b"1234", b"9876")), 202),
        (known.replace(b"first", b"First"), 401),
        (known.replace(b"X-Webhook-Secret: first\r\n", b""), 401),
        (known.replace(b"/3cx/", b"/3cx/nobody/"), 404),
        (known.replace(length, length + b"\r\nContent-Encoding: gzip"), 415),
        (known.replace(BODY, b"[" + BODY[1:]), 422),
        (known.replace(length, length + b"\r\n" + length), 400),
        (known[:-1] + b"}" + known, 202),
        (known[:-5], 202),
        (known + b"X", 202),
    ]
    async with opened(tmp_path, ingest_webhook_secrets="first") as rig:
        for variant, expected in variants:
            reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
            found = []
            for piece in (known, known, variant):
                writer.write(piece)
                if piece == known[:-5]:
                    await asyncio.sleep(0.05)
                    writer.write(known[-5:])
                answered = await reader.readuntil(b"\r\n\r\n")
                found += statuses(answered)
                length_told = re.search(rb"content-length: (\d+)", answered)
                assert length_told is not None
                await reader.readexactly(int(length_told[1]))
            assert found == [202, 202, expected], variant
            writer.close()
        bodies = [one.body for one in await rig.kept()]
        assert bodies.count(BODY) == len(bodies) - 2, "each with its own body: one other, one that is no webhook"
        assert bodies.count(BODY.replace(b"1234", b"9876")) == 1


async def test_a_bug_of_ours_is_answered_500_at_once_whether_the_head_is_known_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "has_fields", lambda body, _content_type: int(body))
    async with opened(tmp_path) as rig:
        began = asyncio.get_running_loop().time()
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        for number in (b"11", b"22", b"x3", b"y4", b"33"):
            writer.write(event(body=number))
            answered = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
            assert statuses(answered) == [202 if number.isdigit() else 500], number
            await reader.readexactly(int(re.findall(rb"content-length: (\d+)", answered)[0]))
        writer.close()
        assert asyncio.get_running_loop().time() - began < 1, "nobody waits for an answer that cannot come"


def test_heads_that_are_known_are_bounded_and_each_is_known_for_its_peer_only() -> None:
    heads = Heads()
    for number in range(HEADS_MAX * 2):
        data = EVENT + b"X: %d\r\n\r\n" % number
        heads.keep("", data, Request("", 0))
        assert heads.again("", data, 1) is not None
        assert len(heads._known) <= HEADS_MAX
    long = EVENT + b"X: " + b"y" * HEAD_BYTES_MAX + b"\r\n\r\n"
    heads.keep("", long, Request("", 0))
    assert heads.again("", long, 1) is None
    assert heads.again("192.0.2.1", data, 1) is None, "another peer is judged for itself"
