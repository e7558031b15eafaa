"""The broker from the public image, for machines without Java or Maven but with a container engine.

The same node as `deploy.local.broker`'s and with the same methods; its data lies in the same folder, mounted.
"""

import os
import shutil
from pathlib import Path

from docker.errors import DockerException
from testcontainers.core.container import DockerContainer

from deploy.local.broker import HOST, Say, back_soon, free_port, say_on_stderr, single_node, wait_until_answering
from events.settings import ConfigurationError

IMAGE = "apache/kafka:4.3.1"
INSIDE = "/var/lib/kafka/data"


def engine_is_there() -> bool:
    """Tell whether a container engine could be asked."""
    return shutil.which("docker") is not None or "DOCKER_HOST" in os.environ


class ContainerBroker:
    """One Kafka node in a container; `bootstrap_servers` is known once it was started."""

    def __init__(self, folder: Path, say: Say = say_on_stderr) -> None:
        """Nothing is started yet."""
        self.folder = folder.absolute()
        self._say = say
        self._port = 0
        self._container: DockerContainer | None = None

    @property
    def bootstrap_servers(self) -> str:
        """``host:port`` of the running broker."""
        return f"{HOST}:{self._port}"

    def exited(self) -> bool:
        """Tell whether the container has ended (or was never started)."""
        if self._container is None:
            return True
        wrapped = self._container.get_wrapped_container()
        wrapped.reload()
        return bool(wrapped.status != "running")

    def start(self) -> None:
        """Start and wait until it answers; raises ConfigurationError with what to do."""
        self.spawn()
        self.wait_until_answering()

    def spawn(self) -> None:
        """Start without waiting."""
        data = self.folder / "container"
        data.mkdir(parents=True, exist_ok=True)
        data.chmod(0o777)  # the image runs as a user of its own
        self._port = self._port or free_port()
        self._say(f"starting {IMAGE} on {self.bootstrap_servers}")
        container = DockerContainer(IMAGE).with_volume_mapping(str(data), INSIDE, "rw")
        # With an address, which `with_bind_ports` does not take: without one the engine listens on every interface.
        container.ports["9092"] = (HOST, self._port)  # type: ignore[assignment]
        for name, value in self._environment().items():
            container = container.with_env(name, value)
        try:
            self._container = container.start()
        except DockerException as error:
            message = f"the container engine could not start {IMAGE} ({error}); start it, or install Java 17 and Maven"
            raise ConfigurationError(message) from None

    def _environment(self) -> dict[str, str]:
        """The image's way to be told server.properties: dots become underscores."""
        own = {
            "listeners": "PLAINTEXT://:9092,BROKER://:9094,CONTROLLER://:9093",
            # The broker talks to itself by a listener that is reachable inside the container.
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap_servers},BROKER://localhost:9094",
            "inter.broker.listener.name": "BROKER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "controller.quorum.voters": "1@localhost:9093",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": INSIDE,
        }
        return {
            f"KAFKA_{name.upper().replace('.', '_')}": value
            for name, value in {**single_node(), **back_soon(), **own}.items()
        }

    def wait_until_answering(self) -> None:
        """Until the broker answers a request; raises ConfigurationError when it does not in time."""
        if not wait_until_answering(self._port, self.exited):
            self.stop()
            raise ConfigurationError(f"{IMAGE} did not start; see the container engine's log of it")
        self._say("ready")

    def stop(self) -> None:
        """Stop and remove the container; its data stays."""
        if self._container is not None:
            self._container.stop()
            self._container = None

    def kill(self) -> None:
        """At once."""
        self.stop()
