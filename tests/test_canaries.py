"""No secret, number or e-mail in a log or a metric: canaries through every error path of ingest, at DEBUG."""

import asyncio
import base64
import json
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest
import trustme

from deploy.local.broker import free_port
from tests.doors import talked
from tests.system import Service
from tests.waiting import eventually

SECRET: Final = b"canary-secret-7f3a"
NUMBER: Final = b"+41790009173"
EMAIL: Final = b"canary.9173@example.com"
CANARIES: Final = (b"canary", b"Canary", b"790009173", b"0009173")
BODY: Final = b'{"caller":"%s","agentExt":"201","agentMail":"%s"}' % (NUMBER, EMAIL)
CONFIG: Final = """
[pbx.near]
webhook_secrets = ["canary-secret-7f3a"]
allowed_networks = ["192.0.2.0/24"]
[pbx.slow]
webhook_secrets = ["canary-secret-7f3a"]
rate_max = 1
"""


def post(*lines: bytes, path: bytes = b"/webhook/3cx/call-event", body: bytes = BODY, secret: bytes = SECRET) -> bytes:
    own = [b"Host: a", b"Connection: close", b"X-Webhook-Secret: " + secret, b"Content-Length: %d" % len(body), *lines]
    return b"\r\n".join([b"POST " + path + b" HTTP/1.1", *own, b"", b""]) + body


PATHS: Final = {
    "accepted": (post(), 202),
    "told": (post(path=b"/webhook/3cx/test"), 200),
    "no HTTP": (b"canary " + BODY, 400),
    "two hosts": (post(b"Host: " + EMAIL), 400),
    "a wrong secret": (post(secret=b"canary-wrong"), 401),
    "a wrong signature": (
        post(b"webhook-id: " + EMAIL, b"webhook-timestamp: 1", b"webhook-signature: v1,canary", secret=b""),
        401,
    ),
    "from elsewhere": (post(b"X-Forwarded-For: canary", path=b"/webhook/3cx/near/call-event"), 403),
    "nobody's PBX": (post(path=b"/webhook/3cx/canary-" + NUMBER + b"/test"), 404),
    "no route": (post(path=b"/canary?secret=" + SECRET), 404),
    "another method": (post().replace(b"POST", b"PUT", 1), 405),
    "too slow": (post()[:-5], 408),
    "too long": (post(body=BODY * 2_000), 413),
    "compressed": (post(b"Content-Encoding: canary"), 415),
    "expecting": (post(b"Expect: canary"), 417),
    "unreadable": (post(body=b"canary " + NUMBER), 422),
    "too fast": (post(path=b"/webhook/3cx/slow/call-event"), 429),
    "a long head": (post(b"X: " + b"canary" * 4_000), 431),
    "full": (post(body=b'{"wav":"' + BODY.replace(b'"', b"'") * 700 + b'"}'), 503),
}


async def door(folder: Path, **environment: str) -> tuple[Service, int]:
    """A door at DEBUG, with Kafka away."""
    port = free_port()
    (folder / "pbx.toml").write_text(CONFIG, "utf-8")
    own = {
        "INGEST_PORT": str(port),
        "DATA_DIR": str(folder),
        "PBX_CONFIG": str(folder / "pbx.toml"),
        "INGEST_WEBHOOK_SECRETS": SECRET.decode(),
        "INGEST_SIGNATURE_KEYS": "whsec_" + base64.b64encode(SECRET).decode(),
        "INGEST_JOURNAL_BYTES_MAX": str(1024**2),
        "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
        "KAFKA_SECURITY_SASL_PASSWORD": SECRET.decode(),
        "LOG_LEVEL": "DEBUG",
    }
    service = Service("ingest", own | environment, folder / "ingest.log")

    async def listening() -> bool:
        with suppress(OSError):
            await talked(port)
            return True
        return False

    await eventually(listening, timeout_s=40)
    return service, port


async def until(port: int, data: bytes, status: int) -> bytes:
    """Send it until this is the answer: a limit must be reached first."""
    async with asyncio.timeout(40):
        while True:
            answered = await talked(port, data)
            if answered.startswith(b"HTTP/1.1 %d " % status):
                return answered
            assert status in {429, 503}, answered


def hits(*texts: bytes) -> list[bytes]:
    return [canary for text in texts for canary in CANARIES if canary in text]


async def test_no_canary_is_in_a_log_or_a_metric_after_every_answer_there_is(tmp_path: Path) -> None:
    service, port = await door(tmp_path)
    try:
        for data, status in PATHS.values():
            await until(port, data, status)
        metrics = await talked(port, b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        health = await talked(port, b"GET /webhook/3cx/health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert not service.stop()
    finally:
        service.kill()
    log = (tmp_path / "ingest.log").read_bytes()
    assert all(b'status="%d"' % status in metrics for _, status in PATHS.values()), "every path was walked"
    assert b"Kafka is not taking records" in log
    assert not hits(log, metrics, health), log
    assert hits(b"caller +41790009173")


async def test_no_canary_is_in_the_log_of_a_door_with_tls_that_is_talked_to_wrongly(tmp_path: Path) -> None:
    leaf = trustme.CA().issue_cert("door.test")
    (tmp_path / "a.pem").write_bytes(leaf.private_key_and_cert_chain_pem.bytes())
    files = {"INGEST_TLS_CERTIFICATE_FILE": str(tmp_path / "a.pem"), "INGEST_TLS_KEY_FILE": str(tmp_path / "a.pem")}
    service, port = await door(tmp_path, **files)
    try:
        await talked(port, post())
        (tmp_path / "a.pem").write_bytes(b"canary")
        log = tmp_path / "ingest.log"
        await eventually(lambda: asyncio.to_thread(log.read_bytes), lambda found: b"TLS files" in found)
    finally:
        service.kill()
    assert not hits(log.read_bytes())


@pytest.mark.parametrize(
    "wrong",
    [
        {"INGEST_SIGNATURE_KEYS": "whsec_canary!"},
        {"PBX_TOML": '[pbx.a]\nwebhook_secrets = "canary"\n'},
        {"PBX_TOML": '[pbx.a]\nsignature_keys = ["whsec_canary!"]\n'},
    ],
    ids=json.dumps,
)
async def test_a_wrong_setting_is_one_sentence_without_its_value(tmp_path: Path, wrong: dict[str, str]) -> None:
    toml = wrong.get("PBX_TOML")
    (tmp_path / "pbx.toml").write_text(toml or "[pbx.a]\n", "utf-8")
    environment = {"DATA_DIR": str(tmp_path), "PBX_CONFIG": str(tmp_path / "pbx.toml"), "INGEST_PORT": str(free_port())}
    service = Service("ingest", environment | wrong, tmp_path / "ingest.log")

    async def ended() -> int | None:
        return service.returncode

    assert await eventually(ended, lambda status: status is not None, 40) == 2
    log = (tmp_path / "ingest.log").read_bytes()
    assert log.count(b"\n") <= 2
    assert not hits(log), log
