"""A real Apache Kafka for one machine: one node in KRaft mode, a child process, its data in a folder and found again.

1. jars: Maven resolves `deploy/kafka/pom.xml` into a cache folder outside the repository, once;
2. format: the storage gets its cluster id, once;
3. start: the child listens on ports kept in the data folder, and dies with its parent, however that ends.
"""

import contextlib
import ctypes
import fcntl
import os
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from events.settings import ConfigurationError

POM = Path(__file__).parent.parent / "kafka" / "pom.xml"
LOG4J = POM.with_name("log4j2.properties")
JAVA_MAJOR_MIN = 17
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
POLL_S = 0.05
HOST = "127.0.0.1"
PORTS: Final = range(15_000, 32_000)
_PR_SET_PDEATHSIG = 1

Say = Callable[[str], None]


def say_on_stderr(line: str) -> None:
    """Show progress to whoever started us."""
    sys.stderr.write(f"kafka: {line}\n")
    sys.stderr.flush()


def die_with_parent() -> None:
    """Between fork and exec of a child: have the kernel kill it when its parent's thread ends (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody listens on now.

    From below those that Linux gives to outgoing connections (32768 and up): one of them would be somebody's own end
    of a connection before whoever asked here listens on it.
    """
    while True:
        port = secrets.choice(PORTS)
        if is_free(port):
            return port


def is_free(port: int) -> bool:
    """Tell whether the loopback port can be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def java_is_there() -> bool:
    """Tell whether both Java (17 or later) and Maven can be run."""
    if shutil.which("java") is None or shutil.which("mvn") is None:
        return False
    told = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
    major = re.search(r'version "(\d+)', told)
    return major is not None and int(major.group(1)) >= JAVA_MAJOR_MIN


def resolve_jars(say: Say) -> Path:
    """Return the folder of Kafka's jars, resolved by Maven when it is not there; raises ConfigurationError."""
    version = re.search(r"kafka_2\.13</artifactId>\s*<version>([^<]+)", POM.read_text("utf-8"))
    if version is None:
        message = f"{POM} names no version of kafka_2.13"
        raise ValueError(message)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "callstream"
    libs = cache / f"kafka-{version.group(1)}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two first starts at once download once
        if not libs.is_dir():
            say(f"downloading Apache Kafka {version.group(1)} (once, about 130 MB)")
            _download(libs)
    return libs


def _download(libs: Path) -> None:
    # Into a folder beside it and then renamed: a download that was cut short is never taken for a whole one.
    with tempfile.TemporaryDirectory(dir=libs.parent) as folder:
        arrived = Path(folder) / "libs"
        goal = "org.apache.maven.plugins:maven-dependency-plugin:3.9.0:copy-dependencies"
        done = subprocess.run(
            ["mvn", "-q", "-B", "-f", str(POM), goal, f"-DoutputDirectory={arrived}"],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode:
            last = (done.stdout + done.stderr).strip().splitlines()
            message = f"Maven could not download Apache Kafka ({last[0] if last else 'no message'}); check the network"
            raise ConfigurationError(message)
        arrived.rename(libs)


class Broker:
    """One Kafka node with its data in `folder`; `bootstrap_servers` is known once it was started."""

    def __init__(
        self, folder: Path, say: Say = say_on_stderr, heap_mb: int = 512, advertised_port: int | None = None
    ) -> None:
        """Nothing is started yet.

        `heap_mb` is the most that the JVM's heap may take; `advertised_port`: where clients are told to find it, when
        a proxy stands in between.
        """
        self.folder = folder.absolute()
        self.heap_mb = heap_mb
        self.advertised_port = advertised_port
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        self._controller_port = 0

    @property
    def bootstrap_servers(self) -> str:
        """``host:port`` of the running broker."""
        return f"{HOST}:{self._port}"

    @property
    def pid(self) -> int:
        """Process id of the running broker; raises RuntimeError when there is none."""
        if self._process is None:
            message = "the broker was not started"
            raise RuntimeError(message)
        return self._process.pid

    def exited(self) -> bool:
        """Tell whether the child has ended (or was never started)."""
        return self._process is None or self._process.poll() is not None

    def start(self) -> None:
        """Start and wait until it answers; raises ConfigurationError with what to do. Call it in the main thread."""
        self.spawn()
        self.wait_until_answering()

    def spawn(self) -> None:
        """Steps 1 to 3 without the waiting; the child lives as long as the calling thread."""
        libs = resolve_jars(self._say)
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self._port:  # later starts are where the clients of the first one look, or fail
            self._port, self._controller_port = self._ports()
        config = self.folder / "server.properties"
        properties = {
            **single_node(),
            **back_soon(),
            **self._addresses(self._controller_port),
            "log.dirs": str(self.folder / "data"),
        }
        config.write_text("".join(f"{name}={value}\n" for name, value in properties.items()), "utf-8")
        if not (self.folder / "data" / "meta.properties").exists():
            self._say("formatting its storage")
            self._format(libs, config)
        self._say(f"starting on {self.bootstrap_servers}")
        self._launch(libs, config)

    def _launch(self, libs: Path, config: Path) -> None:
        self._process = subprocess.Popen(
            self._java(libs, "kafka.Kafka", str(config)),
            stdin=subprocess.DEVNULL,
            stdout=(self.folder / "console.log").open("ab"),
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one prctl call; the parents here have one thread at that point
            start_new_session=True,  # a Ctrl-C at the terminal is ours to handle, in our order
        )

    def wait_until_answering(self) -> None:
        """Step 3's end: the broker answers a request; raises ConfigurationError when it does not in time."""
        if not wait_until_answering(self._port, self.exited):
            self.kill()
            message = f"Apache Kafka did not start; see {self.folder}/kafka.log and console.log there"
            raise ConfigurationError(message)
        self._say("ready")

    def stop(self) -> None:
        """SIGTERM, then SIGKILL at the deadline; afterwards nothing of it runs."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL, at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _ports(self) -> tuple[int, int]:
        """The ports of the last start, as long as they are free: clients find the broker where it was."""
        kept = self.folder / "ports"
        with contextlib.suppress(OSError, ValueError):
            port, controller_port = (int(word) for word in kept.read_text("ascii").split())
            if is_free(port) and is_free(controller_port):
                return port, controller_port
        port, controller_port = free_port(), free_port()
        kept.write_text(f"{port} {controller_port}\n", "ascii")
        return port, controller_port

    def _addresses(self, controller_port: int) -> dict[str, str]:
        """Where it listens, and how."""
        return {
            "controller.quorum.voters": f"1@{HOST}:{controller_port}",
            "listeners": f"PLAINTEXT://{HOST}:{self._port},CONTROLLER://{HOST}:{controller_port}",
            "advertised.listeners": f"PLAINTEXT://{HOST}:{self.advertised_port or self._port}",
            "controller.listener.names": "CONTROLLER",
        }

    def _format_options(self) -> list[str]:
        """What the storage is formatted with, beside its cluster id."""
        return []

    def _format(self, libs: Path, config: Path) -> None:
        tool = self._java(libs, "kafka.tools.StorageTool")
        cluster = subprocess.run([*tool, "random-uuid"], capture_output=True, text=True, check=True).stdout.split()[-1]
        options = ["-t", cluster, "-c", str(config), *self._format_options()]
        subprocess.run([*tool, "format", *options], capture_output=True, check=True)

    def _java(self, libs: Path, *arguments: str) -> list[str]:
        return [
            "java",
            f"-Xmx{self.heap_mb}m",
            "-XX:TieredStopAtLevel=1",  # starts faster, and one machine's load needs no second compiler
            "-Djava.awt.headless=true",
            f"-Dlog4j2.configurationFile={LOG4J}",
            f"-Dcallstream.kafka.log={self.folder / 'kafka.log'}",
            "-cp",
            f"{libs}/*",
            *arguments,
        ]


def single_node() -> dict[str, str]:
    """server.properties of one node, but for its addresses and folders."""
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        # One node: one copy.
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        # Few internal partitions: a start reads them all.
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.num.partitions": "4",
        # A group of one or two members need not wait for more.
        "group.initial.rebalance.delay.ms": "0",
        # Tests use short sessions.
        "group.min.session.timeout.ms": "1000",
        # A dead owner's transaction is cleared soon after its timeout.
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
        "auto.create.topics.enable": "false",
        "log.cleaner.dedupe.buffer.size": "33554432",
    }


def back_soon() -> dict[str, str]:
    """For a node that is alone: after a kill it waits until its own earlier session is over (9 s by default)."""
    return {"broker.session.timeout.ms": "3000", "broker.heartbeat.interval.ms": "500"}


def wait_until_answering(port: int, exited: Callable[[], bool]) -> bool:
    """Wait until the broker answers a request; false when it ended or the time is over."""
    deadline = time.monotonic() + START_TIMEOUT_S
    moment = threading.Event()
    while not _answers(port):
        if exited() or time.monotonic() > deadline:
            return False
        moment.wait(POLL_S)
    return True


def _answers(port: int) -> bool:
    """Send one ApiVersions request (key 18, version 0) and see that its correlation id comes back."""
    request = struct.pack(">hhih", 18, 0, 7, -1)
    try:
        with socket.create_connection((HOST, port), timeout=2) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            answer = connection.recv(8)
    except OSError:
        return False
    return len(answer) == struct.calcsize(">ii") and struct.unpack(">ii", answer)[1] == 7  # noqa: PLR2004 - as sent
