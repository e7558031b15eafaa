"""The recommended proxy: deploy/proxy/nginx.conf itself, in the real nginx, before the real door."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import trustme

from deploy.local.broker import die_with_parent, free_port
from tests.builders import start
from tests.doors import opened
from tests.waiting import eventually

EXAMPLE = Path(__file__).parent.parent / "deploy" / "proxy" / "nginx.conf"
EVENT = "/webhook/3cx/call-event"
MAIN = """daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; worker_processes 1;
events {{ worker_connections 256; }}
http {{
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi; access_log {folder}/access.log;
    include {folder}/site.conf;
}}
"""


def site(folder: Path, door_port: int, port: int) -> str:
    """The example with this test's ports and files; each must stand in it."""
    text = EXAMPLE.read_text("utf-8")
    for told, ours in {
        "server 127.0.0.1:8080;": f"server 127.0.0.1:{door_port};",
        "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
        "/etc/callstream/door.pem": f"{folder}/door.pem",
        "/etc/callstream/door.key": f"{folder}/door.key",
    }.items():
        assert told in text
        text = text.replace(told, ours)
    return text


def begun(folder: Path) -> "subprocess.Popen[bytes]":
    """Start it."""
    binary = shutil.which("nginx") or "/usr/sbin/nginx"
    return subprocess.Popen(
        [binary, "-p", str(folder), "-c", str(folder / "main.conf"), "-e", str(folder / "error.log")],
        preexec_fn=die_with_parent,  # noqa: PLW1509 - one prctl call
    )


@asynccontextmanager
async def proxied(folder: Path, door_port: int) -> AsyncIterator[tuple[str, ssl.SSLContext]]:
    """The proxy before the door: its URL, and what trusts its certificate."""
    authority, port = trustme.CA(), free_port()
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    leaf = authority.issue_cert("door.example.com", "127.0.0.1")
    (folder / "door.pem").write_bytes(b"".join(one.bytes() for one in leaf.cert_chain_pems))
    (folder / "door.key").write_bytes(leaf.private_key_pem.bytes())
    (folder / "site.conf").write_text(site(folder, door_port, port), "utf-8")
    (folder / "main.conf").write_text(MAIN.format(folder=folder), "utf-8")
    nginx = begun(folder)
    try:

        async def listening() -> bool:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                return False
            writer.close()
            return True

        await eventually(listening)
        yield f"https://127.0.0.1:{port}", trusted
    finally:
        nginx.terminate()
        nginx.wait()


async def post(url: str, trusted: ssl.SSLContext, peer: str = "127.0.0.1", **request: Any) -> httpx.Response:
    """One event from the address `peer`."""
    transport = httpx.AsyncHTTPTransport(local_address=peer, verify=trusted)
    async with httpx.AsyncClient(transport=transport) as client:
        return await client.post(url, **({"json": start()} | request))


async def test_the_client_is_known_behind_the_proxy_whatever_it_writes_itself(tmp_path: Path) -> None:
    limits: dict[str, Any] = {
        "ingest_trusted_proxies": "127.0.0.1",
        "ingest_allowed_networks": "127.0.0.5, 198.51.100.0/24",
    }
    async with opened(tmp_path, **limits) as rig, proxied(tmp_path, rig.port) as (url, trusted):
        assert (await post(url + EVENT, trusted, "127.0.0.5")).status_code == 202
        forged = await post(url + EVENT, trusted, "127.0.0.6", headers={"X-Forwarded-For": "198.51.100.9"})
        assert (forged.status_code, forged.headers["content-type"]) == (403, "application/problem+json")
        assert len(await rig.kept()) == 1


async def test_the_proxy_keeps_its_limits_and_passes_the_door_s_answers_on(tmp_path: Path) -> None:
    async with (
        opened(tmp_path, ingest_trusted_proxies="127.0.0.1", ingest_webhook_secrets="first") as rig,
        proxied(tmp_path, rig.port) as (url, trusted),
    ):
        secret = {"X-Webhook-Secret": "first"}
        assert (await post(url + EVENT, trusted)).status_code == 401
        assert (await post(url + EVENT, trusted, headers=secret)).json()["status"] == "accepted"
        assert (await post(url + EVENT, trusted, headers=secret, content=b"x" * 70_000, json=None)).status_code == 413
        for inside in ("/metrics", "/webhook/3cx/health", "/webhook/3cx/%68ealth", "/webhook/3cx//health"):
            async with httpx.AsyncClient(verify=trusted) as client:
                assert (await client.get(url + inside)).status_code == 404
        async with httpx.AsyncClient(verify=trusted) as client:
            many = await asyncio.gather(*(client.post(url + EVENT, json=start(), headers=secret) for _ in range(50)))
        assert {one.status_code for one in many} == {202}
        assert len(await rig.kept()) == 51
        assert not (tmp_path / "access.log").read_text("utf-8"), "no address is kept"
