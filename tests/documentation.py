"""``python -m tests.documentation``: the shell commands of README and docs/, run as they stand there; ``--help``.

Every command of every block that is marked as shell is run by bash, in a copy of the tree, beside a running system with
a broker of its own; only addresses, folders of the system and what the reader is to fill in (…) are put in. What is not
run is in `NOT_RUN` with the reason. Lines of kubectl, wherever they stand, are run as far as they need no cluster. With
``--engine`` the lines for containers, too (root, a container engine, the images of tests/containers/stand-ins).
"""

import argparse
import asyncio
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import httpx

from deploy.local.broker import free_port
from deploy.local.brokers import running
from events import dead_letters
from events.kafka import KafkaSettings, ensure_topics
from processors.task import InputRecord
from tests.builders import Log
from tests.system import System, append, post
from tests.test_end_to_end import seed_end, seed_start

ROOT: Final = Path(__file__).parent.parent
TIMEOUT_S: Final = 300
NOT_RUN: Final[Mapping[str, str]] = {
    r"^make test": "the whole suite: .ci/run is it",
    r"^make chaos|tests\.chaos": "half an hour each; docs/chaos.md has what they came to",
    r"tests\.upgrade": "four minutes; its result stands below the line",
    r"--profile ui": "the public image of the Kafka UI cannot be had where no image registry is reached",
    r"^systemctl ": "no systemd as process 1; tests/test_systemd.py has the units verified",
}
"""Pattern of a command to why it is not run here."""
REASON: Final = "body is neither a JSON object nor form fields"
STATUSES: Final[Mapping[str, tuple[int, ...]]] = {"python -m projections parity": (0, 1, 2)}
"""Exit statuses that are an answer: nobody is polled here."""
Done = subprocess.CompletedProcess[str]
OF_THE_ENGINE: Final = re.compile(r"^(docker|deploy/image/build|cp deploy/\.env)")
EVERY: Final = re.compile(r"```(?:bash|sh|shell|console)\n(.*?)```", re.DOTALL)
KUBECTL: Final = re.compile(r"kubectl [^`\n]+")


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a page, however many lines it takes."""

    page: str
    text: str

    @property
    def reason(self) -> str | None:
        """Why it is not run; null: it is."""
        return next((why for pattern, why in NOT_RUN.items() if re.search(pattern, self.text)), None)


def pages() -> list[Path]:
    """README, and all of docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands() -> Iterator[Command]:
    """Every command of every shell block."""
    for page in pages():
        for block in EVERY.findall(page.read_text("utf-8")):
            for text in split(block):
                yield Command(str(page.relative_to(ROOT)), text)


def split(block: str) -> Iterator[str]:
    """The commands of a block: a line, and those that it goes on with after a backslash or within quotes."""
    waiting = ""
    for line in block.splitlines():
        waiting += line
        if waiting.endswith("\\"):
            waiting += "\n"
            continue
        try:
            words = shlex.split(waiting, comments=True)
        except ValueError:  # within quotes
            waiting += "\n"
            continue
        if words:
            yield waiting
        waiting = ""


def kubectl_lines() -> list[str]:
    """Every kubectl command of the pages and of the manifests' comments."""
    files = [*pages(), *sorted((ROOT / "deploy" / "kubernetes").rglob("*.yaml"))]
    found = [line.strip() for file in files for line in KUBECTL.findall(file.read_text("utf-8"))]
    return list(dict.fromkeys(re.sub(r"\s{2,}\(.*\)$", "", line) for line in found))


@dataclass
class Walk:
    """What came of the commands."""

    count: int = 0
    failed: list[str] = field(default_factory=list)

    def note(self, done: Iterable[tuple[Command, Done]]) -> None:
        """Tell, and keep, what each came to."""
        for command, came in done:
            good = came.returncode in STATUSES.get(command.text.split(" --")[0].strip(), (0,))
            self.count += 1
            first = command.text.splitlines()[0]
            print(f"{'ok  ' if good else 'FAIL'} {came.returncode} {command.page}: {first}", flush=True)
            if not good:
                self.failed.append(f"{command.page}: {command.text}\n{came.stdout[-1500:]}{came.stderr[-1500:]}")


class Reader:
    """Somebody who follows the pages, in a copy of the tree, beside a running system."""

    def __init__(self, folder: Path, system: System, kafka: KafkaSettings) -> None:
        """`folder` takes the copy and what the commands write."""
        self._folder, self._system, self._kafka = folder, system, kafka
        self.tree = folder / "tree"
        for name in subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines():
            (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, self.tree / name)
        editor = folder / "edit"
        body = '{"agentExt": "201", "direction": "Inbound", "caller": "+41225551234"}'
        editor.write_text(f"#!/bin/sh\nprintf '{body}' > \"$1\"\n", "ascii")
        editor.chmod(0o755)
        self._environment = {
            **os.environ,
            **system.environment,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "EDITOR": str(editor),
            "SECRET": "none-is-set",
        }

    def run(self, command: Command) -> Done:
        """As bash does it."""
        text = self._put_in(command)
        if re.match(r"make (run|demo)", text):
            return until_ready(text, self._folder)
        if "conformance check" in text:  # the sessions that somebody's consumer made of the topic
            read = f"python examples/call_sessions.py {self._kafka.kafka_bootstrap_servers} faults > sessions.ndjson"
            self.bash(read)
        with ExitStack() as stack:
            if "first_call" in text:
                words = [sys.executable, "-m", "tests.documentation", "--post-a-call-to", self._system.door]
                stack.enter_context(subprocess.Popen(words, cwd=ROOT))
            return self.bash(text)

    def bash(self, text: str, **environment: str) -> Done:
        """In the copy of the tree."""
        return subprocess.run(
            ["bash", "-c", text],
            cwd=self.tree,
            env={**self._environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    def _put_in(self, command: Command) -> str:
        """Addresses, the system's folders, and what the reader is to fill in."""
        # A replay wants a new set each time, and two pages have one.
        target = f"threecx-{re.sub('[^a-z0-9]', '-', command.page.lower())}"
        text = command.text
        for said, meant in {
            "http://127.0.0.1:8080": self._system.door,
            "http://127.0.0.1:8081": self._system.board,
            "https://calls.example.com": self._system.door,
            "https://wallboard.example.com": self._system.board,
            "127.0.0.1:9092": self._kafka.kafka_bootstrap_servers,
            ".venv/bin/python": sys.executable,
            "/opt/callstream": str(self._folder / "opt"),
            "/etc/callstream": str(self._folder / "etc"),
            "/etc/systemd/system/ && systemctl daemon-reload": str(self._folder / "etc"),
            "threecx-2": target,
        }.items():
            text = text.replace(said, meant)
        return re.sub(r"\b(export )?([A-Z_]+=…\s*)+", "", text)


def until_ready(text: str, folder: Path) -> Done:
    """``make run`` until it says ready, then Ctrl-C: the exit status is 0 when both went well."""
    ports = {f"{name}_PORT": str(free_port()) for name in ("INGEST", "PROCESSORS", "PROJECTIONS")}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("KAFKA_")}
    process = subprocess.Popen(
        ["bash", "-c", f"exec {text}"],
        cwd=ROOT,
        env={**inherited, **ports, "DATA_DIR": str(folder / "made")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    timer = threading.Timer(TIMEOUT_S, os.killpg, (process.pid, signal.SIGKILL))
    timer.start()
    said, is_ready = "", False
    assert process.stdout is not None
    for line in process.stdout:
        said += line
        if line.strip() == "ready":
            is_ready = True
            os.killpg(process.pid, signal.SIGINT)
    process.wait()
    timer.cancel()
    return subprocess.CompletedProcess(text, 0 if is_ready else 1, said, "")


def engine_walk(reader: Reader) -> Iterator[tuple[Command, Done]]:
    """The lines for containers, `down` last: secrets are filled in; Grafana, whose image is not here, is left out."""
    names = ("INGEST", "PROJECTIONS", "PROMETHEUS", "GRAFANA", "KAFKA", "KAFKA_UI")
    filled = dict.fromkeys(("INGEST_WEBHOOK_SECRETS", "POSTGRES_PASSWORD", "GRAFANA_ADMIN_PASSWORD"), "filled-in")
    ports = {f"{name}_PORT": str(free_port()) for name in names}
    filled |= {"COMPOSE_PROJECT_NAME": f"callstream-documentation-{os.getpid()}", **ports}
    of_git = {"SOURCE_DATE_EPOCH": "0", "REVISION": "documentation", "DOCKER_BUILD_OPTIONS": "--network host"}
    mine = [one for one in commands() if OF_THE_ENGINE.search(one.text) and one.reason is None]
    for command in sorted(mine, key=lambda one: " down" in one.text):
        text = command.text.split(" #")[0]
        if text.rstrip().endswith("--wait"):
            text += " kafka postgres ingest processors projections prometheus"
        # The shell's variables outdo the file's, and the running system's ports are among them.
        yield command, reader.bash(text, **of_git, **ports)
        env = reader.tree / "deploy" / ".env"
        if text.startswith("cp "):
            pairs = [line.partition("=") for line in env.read_text("utf-8").splitlines()]
            env.write_text("".join(f"{name}{equals}{filled.get(name, old)}\n" for name, equals, old in pairs), "utf-8")
    reader.bash("docker compose -f deploy/compose.yaml down --volumes")


def kubectl_walk() -> Iterator[tuple[Command, Done]]:
    """What kubectl can tell without a cluster: rendered, or made on this side only."""
    namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: NAME}\n"
    for line in kubectl_lines():
        text = line.replace("…", "filled-in")
        if text.startswith("kubectl apply -k"):
            text = f"kubectl kustomize {text.removeprefix('kubectl apply -k ')}"
        elif " create " in text:
            text += " --dry-run=client --output yaml"
        elif text.startswith("kubectl label namespace NAME"):
            text = f"kubectl label --local -f - --output yaml{text.removeprefix('kubectl label namespace NAME')}"
        done = subprocess.run(
            ["bash", "-c", text], cwd=ROOT, input=namespace, capture_output=True, text=True, check=False
        )
        yield Command("kubectl, without a cluster", line), done


async def beginning(system: System, kafka: KafkaSettings) -> None:
    """A call with both ends, and dead letters at the places that docs/door.md names."""
    async with httpx.AsyncClient() as client:
        began = datetime.now(UTC) - timedelta(seconds=60)
        await post(client, system, seed_start(began))
        await post(client, system, seed_end(datetime.now(UTC)))
    log = Log(instance="ingest-documentation")
    for number in range(25):
        log.webhook(number, {"hello": number})
    webhooks = [one for one in log.records if one.value]  # not the ticks between them
    letters = [
        InputRecord(partition, number, one.key, b"nonsense", tuple(dead_letters.headers(one.headers, REASON, "ingest")))
        for partition in (3, 4)
        for number, one in enumerate(webhooks)
    ]
    await append(kafka, letters, kafka.topic_set.dead_letters)


async def a_call(door: str) -> None:
    """Posted as a PBX does, a little later."""
    await asyncio.sleep(3)
    url = f"{door}/webhook/3cx/call-event"
    async with httpx.AsyncClient() as client:
        (await client.post(url, json=seed_start(datetime.now(UTC)))).raise_for_status()
        await asyncio.sleep(2)
        (await client.post(url, json=seed_end(datetime.now(UTC), duration="00:00:02"))).raise_for_status()


def followed(reader: Reader, only: str) -> Iterator[tuple[Command, Done]]:
    """Every command that is neither a container's nor listed."""
    for command in commands():
        if only in command.page and command.reason is None and not OF_THE_ENGINE.search(command.text):
            yield command, reader.run(command)


def main() -> int:
    """Run all of it; exit status 0 when each command did what it should."""
    parser = argparse.ArgumentParser(prog="python -m tests.documentation", description=__doc__)
    parser.add_argument("--engine", action="store_true", help="the lines for containers, too")
    parser.add_argument("--only", metavar="TEXT", default="", help="commands of pages whose name holds it")
    parser.add_argument("--post-a-call-to", metavar="URL", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.post_a_call_to:
        asyncio.run(a_call(given.post_a_call_to))
        return 0
    walk = Walk()
    with tempfile.TemporaryDirectory(prefix="documentation-") as name, running(Path(name) / "kafka") as broker:
        folder = Path(name)
        kafka = KafkaSettings(kafka_bootstrap_servers=broker.bootstrap_servers)
        asyncio.run(ensure_topics(kafka))
        system = System(kafka, folder)
        system.start()
        try:
            asyncio.run(system.ready())
            asyncio.run(beginning(system, kafka))
            reader = Reader(folder, system, kafka)
            walk.note(followed(reader, given.only))
            walk.note(kubectl_walk())
            if given.engine:
                walk.note(engine_walk(reader))
        finally:
            system.kill()
    for command in commands():
        if command.reason is not None or (not given.engine and OF_THE_ENGINE.search(command.text)):
            print(f"not run, {command.page}: {command.text.splitlines()[0]} ({command.reason or 'only with --engine'})")
    for one in walk.failed:
        print("FAILED", one)
    print(f"{walk.count} commands run, {len(walk.failed)} failed")
    return bool(walk.failed)


if __name__ == "__main__":
    sys.exit(main())
