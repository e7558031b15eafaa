"""The door's answers: every status of the design's 2.2, through a real socket and a real journal."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from events import bodies
from ingest import accepted
from ingest.accepted import Accepted
from ingest.authentication import client_address, is_known_secret
from ingest.settings import networks_of
from ingest.ticks import Ticks
from tests import chains
from tests.builders import at, end, start
from tests.doors import NOW, Rig, opened
from tests.journals import appended

EVENT = "/webhook/3cx/call-event"


Open = Callable[..., AbstractAsyncContextManager[Rig]]


@pytest.fixture
def door(tmp_path: Path) -> Open:
    """Opens the door with settings."""
    return partial(opened, tmp_path)


def is_problem(answer: httpx.Response, status: int) -> bool:
    body = answer.json()
    return (
        answer.status_code == status == body["status"]
        and answer.headers["content-type"] == "application/problem+json"
        and bool(body["detail"])
    )


async def test_a_webhook_is_accepted_once_it_is_durable_and_kept_byte_for_byte(door: Open) -> None:
    async with door() as rig:
        body = b'{ "caller" :"+41225551234",  "agentExt":"201"}'
        answer = await rig.client.post(EVENT, content=body, headers=[(b"Content-Type", b"application/json; x=\xe9")])
        assert answer.status_code == 202
        (kept,) = await rig.kept()
        assert answer.json() == {"status": "accepted", "id": kept.id}
        assert (kept.body, kept.pbx, kept.key, kept.received_at) == (body, "default", "default", NOW)
        assert kept.content_type == "application/json; x=\xe9"


async def test_every_accepted_webhook_has_an_id_of_its_own(door: Open) -> None:
    async with door() as rig:
        answers = await asyncio.gather(*(rig.client.post(EVENT, json=start()) for _ in range(300)))
        assert len({answer.json()["id"] for answer in answers}) == 300


async def test_keyed_by_agent_the_key_holds_the_extension(door: Open) -> None:
    async with door(ingest_key="agent") as rig:
        await rig.client.post(EVENT, json=start("007"))
        await rig.client.post(EVENT, json=start(None))
        assert [one.key for one in await rig.kept()] == ["default/007", "default"]


async def test_a_body_whose_reading_meets_a_bug_of_ours_is_accepted_all_the_same(
    door: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The processors bury it, where it can be found and sent again; nobody sends again what was answered 500."""
    monkeypatch.setattr(bodies, "fields_of", lambda _body, _content_type: int("²"))
    async with door(ingest_key="agent") as rig:
        answer = await rig.client.post(EVENT, json=start())
        assert answer.status_code == 202
        (kept,) = await rig.kept()
        assert (kept.id, kept.key, kept.refused) == (answer.json()["id"], "default", None)


async def test_a_wrong_secret_is_the_same_401_for_each_reason(door: Open) -> None:
    async with door(ingest_webhook_secrets="first,second") as rig:
        wrong: list[Any] = [
            {},
            {"X-Webhook-Secret": ""},
            {"X-Webhook-Secret": "firs"},
            {"X-Webhook-Secret": "first,second"},
            [(b"X-Webhook-Secret", "gehöim".encode())],
            [(b"X-Webhook-Secret", b"first"), (b"X-Webhook-Secret", b"first")],
        ]
        answers = [await rig.client.post(EVENT, json=start(), headers=headers) for headers in wrong]
        assert all(is_problem(answer, 401) for answer in answers)
        assert len({answer.content for answer in answers}) == 1
        for secret in ("first", "second"):
            right = await rig.client.post(EVENT, json=start(), headers={"X-Webhook-Secret": secret})
            assert right.status_code == 202
        assert len(await rig.kept()) == 2


SIGNING = "whsec_" + base64.b64encode(b"the key of the signatures").decode()


def signed(body: bytes, key: str = SIGNING, shift_s: float = 0) -> dict[str, str]:
    now = datetime.fromtimestamp(int(datetime.now(UTC).timestamp() + shift_s), UTC)
    signature = Webhook(key).sign("msg_1", now, body.decode())
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": f"v1,AAAA {signature}",
    }


async def test_a_sender_that_signs_needs_no_secret_and_a_wrong_signature_is_the_same_401(door: Open) -> None:
    body = b'{"caller":"+41225551234","agentExt":"201"}'
    other = "whsec_" + base64.b64encode(b"another key").decode()
    async with door(ingest_webhook_secrets="first", ingest_signature_keys=f"{other},{SIGNING}") as rig:
        assert (await rig.client.post(EVENT, content=body, headers=signed(body))).status_code == 202
        assert (await rig.client.post(EVENT, content=body, headers={"X-Webhook-Secret": "first"})).status_code == 202
        unknown = "whsec_" + base64.b64encode(b"an unknown key").decode()
        wrong: list[dict[str, str]] = [
            {},
            signed(b"{}"),
            signed(body, unknown),
            signed(body, shift_s=-301),
            signed(body, shift_s=302),
            signed(body) | {"webhook-id": ""},
            signed(body) | {"webhook-timestamp": "nan"},
            signed(body) | {"webhook-signature": "v1"},
            signed(body) | {"webhook-signature": "v1,\u00ff"},
        ]
        answers = [
            await rig.client.post(
                EVENT, content=body, headers=[(n.encode(), v.encode("latin-1")) for n, v in headers.items()]
            )
            for headers in wrong
        ]
        assert [answer.status_code for answer in answers] == [401] * len(wrong)
        assert len({answer.content for answer in answers}) == 1
        not_text = await rig.client.post(EVENT, content=b"\xff", headers=signed(body))
        assert is_problem(not_text, 401)
        assert len(await rig.kept()) == 2


async def test_a_pbx_that_only_signs_is_not_open_to_everybody(door: Open, tmp_path: Path) -> None:
    (tmp_path / "pbx.toml").write_text(f'[pbx.geneva]\nsignature_keys = ["{SIGNING}"]\n', "utf-8")
    async with door(pbx_config=tmp_path / "pbx.toml") as rig:
        event = "/webhook/3cx/geneva/call-event"
        assert is_problem(await rig.client.post(event, content=b"{}"), 401)
        assert (await rig.client.post(event, content=b"{}", headers=signed(b"{}"))).status_code == 202


async def test_an_address_outside_the_allowed_networks_is_403(door: Open) -> None:
    async with door(ingest_allowed_networks="198.51.100.0/24, 2001:db8::/32") as rig:
        assert is_problem(await rig.client.post(EVENT, json=start()), 403)
        forged = await rig.client.post(EVENT, json=start(), headers={"X-Forwarded-For": "198.51.100.9"})
        assert is_problem(forged, 403), "without a trusted proxy anybody can write the header"


async def test_behind_a_trusted_proxy_the_forwarded_address_counts(door: Open) -> None:
    async with door(
        "127.0.0.2", ingest_allowed_networks="198.51.100.0/24", ingest_trusted_proxies="127.0.0.2, 10.0.0.0/8"
    ) as rig:
        right = await rig.client.post(
            EVENT, json=start(), headers={"X-Forwarded-For": "6.6.6.6, 198.51.100.9, 10.9.9.9"}
        )
        assert right.status_code == 202
        wrong = await rig.client.post(EVENT, json=start(), headers={"X-Forwarded-For": "198.51.100.9, 6.6.6.6"})
        assert is_problem(wrong, 403)


async def test_an_unknown_pbx_is_404_and_a_wrong_method_405(door: Open, tmp_path: Path) -> None:
    (tmp_path / "pbx.toml").write_text('[pbx.geneva]\nwebhook_secrets = ["own"]\n', "utf-8")
    async with door(pbx_config=tmp_path / "pbx.toml") as rig:
        assert is_problem(await rig.client.post("/webhook/3cx/zurich/call-event", json=start()), 404)
        assert is_problem(await rig.client.get(EVENT), 405)
        assert is_problem(await rig.client.post("/elsewhere", json=start()), 404)
        assert is_problem(await rig.client.post("/webhook/3cx/geneva/call-event", json=start()), 401)
        own = {"X-Webhook-Secret": "own"}
        assert (await rig.client.post("/webhook/3cx/geneva/call-event", json=start(), headers=own)).status_code == 202
        assert (await rig.kept())[0].pbx == "geneva"


async def test_a_body_over_the_limit_is_413_declared_or_not(door: Open) -> None:
    async with door(ingest_body_bytes_max=100) as rig:
        assert is_problem(await rig.client.post(EVENT, content=b"x" * 101), 413)

        async def endless() -> AsyncIterator[bytes]:
            for _ in range(1000):
                yield b"x" * 10

        assert is_problem(await rig.client.post(EVENT, content=endless()), 413)
        assert not await rig.kept()


async def test_what_is_no_webhook_is_422_and_kept_for_the_dead_letters(door: Open) -> None:
    async with door() as rig:
        for body in (b"", b"[1]", b"\xff\xfe\x00", b'"text"', b"plain"):
            assert is_problem(await rig.client.post(EVENT, content=body), 422)
        assert [one.refused for one in await rig.kept()] == ["the body is neither a JSON object nor form fields"] * 5


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/x-www-form-urlencoded", "image/png", "bogus"]
)
async def test_a_readable_body_is_never_refused_for_its_content_type(door: Open, content_type: str | None) -> None:
    async with door() as rig:
        headers = {"Content-Type": content_type} if content_type else {}
        for body in (b'\xef\xbb\xbf{"caller":"1"}', b"caller=%2B41225551234&agentExt=201"):
            assert (await rig.client.post(EVENT, content=body, headers=headers)).status_code == 202


async def test_over_its_rate_a_pbx_gets_429(door: Open) -> None:
    async with door(ingest_rate_max=2) as rig:
        answers = [await rig.client.post(EVENT, json=start()) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [202, 202, 429, 429]


async def test_the_flood_of_one_pbx_takes_nothing_from_another(door: Open, tmp_path: Path) -> None:
    (tmp_path / "pbx.toml").write_text("[pbx.loud]\nrate_max = 3\n[pbx.quiet]\n", "utf-8")
    async with door(pbx_config=tmp_path / "pbx.toml") as rig:
        loud = [await rig.client.post("/webhook/3cx/loud/call-event", json=start()) for _ in range(20)]
        statuses = [answer.status_code for answer in loud]
        assert statuses[:3] == [202] * 3
        assert 429 in statuses
        assert loud[statuses.index(429)].headers["retry-after"] == "1"
        quiet = [await rig.client.post("/webhook/3cx/quiet/call-event", json=start()) for _ in range(20)]
        assert {answer.status_code for answer in quiet} == {202}


async def test_a_compressed_body_is_415_unread(door: Open) -> None:
    async with door() as rig:
        answer = await rig.client.post(EVENT, content=b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
        assert is_problem(answer, 415)
        assert not await rig.kept()


async def test_a_full_journal_is_503_with_retry_after_and_health_says_so(door: Open) -> None:
    async with door(ingest_journal_bytes_max=1024**2) as rig:
        assert (await rig.client.get("/webhook/3cx/health")).status_code == 200
        while (answer := await rig.client.post(EVENT, json=start(wav="x" * 50_000))).status_code == 202:
            pass
        assert is_problem(answer, 503)
        assert int(answer.headers["retry-after"]) > 0
        health = await rig.client.get("/webhook/3cx/health")
        assert (health.status_code, health.json()["status"]) == (503, "full")
        assert health.json()["journal"]["records"] > 10
        assert health.json()["kafka"] == {"reachable": False}


async def test_beyond_the_age_limit_health_says_so_and_webhooks_are_still_taken(door: Open) -> None:
    async with door(ingest_journal_age_max_s=60) as rig:
        for age_s, is_behind in ((50, False), (70, True)):
            at = NOW - timedelta(seconds=age_s)
            sequence = await appended(rig.journal, accepted.encode(Accepted("id", "default", "default", at, None, b"")))
            health = await rig.client.get("/webhook/3cx/health")
            assert (health.status_code, health.json()["status"]) == (200, "ok")
            assert health.json()["journal"]["is_behind"] is is_behind
            assert (await rig.client.post(EVENT, json=start())).status_code == 202
            rig.journal.acknowledge(sequence + 1)
        exposed = (await rig.client.get("/metrics")).text
        assert "threecx_ingest_journal_age_limit_seconds 60.0" in exposed


async def test_the_set_up_test_tells_how_a_body_would_be_read_and_records_nothing(door: Open) -> None:
    async with door(ingest_webhook_secrets="first") as rig:
        assert is_problem(await rig.client.post("/webhook/3cx/test", json={"test": True}), 401)
        secret = {"X-Webhook-Secret": "first"}
        plain = await rig.client.post("/webhook/3cx/test", json={"test": True}, headers=secret)
        assert (plain.status_code, plain.json()["status"]) == (200, "ok")
        told = (await rig.client.post("/webhook/3cx/test", json=end(callId="[CallID]"), headers=secret)).json()
        assert (told["status"], told["kind"]) == ("ok", "end")
        fields = {field["name"]: field for field in told["fields"]}
        assert fields["call_id"]["state"] == "unresolved"
        assert not await rig.kept()


async def test_a_secret_is_in_no_answer_and_no_metric(door: Open) -> None:
    async with door(ingest_webhook_secrets="canary-7f3a") as rig:
        answer = await rig.client.post(EVENT, json=start(), headers={"X-Webhook-Secret": "canary-7f3b"})
        metrics = await rig.client.get("/metrics")
        assert "canary" not in answer.text + str(answer.headers) + metrics.text
        assert 'threecx_ingest_requests_total{route="call-event",status="401"} 1.0' in metrics.text


async def test_the_first_webhook_that_is_not_taken_is_a_step_from_zero(door: Open) -> None:
    """A series that appears with its first answer at 1 shows no increase: the alerts would sleep through it."""
    async with door() as rig:
        told = (await rig.client.get("/metrics")).text
    for route, statuses in {"call-event": (401, 403, 413, 415, 429, 500, 503), "none": (500, 503)}.items():
        for status in statuses:
            assert f'threecx_ingest_requests_total{{route="{route}",status="{status}"}} 0.0' in told
    assert "threecx_ingest_journal_sync_failures_total 0.0" in told


def test_without_secrets_everybody_is_known_and_bytes_never_raise() -> None:
    assert is_known_secret([], ())
    assert not is_known_secret([(b"x-webhook-secret", b"\xff\xfe")], (b"\xc3\xa9",))


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1", None, "192.0.2.1"),
        ("192.0.2.1", "6.6.6.6", "192.0.2.1"),
        ("10.0.0.1", "6.6.6.6", "6.6.6.6"),
        ("10.0.0.1", "1.1.1.1, 6.6.6.6, 10.0.0.9", "6.6.6.6"),
        ("::ffff:10.0.0.1", "::ffff:6.6.6.6", "6.6.6.6"),
        ("10.0.0.1", "10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "6.6.6.6, garbage", None),
        ("10.0.0.1", "6.6.6.6:4711, [::ffff:10.0.0.9]:80", "6.6.6.6"),
    ],
)
def test_the_client_is_the_first_untrusted_hop_from_the_right(
    peer: str, forwarded: str | None, client: str | None
) -> None:
    headers = [] if forwarded is None else [(b"x-forwarded-for", forwarded.encode())]
    found = client_address(peer, headers, networks_of("10.0.0.0/8"))
    assert (None if found is None else str(found)) == client


def test_the_client_address_agrees_with_an_independent_model(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not chains.disagreements(5_000, seed=11)
    monkeypatch.setattr("ingest.authentication._PORT", re.compile(b"never"))
    assert chains.disagreements(2_000, seed=11), "a bug is seen"


def test_ticks_go_round_the_partitions_once_a_second_and_say_only_what_is_known() -> None:
    ticks = Ticks(4, at(0))
    times = [moment for n in range(100) for moment in ticks.due(at(n / 10), None)]
    for partition in range(4):
        mine = [moment for number, moment in times if number == partition]
        assert 9 <= len(mine) <= 11
        assert mine == sorted(mine)
    waiting = ticks.due(at(10.5), at(10.2))
    assert waiting
    assert all(moment < at(10.2) for _, moment in waiting)
    assert not ticks.due(at(15), at(10.2)), "a backlog: no tick at all"
