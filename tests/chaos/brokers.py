"""A cluster of one or three real Kafka nodes, each with a listener per service, which the proxy stands before."""

import asyncio
import base64
import os
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.local.broker import HOST, Broker, free_port, resolve_jars, single_node, wait_until_answering
from tests.chaos.proxy import Way

HEAP_MB = 256


class Node(Broker):
    """One node of the cluster; `bootstrap_servers` is its own listener, before which nothing stands."""

    def __init__(self, folder: Path, number: int, ways: Sequence[str], beside: Mapping[str, str]) -> None:
        """`number` counts from 1; ports are chosen now, for the cluster's life; `beside`: further properties."""
        super().__init__(folder, lambda _: None, HEAP_MB)
        self.number = number
        self._beside = beside
        self.controller_port = free_port()
        self.behind = {way: free_port() for way in ways}
        self.before = {way: free_port() for way in ways}
        self._port = free_port()
        self._voters = ""

    def prepare(self, cluster_id: str, voters: Mapping[int, int]) -> None:
        """Write the configuration and format the storage."""
        self._voters = ",".join(f"{number}@{HOST}:{port}" for number, port in voters.items())
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "server.properties"
        config.write_text("".join(f"{name}={value}\n" for name, value in self._settings(len(voters)).items()), "utf-8")
        tool = self._java(resolve_jars(self._say), "kafka.tools.StorageTool")
        subprocess.run([*tool, "format", "-t", cluster_id, "-c", str(config)], capture_output=True, check=True)

    def spawn(self) -> None:
        """Start the process, without waiting."""
        self._launch(resolve_jars(self._say), self.folder / "server.properties")

    @property
    def port(self) -> int:
        """At which the other nodes talk to it, and whoever goes past the proxy."""
        return self._port

    def signal(self, number: int) -> None:
        """Send a signal to the process."""
        os.kill(self.pid, number)

    def wait(self) -> None:
        """Until it answers."""
        if not wait_until_answering(self._port, self.exited):
            message = f"node {self.number} did not start: {(self.folder / 'console.log').read_text()[-2000:]}"
            raise AssertionError(message)

    def _settings(self, nodes: int) -> dict[str, str]:
        copies, least = str(nodes), str(max(1, nodes - 1))
        services = {name.upper(): port for name, port in self.behind.items()}
        told = {name.upper(): port for name, port in self.before.items()}
        listeners = {"INTERNAL": self._port, "CONTROLLER": self.controller_port, **services}
        return {
            **single_node(),
            "node.id": str(self.number),
            "controller.quorum.voters": self._voters,
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "INTERNAL",
            "listeners": ",".join(f"{name}://{HOST}:{port}" for name, port in listeners.items()),
            "advertised.listeners": ",".join(
                f"{name}://{HOST}:{port}" for name, port in {"INTERNAL": self._port, **told}.items()
            ),
            "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in listeners),
            "offsets.topic.replication.factor": copies,
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": least,
            "min.insync.replicas": least,
            "log.dirs": str(self.folder / "data"),
            **self._beside,
        }


class Cluster:
    """The nodes, and before each of their listeners the way of one service."""

    def __init__(self, folders: Sequence[Path], ways: Mapping[str, Way], beside: Mapping[str, str]) -> None:
        """Nothing is started yet; one node in each folder, with the properties `beside` ours."""
        self.nodes = [Node(folder, number, list(ways), beside) for number, folder in enumerate(folders, 1)]
        self._ways = ways
        self._servers: list[asyncio.Server] = []

    def node(self, number: int) -> Node:
        """The node of that number, from 1."""
        return self.nodes[number - 1]

    @property
    def bootstrap_servers(self) -> str:
        """Past the proxy."""
        return ",".join(node.bootstrap_servers for node in self.nodes)

    def bootstrap_servers_of(self, way: str) -> str:
        """Through the proxy, as that service."""
        return ",".join(f"{HOST}:{node.before[way]}" for node in self.nodes)

    async def start(self) -> None:
        """Format and start every node, and the proxies."""
        # Never with "-" at its beginning: Kafka's tool takes that for an option.
        cluster_id = "C" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")[1:]
        voters = {node.number: node.controller_port for node in self.nodes}
        for node in self.nodes:
            node.prepare(cluster_id, voters)
            node.spawn()
        for node in self.nodes:
            await asyncio.to_thread(node.wait)
            for name, way in self._ways.items():
                self._servers.append(await way.serve(node.before[name], node.behind[name]))

    def kill(self) -> None:
        """End all of it."""
        for server in self._servers:
            server.close()
        for node in self.nodes:
            node.kill()
