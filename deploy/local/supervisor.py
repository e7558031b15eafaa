"""``make run``: the broker, the topics and the three services on one machine, each its own process, kept running.

1. one run per DATA_DIR (a lock); 2. settings and ports are checked before anything starts; 3. broker and topics;
4. the services, until each answers; 5. whoever dies is started again, and it says so; 6. at the end all are stopped, in
the order of the data's flow. Whatever happens to this process, the kernel ends its children with it.
"""

import asyncio
import contextlib
import fcntl
import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiokafka.errors import KafkaConnectionError, KafkaError

from deploy.local.broker import die_with_parent
from deploy.local.brokers import AnyBroker, broker_in
from events.away import AwayError
from events.kafka import ensure_topics
from events.pbx import pbxs_of
from events.serving import ensure_data_dir, listen
from events.settings import BAD_CONFIGURATION, ConfigurationError, load
from ingest.settings import IngestSettings
from processors.settings import ProcessorsSettings
from projections.settings import ProjectionsSettings
from projections.store import store_at

READY_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 15.0
POLL_S: Final = 0.1
BACKOFF_S_MIN: Final = 0.5
BACKOFF_S_MAX: Final = 10.0
STABLE_S: Final = 30.0


def say(line: str) -> None:
    """Tell the person at the terminal."""
    print(line, flush=True)


@dataclass(frozen=True, slots=True)
class Part:
    """A child process: its module, and where it answers when it is up (null: it answers nowhere)."""

    module: str
    host: str = ""
    port: int = 0
    path: str | None = None
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to run, once the settings were read."""

    ingest: IngestSettings
    parts: tuple[Part, ...]
    urls: dict[str, str]


def plan_of(demo: Sequence[str] | None) -> Plan:
    """Read every service's settings now: a mistake is said before anything starts. `demo`: its arguments, or null."""
    ingest, processors, projections = load(IngestSettings), load(ProcessorsSettings), load(ProjectionsSettings)
    pbxs_of(ingest)
    _ = projections.database_url
    parts = [
        Part("ingest", ingest.ingest_host, ingest.ingest_port, "/webhook/3cx/health"),
        Part("processors", processors.processors_host, processors.processors_port, "/health"),
        Part("projections", projections.projections_host, projections.projections_port, "/health"),
    ]
    for part in parts:
        listen(part.host, part.port, f"{part.module.upper()}_PORT").close()
    if demo is not None:
        parts.append(Part("deploy.local.demo", arguments=tuple(demo)))
    door = f"http://{ingest.ingest_host}:{ingest.ingest_port}"
    board = f"http://{projections.projections_host}:{projections.projections_port}"
    urls = {
        "webhooks": f"{door}/webhook/3cx/call-event",
        "wallboard": f"{board}/",
        "API": f"{board}/api/v1/calls",
    }
    return Plan(ingest, tuple(parts), urls)


@contextlib.contextmanager
def lock(data_dir: Path) -> Iterator[None]:
    """Only one run per DATA_DIR; raises ConfigurationError that tells of the other one."""
    with (data_dir / "run.lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            message = (
                f"Callstream runs already in {data_dir.absolute()} ({file.read().strip() or 'starting'}); stop it first"
            )
            raise ConfigurationError(message) from None
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        yield
        file.truncate(0)


def run(demo: Sequence[str] | None = None) -> None:
    """Run until Ctrl-C or SIGTERM; raises ConfigurationError for what the person must change."""
    data_dir = load(IngestSettings).data_dir
    ensure_data_dir(load(IngestSettings))
    with lock(data_dir):
        plan = plan_of(demo)
        own_broker = None
        if not os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
            own_broker = broker_in(data_dir / "kafka", lambda line: say(f"kafka: {line}"))
        with _stoppable():
            try:
                if own_broker is not None:
                    own_broker.start()
                    os.environ["KAFKA_BOOTSTRAP_SERVERS"] = own_broker.bootstrap_servers
                    for service in ("PROCESSORS", "PROJECTIONS"):  # nobody else is in this broker's groups
                        os.environ.setdefault(f"{service}_INSTANCE", "local")
                asyncio.run(Supervisor(plan, own_broker).run())
            except KeyboardInterrupt:
                say("stopped")
            finally:
                if own_broker is not None:
                    own_broker.stop()


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM is as good as Ctrl-C, also while the broker starts."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Supervisor:
    """Starts the parts, starts again what dies, stops all."""

    def __init__(self, plan: Plan, own_broker: AnyBroker | None) -> None:
        """Nothing is started yet."""
        self._plan = plan
        self._broker = own_broker
        self._children: dict[str, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()
        self._wrong: str | None = None
        self._was_ready = False

    async def run(self) -> None:
        """Until told to stop; raises ConfigurationError when a part says that its configuration is wrong."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stopping.set)
        await self._topics()
        await _database()
        keepers = [asyncio.create_task(self._keep(part)) for part in self._plan.parts]
        if self._broker is not None:
            keepers.append(asyncio.create_task(self._keep_broker(self._broker)))
        ready = asyncio.create_task(self._announce())
        await self._stopping.wait()
        ready.cancel()
        await self._stop()
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(ready, *keepers, return_exceptions=True)
        if self._wrong is not None:
            raise ConfigurationError(self._wrong)
        say("stopped")

    async def _topics(self) -> None:
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                await ensure_topics(load(IngestSettings))
        except (KafkaConnectionError, OSError, TimeoutError):
            servers = os.environ["KAFKA_BOOTSTRAP_SERVERS"]
            message = f"KAFKA_BOOTSTRAP_SERVERS: no Kafka answers at {servers}; start it, correct it, or unset it"
            raise ConfigurationError(message) from None
        except KafkaError as error:
            raise ConfigurationError(f"{error}; check the broker's permissions and KAFKA_TOPIC_REPLICATION") from None

    async def _announce(self) -> None:
        loop = asyncio.get_running_loop()
        for part in self._plan.parts:
            patience_ends_s = loop.time() + READY_TIMEOUT_S
            while part.path is not None and (missing := await asyncio.to_thread(_missing, part)):
                if loop.time() > patience_ends_s:
                    say(f"{part.module}: {missing}; still waiting")
                    patience_ends_s = loop.time() + READY_TIMEOUT_S
                await asyncio.sleep(POLL_S)
        for name, url in self._plan.urls.items():
            say(f"{name:>10}  {url}")
        self._was_ready = True
        say("ready")

    async def _keep(self, part: Part) -> None:
        backoff_s = BACKOFF_S_MIN
        while not self._stopping.is_set():
            began = asyncio.get_running_loop().time()
            last = await self._run_once(part)
            child = self._children[part.module]
            if self._stopping.is_set():
                return
            if child.returncode == BAD_CONFIGURATION and not self._was_ready:
                self._wrong = last.removeprefix(f"{part.module}: ")
                self._stopping.set()
                return
            if part.path is None and child.returncode == 0:
                say(f"{part.module} has ended")
                return
            lived_s = asyncio.get_running_loop().time() - began
            backoff_s = BACKOFF_S_MIN if lived_s > STABLE_S else min(backoff_s * 2, BACKOFF_S_MAX)
            say(f"{part.module} died (exit status {child.returncode}); starting it again in {backoff_s:g} s")
            await asyncio.sleep(backoff_s)

    async def _run_once(self, part: Part) -> str:
        """Start the part and pass its lines on until it ends; returns its last line."""
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            part.module,
            *part.arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            preexec_fn=die_with_parent,
            start_new_session=True,  # a Ctrl-C at the terminal is ours to handle, in our order
        )
        self._children[part.module] = child
        last = ""
        if child.stdout is not None:
            async for raw in child.stdout:
                last = raw.decode("utf-8", "replace").rstrip()
                say(f"{part.module.rsplit('.', 1)[-1]}| {last}")
        await child.wait()
        return last

    async def _keep_broker(self, broker: AnyBroker) -> None:
        backoff_s = BACKOFF_S_MIN
        while True:
            await asyncio.sleep(backoff_s)
            if not broker.exited() or self._stopping.is_set():
                continue
            say("kafka died; starting it again")
            try:
                broker.spawn()
                await asyncio.to_thread(broker.wait_until_answering)
                backoff_s = BACKOFF_S_MIN
            except (ConfigurationError, OSError, subprocess.SubprocessError) as error:
                backoff_s = min(backoff_s * 2, BACKOFF_S_MAX)
                say(f"kafka could not be started again ({error}); the next attempt is in {backoff_s:g} s")

    async def _stop(self) -> None:
        """In the order of the flow: first nobody posts, then ingest forwards what it has, and so on."""
        for part in reversed([one for one in self._plan.parts if one.path is None]):
            await self._end(part.module)
        for part in self._plan.parts:
            await self._end(part.module)

    async def _end(self, module: str) -> None:
        child = self._children.get(module)
        if child is None or child.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        try:
            await asyncio.wait_for(child.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            say(f"{module} did not stop in time; killed")
            with contextlib.suppress(ProcessLookupError):
                child.kill()


async def _database() -> None:
    """Projections would wait for one that is away; whoever sits at the terminal is told at once."""
    settings = load(ProjectionsSettings)
    if settings.projections_database_url is None:
        return
    store = store_at(settings.database_url, settings.topic_set.call_sessions)
    try:
        await store.prepare()
    except AwayError as error:
        raise ConfigurationError(f"PROJECTIONS_DATABASE_URL: {error}; start it, correct it, or unset it") from None
    finally:
        await store.close()


def _missing(part: Part) -> str | None:
    """What the part still lacks to be ready; null when it is."""
    connection = http.client.HTTPConnection(part.host, part.port, timeout=2)
    try:
        connection.request("GET", part.path or "/")
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException):
        return "does not answer yet"
    finally:
        connection.close()
    if answer.status >= http.client.INTERNAL_SERVER_ERROR:
        return f"answers {answer.status}"
    health = json.loads(body)
    # The processors answer before they own partitions; ready means that calls are paired.
    if health.get("status") != "ok":
        return f"is {health.get('status')}"
    # The projections answer before the first progress of each partition: a call posted then would be shown late.
    silent = [feed["pbx"] for feed in health.get("feeds", []) if feed["status"] == "silent"]
    return f"the feed of {', '.join(silent)} is silent" if silent else None
