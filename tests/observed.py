"""One run of everything, watched by a real Prometheus: calls, faults of each kind, restarts; canaries in every body.

What it leads to is asked for by the tests that need a system which has been through something. Steps, in order:
1. calls as they should be; 2. repeats, late ends and starts, corrections; 3. what cannot be read, at each place;
4. a client of the event stream that does not read; 5. a database, a disk, a broker that do not take anything;
6. each service killed, and an offset that somebody moved. Then everything is seen to have come through.
"""

import asyncio
import json
import math
import socket
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import yaml
from aiokafka import AIOKafkaConsumer, TopicPartition

from deploy.local.broker import die_with_parent, free_port
from deploy.local.brokers import AnyBroker
from events.kafka import KafkaSettings, committed_reader
from processors.task import InputRecord
from tests.builders import zulu
from tests.system import System, append, read_committed
from tests.waiting import eventually

ROOT = Path(__file__).parent.parent
PATIENCE_S: Final = 60.0
CALLS: Final = 30
SECRET = "canary-secret-7f3a"
TOKEN = "canary-token-7f3a"
PARTY = "+41790077"
"""First digits of every party's number; four more follow."""
EMAIL = "canary@example.net"
CANARIES = ("canary", PARTY, PARTY[1:], PARTY[3:])

Json = dict[str, Any]


class Prometheus:
    """Debian's Prometheus, scraping our services every two seconds, with our alerts."""

    def __init__(self, folder: Path, targets: Mapping[str, int]) -> None:
        """Starts it; its data in `folder`."""
        self.url = f"http://127.0.0.1:{free_port()}"
        config = {
            "global": {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "5s"},
            "rule_files": [str(ROOT / "deploy" / "prometheus" / "alerts.yaml")],
            "scrape_configs": [
                {"job_name": f"callstream-{name}", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
                for name, port in targets.items()
            ],
        }
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(config), "utf-8")
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yaml'}",
                f"--storage.tsdb.path={folder / 'prometheus'}",
                f"--web.listen-address={self.url.removeprefix('http://')}",
                "--log.level=error",
            ],
            stdin=subprocess.DEVNULL,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one prctl call
        )

    def query(self, expression: str) -> list[Json]:
        """The series of an instant query, now; raises AssertionError with what Prometheus says of a bad one."""
        told = httpx.get(f"{self.url}/api/v1/query", params={"query": expression}, timeout=PATIENCE_S).json()
        assert told["status"] == "success", f"{expression}: {told.get('error')}"
        result: list[Json] = told["data"]["result"]
        return result

    def values(self, expression: str, step_s: int = 2) -> list[float]:
        """Every value of every series of the last ten minutes that is a number."""
        now = time.time()
        asked = {"query": expression, "start": str(now - 600), "end": str(now), "step": str(step_s)}
        told = httpx.post(f"{self.url}/api/v1/query_range", data=asked, timeout=PATIENCE_S).json()
        assert told["status"] == "success", f"{expression}: {told.get('error')}"
        found = [float(value) for series in told["data"]["result"] for _, value in series["values"]]
        return [value for value in found if not math.isnan(value)]

    def labels(self) -> list[dict[str, str]]:
        """The labels of every series of ours."""
        told = httpx.get(
            f"{self.url}/api/v1/series", params={"match[]": '{__name__=~"threecx_.*"}'}, timeout=PATIENCE_S
        )
        found: list[dict[str, str]] = told.json()["data"]
        return found

    def groups(self) -> list[Json]:
        """Our alerts, as it judges them."""
        told = httpx.get(f"{self.url}/api/v1/rules", timeout=PATIENCE_S).json()
        found: list[Json] = told["data"]["groups"]
        return found

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


@dataclass
class Observed:
    """What is left of the run: Prometheus, still answering, and what the services said."""

    prometheus: Prometheus
    logs: dict[str, str] = field(default_factory=dict)


@contextmanager
def observed(broker: AnyBroker, folder: Path) -> Iterator[Observed]:
    """Go through all of it; Prometheus answers until the end of the block."""
    settings = KafkaSettings(
        kafka_bootstrap_servers=broker.bootstrap_servers, kafka_topic_prefix="observed", kafka_topic_partitions=4
    )
    system = System(
        settings,
        folder,
        LOG_LEVEL="DEBUG",
        LOG_FORMAT="json",
        INGEST_WEBHOOK_SECRETS=SECRET,
        INGEST_BODY_BYTES_MAX="2000000",
        INGEST_FORWARD_TIMEOUT_S="2",
        PROCESSORS_CALL_DURATION_MAX_S="8",
        PROCESSORS_SESSION_TIMEOUT_S="6",
        PROJECTIONS_SESSION_TIMEOUT_S="6",
        PROJECTIONS_API_TOKENS=TOKEN,
        PROJECTIONS_STREAM_QUEUE_MAX="10",
    )
    prometheus = Prometheus(folder, system.ports)
    try:
        asyncio.run(_Run(system, settings, broker, prometheus).all())
        logs = {path.stem: path.read_text("utf-8", "replace") for path in sorted(folder.glob("*.log"))}
        yield Observed(prometheus, logs)
    finally:
        system.kill()
        prometheus.stop()


class _Run:
    """The steps; each waits for what it led to."""

    def __init__(self, system: System, kafka: KafkaSettings, broker: AnyBroker, prometheus: Prometheus) -> None:
        self.system = system
        self.kafka = kafka
        self.broker = broker
        self.prometheus = prometheus

    async def all(self) -> None:
        """Every step, in order."""
        self.system.start()
        await self.system.ready()
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(headers=headers, timeout=PATIENCE_S) as self.client:
            await self.calls()
            async with self.clients_of_the_stream():
                await self.repeats_and_corrections()
                await self.unreadable()
                await self.dropped()
            await self.api()
            await self.failing_database()
            await self.failing_disk()
            await self.failing_broker()
            await self.killed()
            await self.moved_offset()
            for service in self.system.ports:
                await self.seen_by_prometheus(f'up{{job="callstream-{service}"}} == 1')

    async def post(self, body: Json | bytes, status: int = 202, path: str = "call-event", secret: str = SECRET) -> None:
        """One webhook; `status`: the answer that is due."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = {"X-Webhook-Secret": secret, "Content-Type": "application/json"}
        answer = await self.client.post(f"{self.system.door}/webhook/3cx/{path}", content=content, headers=kind)
        assert answer.status_code == status, answer.text

    async def value(self, name: str, service: str) -> float:
        """The sum of a metric's series (or the series with these labels), as the service exposes it now."""
        try:
            text = (await self.client.get(f"http://127.0.0.1:{self.system.ports[service]}/metrics")).text
        except httpx.TransportError:
            return 0.0
        lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        full = f"threecx_{service}_{name}"
        return sum(float(value) for series, _, value in lines if full in {series, series.partition("{")[0]})

    async def seen(self, name: str, service: str, least: float = 1) -> None:
        """Wait until the metric has come that far, and Prometheus has seen it."""

        async def value() -> float:
            return await self.value(name, service)

        await eventually(value, lambda found: found >= least, PATIENCE_S)
        await self.seen_by_prometheus(f"sum(threecx_{service}_{name}) >= {least:g}")

    async def seen_by_prometheus(self, expression: str) -> None:
        """Wait until the expression has a series."""

        async def series() -> list[Json]:
            try:
                return await asyncio.to_thread(self.prometheus.query, expression)
            except httpx.TransportError:
                return []

        await eventually(series, timeout_s=PATIENCE_S)

    async def calls(self) -> None:
        """Step 1; the first one will not end."""
        await self.post(start(1000))
        for number in range(CALLS):
            await self.post(start(number))
            await self.post(end(number))
        await self.seen("events_total", "projections", 2 * CALLS + 1)

    async def repeats_and_corrections(self) -> None:
        """Step 2."""
        began, ended = start(1001), end(1001)
        for body in (ended, ended, began, began, ended | {"wav": "https://pbx.example/canary.wav"}):
            await self.post(body)
        for kind in ("start", "end"):
            await self.seen(f'repeats_total{{kind="{kind}"}}', "processors")
        await self.seen('ends_total{source="inferred"}', "projections")  # 1000 reached its ceiling
        await self.post(end(1000))  # the true end after all
        for reason in ("start_after_end", "more_detail", "true_end"):
            await self.seen(f'corrections_total{{reason="{reason}"}}', "projections")

    async def unreadable(self) -> None:
        """Step 3: at the door, in the processors, in the projections."""
        await self.post(b"canary, no JSON", 422)
        await self.post(b'{"canary": "no field of a call"}')
        await self.post(start(3) | {"padding": "canary" * 200_000})
        await self.post(start(3), 401, secret="canary-wrong")
        await self.post(start(3), 404, "canary-pbx/call-event")
        await self.post(start(3) | {"startTime": "canary"}, 200, "test")
        webhooks = await read_committed(self.kafka, self.kafka.topic_set.webhooks)
        again = next(one for one in webhooks if one.value)
        said = [(name, value) for name, value in again.headers if name.startswith("ce_")]
        forged = tuple((name, b"call.started" if name == "ce_type" else value) for name, value in said)
        await append(
            self.kafka,
            [
                InputRecord(again.partition, 0, again.key, again.value, again.headers),  # forwarded twice
                InputRecord(again.partition, 0, b"canary", b"canary", (("ce_source", b"canary"),)),
                InputRecord(again.partition, 0, b"canary", b"canary", forged),
            ],
        )
        story = [b'{"type":"call.invented","canary":1}', json.dumps({"type": "call.ended", "session": EMAIL}).encode()]
        sessions = [InputRecord(1, 0, b"canary", value, ()) for value in story]
        await append(self.kafka, sessions, self.kafka.topic_set.call_sessions)
        await self.seen("dead_letters_total", "ingest", 2)
        await self.seen("dead_letters_total", "processors", 3)
        await self.seen("unreadable_total", "projections", 2)

    @asynccontextmanager
    async def clients_of_the_stream(self) -> AsyncIterator[None]:
        """Step 4: one asks for the stream and reads nothing, not even the snapshot; the other one reads."""
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)  # or the kernel keeps megabytes for it
            deaf.connect(("127.0.0.1", self.system.ports["projections"]))
            deaf.sendall(f"GET /api/v1/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
            reading = asyncio.create_task(self.listening())
            yield
            reading.cancel()
            await asyncio.wait({reading})

    async def dropped(self) -> None:
        """Enough calls to fill what the kernel and the server keep for a client."""
        for number in range(3000, 3400):
            await self.post(end(number))
            if number % 10 == 0 and await self.value("stream_clients_dropped_total", "projections"):
                break
        await self.seen("stream_clients_dropped_total", "projections")

    async def listening(self) -> None:
        """A client as it should be; it comes back when the stream breaks."""
        while True:
            try:
                async with self.client.stream("GET", f"{self.system.board}/api/v1/stream", timeout=5) as answer:
                    async for _ in answer.aiter_bytes():
                        pass
            except httpx.TransportError:
                await asyncio.sleep(0.1)

    async def api(self) -> None:
        """Every kind of question, a wrong token, and one that is refused."""
        for path in ("agents", "calls?number=%2B417900770001", "calls.csv", "figures", "agents/default/201", "nothing"):
            await self.client.get(f"{self.system.board}/api/v1/{path}")
        wrong = {"Authorization": "Bearer canary-wrong"}
        assert (await self.client.get(f"{self.system.board}/api/v1/calls", headers=wrong)).status_code == 401
        assert (await self.client.get(f"{self.system.board}/api/v1/calls?canary=1")).status_code == 400

    async def failing_database(self) -> None:
        """Step 5: a row that the database refuses, with the caller in it."""
        with sqlite3.connect(self.system.data_dir / "projections.sqlite", isolation_level=None, timeout=30) as database:
            database.execute("create trigger refuse before insert on calls begin select raise(abort, 'canary'); end")
            await self.post(start(2000))
            await self.seen("commit_failures_total", "projections")
            database.execute("drop trigger refuse")

    async def failing_disk(self) -> None:
        """Step 5: the journal's folder is gone for a while."""
        journal = self.system.data_dir / "journal"
        away = journal.rename(journal.with_name("away"))
        await self.post(start(2001), 503)
        await self.seen("journal_sync_failures_total", "ingest")
        away.rename(journal)

        async def status() -> int:
            return (await self.client.get(f"{self.system.door}/webhook/3cx/health")).status_code

        await eventually(status, lambda found: found == httpx.codes.OK, PATIENCE_S)

    async def failing_broker(self) -> None:
        """Step 5: killed while calls come in, and back again."""
        self.broker.kill()
        for number in range(2002, 2010):
            await self.post(start(number))
        await self.seen("forward_failures_total", "ingest")
        await self.seen("journal_oldest_seconds", "ingest", 0.01)
        self.broker.spawn()
        await asyncio.to_thread(self.broker.wait_until_answering)
        await self.emptied()

    async def emptied(self) -> None:
        """Wait until Kafka has all of the journal."""

        async def waiting() -> bool:
            told = (await self.client.get(f"{self.system.door}/webhook/3cx/health")).json()
            return not told["journal"]["records"] and told["kafka"]["reachable"]

        await eventually(waiting, timeout_s=PATIENCE_S)

    async def killed(self) -> None:
        """Step 6: each one, while calls come in."""
        for name in ("projections", "processors", "ingest"):
            await self.post(end(2002))
            self.system.services[name].kill()
            self.system.start(name)
            await self.system.ready()

    async def moved_offset(self) -> None:
        """Step 6: the group's offset is not the changelog's any more."""
        self.system.services["processors"].stop()
        consumer = AIOKafkaConsumer(
            **committed_reader(self.kafka), group_id=f"processors-{self.kafka.kafka_topic_prefix}"
        )
        await consumer.start()
        partition = TopicPartition(self.kafka.topic_set.webhooks, 0)
        consumer.assign([partition])
        await consumer.commit({partition: 1})
        await consumer.stop()
        self.system.start("processors")
        await self.seen("restored_offset_mismatches_total", "processors")
        await self.system.ready()


def start(number: int) -> Json:
    """A start, now; the agent and the party follow from the number."""
    return {
        "caller": f"{PARTY}{number:04}",
        "callee": "canary",
        "agentExt": str(200 + number % 40),
        "agentMail": f"{number % 40}.{EMAIL}",
        "direction": "Inbound",
        "startTime": zulu(datetime.now(UTC)),
    }


def end(number: int) -> Json:
    """Its end, a moment later."""
    now = datetime.now(UTC)
    more = {"callId": f"canary-{number}", "duration": "00:00:01", "endUtc": zulu(now + timedelta(seconds=1))}
    return {name: value for name, value in start(number).items() if name != "startTime"} | more
