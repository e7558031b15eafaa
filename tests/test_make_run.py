"""``make run``: it starts, says when there is something to change, keeps its data, and leaves nothing behind."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread

import httpx
import pytest

from deploy.local.broker import HOST, Broker, die_with_parent, free_port
from deploy.local.brokers import running
from events.settings import ConfigurationError
from tests.builders import start, zulu
from tests.waiting import eventually


class Run:
    """One ``python -m deploy.local run`` and its lines."""

    def __init__(self, data_dir: Path, **environment: str) -> None:
        ports = {f"{name}_PORT": str(free_port()) for name in ("INGEST", "PROCESSORS", "PROJECTIONS")}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("KAFKA_")}
        self.environment = {**inherited, "DATA_DIR": str(data_dir), **ports, **environment}
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "deploy.local", "run"],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one prctl call
        )
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        if self.process.stdout is not None:
            self.lines.extend(line.rstrip() for line in self.process.stdout)

    def url(self, name: str, path: str) -> str:
        return f"http://127.0.0.1:{self.environment[f'{name}_PORT']}{path}"

    async def ready(self) -> None:
        async def told() -> list[str]:
            assert self.process.poll() is None or "ready" in self.lines, self.lines
            return self.lines

        await eventually(told, lambda lines: "ready" in lines, 90)

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        status = self.process.wait(60)
        self._reader.join(10)
        return status

    def ended(self) -> tuple[int, list[str]]:
        """Exit status and lines of a run that ends by itself."""
        status = self.process.wait(60)
        self._reader.join(10)
        return status, self.lines


@contextmanager
def run(data_dir: Path, **environment: str) -> Iterator[Run]:
    started = Run(data_dir, **environment)
    try:
        yield started
    finally:
        started.process.kill()
        started.process.wait()


def child_of(data_dir: Path, words: bytes) -> int:
    """The one process of this data folder whose command line has these words."""
    (found,) = [pid for pid in children_of(data_dir) if words in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return found


def children_of(data_dir: Path) -> list[int]:
    """Processes whose environment or command line names this data folder."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            told = (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if str(data_dir).encode() in told and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found


async def test_it_starts_keeps_its_data_and_leaves_no_process(tmp_path: Path) -> None:
    with run(tmp_path) as first:
        await first.ready()
        async with httpx.AsyncClient() as client:
            health = (await client.get(first.url("PROJECTIONS", "/health"))).json()
            assert [feed["status"] for feed in health["feeds"]] != ["silent"], "ready before the feed was live"
            body = start(startTime=zulu(datetime.now(UTC)))
            assert (await client.post(first.url("INGEST", "/webhook/3cx/call-event"), json=body)).status_code == 202
            await _calls(client, first, 1)
        with run(tmp_path) as second:
            status, lines = second.ended()
            assert status != 0
            assert "runs already" in lines[-1]
            assert str(first.process.pid) in lines[-1]
        assert first.stop() == 0
        assert first.lines[-1] == "stopped"
    assert children_of(tmp_path) == []
    with run(tmp_path) as again:
        await again.ready()
        async with httpx.AsyncClient() as client:
            await _calls(client, again, 1)
        assert again.stop(signal.SIGTERM) == 0
    assert children_of(tmp_path) == []


async def _calls(client: httpx.AsyncClient, one: Run, count: int, within_s: float = 20) -> None:
    async def calls() -> int:
        return len((await client.get(one.url("PROJECTIONS", "/api/v1/calls"))).json()["calls"])

    await eventually(calls, lambda seen: seen == count, within_s)


async def test_a_service_that_dies_is_started_again_and_a_killed_run_leaves_no_process(tmp_path: Path) -> None:
    with run(tmp_path) as one:
        await one.ready()
        os.kill(child_of(tmp_path, b"-m\0ingest"), signal.SIGKILL)

        async def told() -> str:
            return "\n".join(one.lines)

        await eventually(told, lambda text: "ingest died (exit status -9); starting it again" in text)
        async with httpx.AsyncClient() as client:

            async def answers() -> int:
                try:
                    return (await client.get(one.url("INGEST", "/webhook/3cx/health"))).status_code
                except httpx.TransportError:
                    return 0

            await eventually(answers, lambda status: status == 200)
        one.process.kill()

    async def left() -> list[int]:
        return children_of(tmp_path)

    await eventually(left, lambda pids: not pids)


async def test_a_broker_that_cannot_be_started_again_at_once_is_tried_until_it_can(tmp_path: Path) -> None:
    with run(tmp_path) as one:
        await one.ready()
        meta = tmp_path / "kafka" / "data" / "meta.properties"
        whole = meta.read_bytes()
        meta.write_bytes(whole.replace(b"node.id=1", b"node.id=7"))
        os.kill(child_of(tmp_path, b"kafka.Kafka"), signal.SIGKILL)

        async def failures() -> int:
            return sum(
                "kafka could not be started again (Apache Kafka did not start; see" in line for line in one.lines
            )

        await eventually(failures, lambda count: count == 2, 60)
        meta.write_bytes(whole)
        async with httpx.AsyncClient() as client:
            body = start(startTime=zulu(datetime.now(UTC)))
            assert (await client.post(one.url("INGEST", "/webhook/3cx/call-event"), json=body)).status_code == 202
            await _calls(client, one, 1, 60)
        assert one.stop() == 0


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"PBX_TIMEZONE": "Mars/Olympus"}, r"PBX_TIMEZONE: 'Mars/Olympus' is not a time zone"),
        ({"DATA_DIR": "/proc/nowhere"}, r"DATA_DIR: /proc/nowhere cannot be written"),
        ({"INGEST_PORT": "1", "INGEST_HOST": "203.0.113.1"}, r"INGEST_PORT: 203\.0\.113\.1:1 cannot be listened on"),
        ({"PATH": "/nowhere"}, r"Java 17 or later and Maven are needed|a container engine"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}, r"no Kafka answers at 127\.0\.0\.1:1"),
        (
            {"PROJECTIONS_DATABASE_URL": "postgresql://x@127.0.0.1:1/y"},
            r"PROJECTIONS_DATABASE_URL: .*; start it, correct",
        ),
        ({"KAFKA_TOPIC_PARTITIONS": "many"}, r"KAFKA_TOPIC_PARTITIONS: "),
    ],
)
def test_a_bad_configuration_ends_with_one_sentence_that_says_what_to_do(
    tmp_path: Path, environment: dict[str, str], sentence: str, bootstrap_servers: str
) -> None:
    broker = {} if "PATH" in environment else {"KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers}
    with run(tmp_path, **{**broker, "KAFKA_TOPIC_PREFIX": "bad-configuration", **environment}) as one:
        status, lines = one.ended()
    assert status == 2
    assert re.search(sentence, lines[-1]), lines
    assert not any("Traceback" in line for line in lines)


def test_a_taken_port_is_named(tmp_path: Path, bootstrap_servers: str) -> None:
    with run(tmp_path, KAFKA_BOOTSTRAP_SERVERS=bootstrap_servers, INGEST_PORT=bootstrap_servers.split(":")[1]) as one:
        status, lines = one.ended()
    assert status == 2
    assert "INGEST_PORT: 127.0.0.1" in lines[-1]
    assert "cannot be listened on" in lines[-1]


def test_the_broker_is_found_again_where_it_was(tmp_path: Path) -> None:
    with running(tmp_path) as broker:
        address = broker.bootstrap_servers
    with running(tmp_path) as again:
        assert again.bootstrap_servers == address


def test_a_broker_that_is_started_again_waits_for_the_port_that_its_clients_know(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    broker.start()
    broker.kill()
    address = broker.bootstrap_servers
    try:
        with (
            socket.create_server((HOST, int(address.split(":")[1]))),
            pytest.raises(ConfigurationError, match="did not start"),
        ):
            broker.start()
        broker.start()
        assert broker.bootstrap_servers == address
    finally:
        broker.stop()


def test_a_broker_that_cannot_start_says_where_to_look(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "meta.properties").write_text("version=1\ncluster.id=none\nnode.id=7\n", "ascii")
    broker = Broker(tmp_path)
    with pytest.raises(Exception, match=r"did not start; see .*kafka\.log"):
        broker.start()
    assert broker.exited()
