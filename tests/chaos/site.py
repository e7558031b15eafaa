"""The whole site: brokers, PostgreSQL, one ingest, processors, and projections on SQLite and on PostgreSQL."""

import asyncio
import contextlib
import os
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from deploy.local.broker import free_port
from events.kafka import KafkaSettings, committed_reader, connection, ensure_topics
from events.topics import ALL
from processors.rules import Rules
from tests.chaos.brokers import Cluster, Node
from tests.chaos.copies import BROKER_PROPERTIES, Copies, kept_for
from tests.chaos.database import Database
from tests.chaos.disks import Disks
from tests.chaos.plan import PARTITIONS
from tests.chaos.proxy import Way
from tests.chaos.reference import Raw
from tests.chaos.traffic import PBXS, QUEUE, SWISS
from tests.system import Service, read_committed

RULES = Rules(call_duration_max_s=30, superseded_grace_s=10, ring_max_s=30, tolerance_s=5, closed_kept_s=25)
"""Short, so that a run of a minute goes beyond each of them."""
SHORT_RULES = Rules(call_duration_max_s=10, superseded_grace_s=4, ring_max_s=10, tolerance_s=3, closed_kept_s=8)
"""For a run of half a minute."""
SESSION_TIMEOUT_S = 6
ALWAYS = ("ingest", "processors-1", "processors-2", "projections-sqlite", "projections-postgres")
WAYS = ("ingest", "processors", "projections")
SAMPLE = re.compile(r"^(threecx_\w+?)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
READ_TIMEOUT_S = 300.0
BLOCK_BYTES = 512
"""The unit of `st_blocks`, whatever the file system's own."""
SECOND = "-second"
"""Of the name of a second projections process on the same database."""
SWISS_ZONE = "Europe/Zurich"
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """How many brokers there are, and whether each store has a disk of its own (root only).

    `retention_s`: for how long the topics keep what is in them; 0: for ever.
    """

    brokers: int = 1
    own_disks: bool = False
    retention_s: float = 0.0


class Site:
    """Everything as real processes; `services` are those that should be running, `behind` who was last waited for."""

    def __init__(self, folder: Path, around: Surroundings, *, plain_times: bool, rules: Rules = RULES) -> None:
        """Nothing is started yet; `folder` takes data and logs."""
        self.folder = folder
        self.rules = rules
        self.disks = Disks()
        self._own_disks = around.own_disks
        self.ways = {name: Way() for name in WAYS}
        brokers = [self._place_of(f"kafka-{number}") for number in range(1, around.brokers + 1)]
        # One broker's word is worth no more than its page cache, unless it syncs each record.
        syncs = around.own_disks and around.brokers == 1
        properties = {"log.flush.interval.messages": "1"} if syncs else {}
        self._retention_s = around.retention_s
        self.cluster = Cluster(brokers, self.ways, properties | (BROKER_PROPERTIES if around.retention_s else {}))
        self.database = Database(self._place_of("postgres") / "server")
        self.services: dict[str, Service] = {}
        self.problems: list[str] = []
        self.behind = ""
        self._clock = folder / "clock"
        self._ports = {name: free_port() for name in (*ALWAYS, "processors-3", *map(second_of, ALWAYS[-2:]))}
        self._data = {name: folder / "data" / name for name in self._ports}
        if around.own_disks:
            self._data |= {name: self._place_of(name) / "data" for name in ("ingest", "projections-sqlite")}
        self._pbxs = folder / "pbx.toml"
        self._pbxs.write_text(_pbx_config(plain_times=plain_times), "utf-8")
        self.zones = {} if plain_times else dict.fromkeys(SWISS, ZoneInfo(SWISS_ZONE))
        self._replication = around.brokers
        names = self.kafka.topic_set
        copied = (names.webhooks, names.call_sessions, names.dead_letters)
        self.copies = Copies(self.kafka, copied) if around.retention_s else None
        self.set_clock(0.0)

    def _place_of(self, store: str) -> Path:
        """Where the store keeps its data: a folder, or a disk of its own."""
        if self._own_disks:
            return self.disks.make(store, self.folder / "disks" / store)
        return self.folder / store

    def set_clock(self, offset_s: float) -> None:
        """Make ingest's clock wrong by so much."""
        fresh = self._clock.with_suffix(".new")
        fresh.write_text(str(offset_s), "ascii")
        fresh.rename(self._clock)

    @property
    def kafka(self) -> KafkaSettings:
        """Past the proxies."""
        return KafkaSettings(
            kafka_bootstrap_servers=self.cluster.bootstrap_servers,
            kafka_topic_partitions=PARTITIONS,
            kafka_topic_replication=self._replication,
        )

    @property
    def door(self) -> str:
        """URL of ingest."""
        return f"http://127.0.0.1:{self._ports['ingest']}"

    def board(self, store: str) -> str:
        """URL of the projections on ``sqlite`` or ``postgres``."""
        return f"http://127.0.0.1:{self._ports[f'projections-{store}']}"

    async def start(self) -> None:
        """All of it, until each service answers."""
        self.database.start()
        await self.cluster.start()
        await ensure_topics(self.kafka, kept_for(self._retention_s) if self._retention_s else ALL)
        for name in ALWAYS:
            self.launch(name)
        for name in ALWAYS:
            await self.answers(name)
        if self._own_disks:
            await asyncio.to_thread(os.sync)  # configurations, formats: what is old is on the disks

    def launch(self, name: str) -> None:
        """Start a service; to be called in the main thread, whose end would end it."""
        module = "tests.chaos.clocked_ingest" if name == "ingest" else name.split("-", maxsplit=1)[0]
        self.services[name] = Service(module, self._environment(name), self.folder / f"{name}.log")

    def arm(self, name: str, point: str, nth: int) -> Service:
        """Start a service that kills itself at the point; who waits for that forgets it."""
        arguments = (name.split("-", maxsplit=1)[0], point, str(nth))
        service = Service("tests.chaos.armed", self._environment(name), self.folder / f"{name}.log", *arguments)
        self.services[name] = service
        return service

    def look(self) -> None:
        """Whatever ended though nobody ended it is a problem, and is started again."""
        for name, service in list(self.services.items()):
            if service.returncode is not None:
                self.problems.append(f"{name} ended by itself with status {service.returncode}")
                self.launch(name)

    async def answers(self, name: str, timeout_s: float = 60.0) -> None:
        """Wait until the service says that it is well."""
        path = "/webhook/3cx/health" if name == "ingest" else "/health"
        url = f"http://127.0.0.1:{self._ports[name]}{path}"
        async with asyncio.timeout(timeout_s), httpx.AsyncClient(timeout=2) as client:
            while True:
                try:
                    if (await client.get(url)).json()["status"] == "ok":
                        return
                except (httpx.HTTPError, ValueError):
                    pass
                await asyncio.sleep(0.1)

    def kill(self, name: str) -> None:
        """SIGKILL, and forget it."""
        self.services.pop(name).kill()

    async def stop(self, name: str) -> None:
        """SIGTERM; another status than 0 is a problem."""
        status = await asyncio.to_thread(self.services.pop(name).stop)
        if status:
            self.problems.append(f"{name} ended with status {status} after SIGTERM")

    def send(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a service."""
        self.services[name].send(number)

    def kill_all(self) -> None:
        """Leave nothing behind."""
        for service in self.services.values():
            service.kill()
        self.cluster.kill()
        self.database.kill()
        self.disks.close()

    def watched(self) -> dict[str, int]:
        """Every process that should always run, by name; of PostgreSQL the first one."""
        found = {name: self.services[name].pid for name in ALWAYS if name in self.services}
        found |= {"postgres": self.database.pid}
        return found | {f"kafka-{node.number}": node.pid for node in self.cluster.nodes}

    def log_bytes(self) -> int:
        """What the brokers' data take of their disks."""
        blocks = 0
        for node in self.cluster.nodes:
            for folder, _, files in os.walk(node.folder / "data"):  # which passes over what was deleted meanwhile
                for name in files:
                    with contextlib.suppress(OSError):
                        blocks += (Path(folder) / name).stat().st_blocks
        return blocks * BLOCK_BYTES

    @property
    def journal(self) -> Path:
        """The folder of ingest's journal."""
        return self._data["ingest"] / "journal"

    # A store's process, whatever it is: `ingest`, `kafka-1`, `postgres`, `projections-sqlite`.

    def pids(self, store: str) -> list[int]:
        """The processes that write to the store's disk."""
        if store == "postgres":
            return self.database.pids()
        return [self._node(store).pid] if store.startswith("kafka") else [self.services[store].pid]

    async def has_ended(self, store: str) -> bool:
        """Whether it ended by itself, or is about to: a broker that gives up takes a moment."""
        if not store.startswith("kafka") and store != "postgres":
            return False  # `look` sees to ours
        await asyncio.sleep(3)
        if store != "postgres":
            return self._node(store).exited()
        # It first tries to recover by itself, and may end only then.
        while not (await asyncio.to_thread(self.database.is_ready, 1) or self.database.has_ended()):
            pass
        return self.database.has_ended()

    async def end(self, store: str) -> None:
        """SIGKILL."""
        if store == "postgres":
            self.database.kill()
        elif store.startswith("kafka"):
            self._node(store).kill()
        else:
            self.kill(store)

    async def begin(self, store: str) -> None:
        """Start it on what is there, and wait until it answers."""
        if store == "postgres":
            await asyncio.to_thread(self.database.start)
        elif store.startswith("kafka"):
            self._node(store).spawn()
            await asyncio.to_thread(self._node(store).wait)
        else:
            self.launch(store)
            await self.answers(store)

    def _node(self, store: str) -> Node:
        return self.cluster.node(int(store[-1]))

    def ports_between(self, pair: str) -> list[int]:
        """The ports at which the two talk to each other; of `brokers`, the nodes among themselves."""
        nodes = self.cluster.nodes
        if pair.endswith("-brokers"):
            return [node.before[pair.removesuffix("-brokers")] for node in nodes]
        ports = {
            "brokers": [port for node in nodes for port in (node.port, node.controller_port)],
            "projections-postgres": [self.database.port],
            "sender-ingest": [self._ports["ingest"]],
            "follower-projections": [self._ports[name] for name in ALWAYS if name.startswith("projections")],
        }
        return ports[pair]

    async def ends(self, topic: str) -> list[int]:
        """The end of each partition, with what is still open."""
        options = committed_reader(self.kafka) | {"isolation_level": "read_uncommitted"}
        consumer = AIOKafkaConsumer(**options, group_id=None)
        await consumer.start()
        try:
            partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
            found = await consumer.end_offsets(partitions)
            return [found[one] for one in partitions]
        finally:
            await consumer.stop()

    async def caught_up(self, timeout_s: float) -> None:
        """Wait until what is in the log now has gone through pairing into both views; raises TimeoutError."""
        topics = self.kafka.topic_set
        stages = ["projections-postgres", "projections-sqlite", "processors"]
        async with asyncio.timeout(timeout_s):
            while stages:
                try:
                    async with self._asking() as admin:
                        topic = topics.webhooks if stages[-1] == "processors" else topics.call_sessions
                        await self._past(admin, stages[-1], topic)
                        stages.pop()
                except KafkaError:  # a node has gone, or its successor is not there yet
                    await asyncio.sleep(0.2)

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(**connection(self.kafka), request_timeout_ms=10_000)
        await admin.start()
        try:
            yield admin
        finally:
            await admin.close()

    async def leader(self) -> int:
        """The number of the node that leads most partitions of the two big topics."""
        topics = self.kafka.topic_set
        async with self._asking() as admin:
            found = await admin.describe_topics([topics.webhooks, topics.call_sessions])
        leaders = Counter(int(partition["leader"]) for topic in found for partition in topic["partitions"])
        return leaders.most_common(1)[0][0]

    async def coordinator(self) -> int:
        """The number of the node that decides on the first partition's transactions."""
        async with self._asking() as admin:
            identity = f"processors-{self.kafka.topic_set.webhooks}-0"
            return int(await admin.find_coordinator(identity, coordinator_type=1))

    async def _past(self, admin: AIOKafkaAdminClient, group: str, topic: str) -> None:
        ends = await self.ends(topic)
        while True:
            offsets = await admin.list_consumer_group_offsets(group)
            found = [offsets.get(TopicPartition(topic, number)) for number in range(PARTITIONS)]
            told = [0 if one is None else one.offset for one in found]
            behind = {number: (at, end) for number, (at, end) in enumerate(zip(told, ends, strict=True)) if at < end}
            if not behind:
                return
            self.behind = f"{group}: " + ", ".join(f"{one} at {at} of {end}" for one, (at, end) in behind.items())
            await asyncio.sleep(0.1)

    async def topic(self, name: str) -> list[Raw]:
        """Every committed record, deleted since or not."""
        if self.copies is not None:
            return await self.copies.all_of(name, await self.ends(name))
        found = await read_committed(self.kafka, name, READ_TIMEOUT_S)
        return [Raw(one.partition, one.offset, one.key, one.value, tuple(one.headers)) for one in found]

    async def calls(self, store: str) -> dict[str, Json]:
        """The call log, page by page."""
        calls: dict[str, Json] = {}
        async with httpx.AsyncClient(base_url=self.board(store), timeout=60) as client:
            cursor: dict[str, str] = {}
            while True:
                answer = await client.get("/api/v1/calls", params={"limit": 1000, **cursor})
                page = answer.raise_for_status().json()
                calls |= {call["session_id"]: call for call in page["calls"]}
                if page["next_cursor"] is None:
                    return calls
                cursor = {"cursor": page["next_cursor"]}

    async def agents(self, store: str) -> tuple[list[Json], int]:
        """Every agent, and as of which position."""
        async with httpx.AsyncClient(base_url=self.board(store), timeout=60) as client:
            answer = (await client.get("/api/v1/agents")).raise_for_status().json()
            return answer["agents"], answer["position"]

    async def revisions(self, store: str, session_id: str) -> int:
        """How many revisions of a call are told; none of one that the view has lost."""
        async with httpx.AsyncClient(base_url=self.board(store), timeout=60) as client:
            answer = await client.get(f"/api/v1/calls/{session_id}/why")
        if answer.status_code == httpx.codes.NOT_FOUND:
            return 0
        return len(answer.raise_for_status().json()["revisions"])

    async def has_folded(self, name: str) -> bool:
        """Whether a projections process has folded any session event, as far as it says."""
        try:
            counted = await self.counted(name)
        except httpx.HTTPError:
            return False
        return any(value for key, value in counted.items() if key.startswith("threecx_projections_events_total{"))

    async def counted(self, name: str) -> Counter[str]:
        """The samples of a service's /metrics, by name and labels."""
        async with httpx.AsyncClient() as client:
            text = (await client.get(f"http://127.0.0.1:{self._ports[name]}/metrics", timeout=10)).text
        return Counter({f"{name}{{{labels}}}": float(value) for name, labels, value in SAMPLE.findall(text)})

    def _environment(self, name: str) -> Mapping[str, str]:
        role = name.split("-", maxsplit=1)[0]
        data = self._data[name.removesuffix(SECOND)]
        data.mkdir(parents=True, exist_ok=True)
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.cluster.bootstrap_servers_of(role),
            "KAFKA_TOPIC_PARTITIONS": str(PARTITIONS),
            "KAFKA_TOPIC_REPLICATION": str(self._replication),
            "DATA_DIR": str(data),
            "PBX_CONFIG": str(self._pbxs),
            "LOG_FORMAT": "json",
            f"{role.upper()}_PORT": str(self._ports[name]),
            **getattr(self, f"_of_{role}")(name),
        }

    def _of_ingest(self, _name: str) -> dict[str, str]:
        return {
            "CHAOS_CLOCK_FILE": str(self._clock),
            "INGEST_JOURNAL_SEGMENT_BYTES": str(256 * 1024),
            "INGEST_FORWARD_TIMEOUT_S": "4",
        }

    def _of_processors(self, name: str) -> dict[str, str]:
        return {
            "PROCESSORS_INSTANCE": name,
            "PROCESSORS_APPLICATION": "processors",
            "PROCESSORS_SESSION_TIMEOUT_S": str(SESSION_TIMEOUT_S),
            "PROCESSORS_CALL_DURATION_MAX_S": str(self.rules.call_duration_max_s),
            "PROCESSORS_SUPERSEDED_GRACE_S": str(self.rules.superseded_grace_s),
            "PROCESSORS_RING_MAX_S": str(self.rules.ring_max_s),
            "PROCESSORS_TOLERANCE_S": str(self.rules.tolerance_s),
            "PROCESSORS_CLOSED_KEPT_S": str(self.rules.closed_kept_s),
        }

    def _of_projections(self, name: str) -> dict[str, str]:
        store = name.removesuffix(SECOND).rpartition("-")[2]
        return {
            "PROJECTIONS_INSTANCE": name,
            "PROJECTIONS_APPLICATION": f"projections-{store}",
            "PROJECTIONS_SESSION_TIMEOUT_S": str(SESSION_TIMEOUT_S),
            "PROJECTIONS_FEED_SILENT_S": "86400",
            **({"PROJECTIONS_DATABASE_URL": self.database.url} if store == "postgres" else {}),
        }


def second_of(projections: str) -> str:
    """The name of the second process."""
    return f"{projections}{SECOND}"


def _pbx_config(*, plain_times: bool) -> str:
    tables = []
    for pbx in PBXS:
        swiss = pbx in SWISS and not plain_times
        habits = f'country = "CH"\ntimezone = "{SWISS_ZONE}"\n' if swiss else ""
        tables.append(f'[pbx.{pbx}]\nshared_extensions = ["{QUEUE}"]\n{habits}')
    return "\n".join(tables)
