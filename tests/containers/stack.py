"""``python -m tests.containers.stack``: deploy/compose.yaml for real, with a verdict; ``--help`` lists the options.

1. build the image twice without a cache: the same layers; 2. up, all healthy; 3. the image: user, read-only root, SBOM,
labels, size; 4. the seed's samples, and the wallboard in a browser; then, under a feed of calls, each posted until
it is accepted:
5. kill -9 every container; 6. upgrade in place, to an image that has no shell; 7. down and up again;
8. every call that was accepted is there once, ended; Prometheus has its targets; all services drained (exit status 0).
Needs root, a container engine, docker compose and Chromium, and the public images or tests/containers/stand-ins.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
from playwright.async_api import expect

from deploy.local.broker import free_port
from tests.browser import chromium
from tests.builders import zulu
from tests.waiting import eventually

ROOT: Final = Path(__file__).parent.parent.parent
SECRET: Final = "a-secret-of-this-run"
SERVICES: Final = ("ingest", "processors", "projections")
PARTS: Final = ("kafka", "postgres", *SERVICES, "prometheus")
NOT_RUN: Final = "not run: grafana, kafka-ui (their public images cannot be had where no image registry is reached)"
IMAGE, UPGRADED, AGAIN = "callstream:proof", "callstream:proof-without-a-shell", "callstream:proof-again"
BASE: Final = re.findall(
    r"^ARG PYTHON_IMAGE=(.+)$", (ROOT / "deploy/image/Dockerfile").read_text("utf-8"), re.MULTILINE
)[0]
ADDED_MB_MAX: Final = 130
READY_TIMEOUT_S: Final = 180.0
GRACE_S: Final = 30.0

Json = dict[str, Any]


def command(*words: str, **environment: str) -> str:
    """What it printed; raises RuntimeError with both outputs when it fails."""
    done = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout


def compose_program() -> list[str]:
    """``docker compose`` where it is there, else ``docker-compose``."""
    tried = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    return ["docker", "compose"] if tried.returncode == 0 else ["docker-compose"]


class Stack:
    """deploy/compose.yaml under a project name and ports of its own."""

    def __init__(self, folder: Path) -> None:
        """Nothing is started yet."""
        self.project = f"callstream-proof-{os.getpid()}"
        self.ports = {name: free_port() for name in ("INGEST", "PROJECTIONS", "PROMETHEUS", "KAFKA")}
        self._env = folder / "env"
        self._compose = [*compose_program(), "--project-directory", "deploy", "-f", "deploy/compose.yaml"]
        self.use(IMAGE)

    def use(self, image: str) -> None:
        """Write the .env file, with the example's names and this image."""
        values = {
            "INGEST_WEBHOOK_SECRETS": SECRET,
            "POSTGRES_PASSWORD": "a-password-of-this-run",
            "GRAFANA_ADMIN_PASSWORD": "unused",
            "CALLSTREAM_IMAGE": image,
            "KAFKA_TOPIC_PARTITIONS": "4",
            **{f"{name}_PORT": str(port) for name, port in self.ports.items()},
        }
        self._env.write_text("".join(f"{name}={value}\n" for name, value in values.items()), "utf-8")

    def compose(self, *words: str) -> str:
        """Run docker compose on this project."""
        return command(*self._compose, "--env-file", str(self._env), "-p", self.project, *words)

    def up(self) -> None:
        """What an operator types, for the parts whose images can be had here."""
        self.compose("up", "--detach", *PARTS)

    def container(self, part: str) -> Json:
        """What the engine knows of the part's container."""
        labels = {"project": self.project, "service": part}
        filters = [
            word for name, value in labels.items() for word in ("-f", f"label=com.docker.compose.{name}={value}")
        ]
        ids = command("docker", "ps", "-aq", *filters).split()
        if len(ids) != 1:
            raise RuntimeError(f"{part}: {len(ids)} containers")
        found: list[Json] = json.loads(command("docker", "inspect", *ids))
        return found[0]

    def health(self, part: str) -> str:
        """The engine's word."""
        state = self.container(part)["State"]
        return str(state.get("Health", {}).get("Status", state["Status"]))

    async def healthy(self, *parts: str) -> float:
        """Seconds until the health checks of all (none named: every part) say so."""
        began = time.monotonic()
        for part in parts or PARTS:

            async def look(part: str = part) -> str:
                try:
                    return await asyncio.to_thread(self.health, part)
                except RuntimeError:
                    return "not there"

            await eventually(look, lambda seen: seen == "healthy", READY_TIMEOUT_S)
        return time.monotonic() - began

    def url(self, part: str) -> str:
        """Where the part listens on this machine."""
        return f"http://127.0.0.1:{self.ports[part]}"


class Feed:
    """Calls, one start and one end each, posted until they are accepted; what a 3CX that retries would do."""

    def __init__(self, stack: Stack) -> None:
        """Nothing is posted yet."""
        self._stack = stack
        self.accepted: list[str] = []
        self.refusals = 0
        self.away_s = 0.0
        self.stopping = False
        self._client = httpx.AsyncClient(timeout=5, headers={"X-Webhook-Secret": SECRET})

    async def post(self, body: Json) -> None:
        """Until 202; a refusal or a broken connection is tried again."""
        first_refusal = None
        while True:
            try:
                answer = await self._client.post(f"{self._stack.url('INGEST')}/webhook/3cx/call-event", json=body)
                if answer.status_code == httpx.codes.ACCEPTED:
                    break
            except httpx.TransportError:
                pass
            self.refusals += 1
            first_refusal = first_refusal or time.monotonic()
            await asyncio.sleep(0.2)
        if first_refusal is not None:
            self.away_s = max(self.away_s, time.monotonic() - first_refusal)

    async def call(self, number: int) -> None:
        """One call of its own agent and party."""
        party = f"+4122600{number:04d}"
        common = {"caller": party, "callee": "+41225555678", "agentExt": str(1000 + number), "direction": "Inbound"}
        began = datetime.now(UTC)
        await self.post(common | {"startTime": zulu(began)})
        await asyncio.sleep(0.05)
        end = {"callId": f"c{number}", "duration": "00:00:03", "endUtc": zulu(began + timedelta(seconds=4))}
        await self.post(common | end)
        self.accepted.append(party)

    async def run(self) -> None:
        """Until told to stop; a call that has begun is ended."""
        while not self.stopping:
            await self.call(len(self.accepted))
            await asyncio.sleep(0.05)


async def rows(stack: Stack) -> list[Json]:
    """Every call of the call log."""
    found: list[Json] = []
    cursor: str | None = None
    async with httpx.AsyncClient(timeout=10) as client:
        while True:
            params = {"limit": "1000"} | ({"cursor": cursor} if cursor else {})
            page = (await client.get(f"{stack.url('PROJECTIONS')}/api/v1/calls", params=params)).json()
            found += page["calls"]
            cursor = page["next_cursor"]
            if cursor is None:
                return found


def built(folder: Path, builds: int) -> str:
    """Step 1: the last commit, built so often; raises RuntimeError when the layers differ."""
    if builds == 0:
        return "not built: the image of the last run"
    source = folder / "source"
    source.mkdir()
    commit, epoch = command("git", "log", "-1", "--format=%H %ct").split()
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(source)], input=archive, check=True)
    layers = []
    for tag in (AGAIN, IMAGE)[-builds:]:
        options = f"{os.environ.get('DOCKER_BUILD_OPTIONS', '--network host')} --no-cache"
        command(
            str(source / "deploy/image/build"),
            tag,
            DOCKER_BUILD_OPTIONS=options,
            SOURCE_DATE_EPOCH=epoch,
            REVISION=commit,
        )
        layers.append(command("docker", "inspect", tag, "-f", "{{json .RootFS.Layers}}"))
    if len(set(layers)) > 1:
        raise RuntimeError(f"two builds differ: {layers}")
    without_a_shell = f"FROM {IMAGE}\nUSER 0\nRUN rm -f /bin/sh /bin/bash /bin/dash\nUSER 65532:65532\n"
    build = ["docker", "build", "--quiet", "--tag", UPGRADED, "-"]
    subprocess.run(build, input=without_a_shell, text=True, check=True, capture_output=True)
    return f"{builds} builds without a cache, of {commit[:7]}: the same {layers[0].count('sha256')} layers"


def looked_at(stack: Stack) -> str:
    """Step 3; raises RuntimeError for what is not as promised."""
    for service in SERVICES:
        told = stack.container(service)
        wanted = (told["Config"]["User"], told["HostConfig"]["ReadonlyRootfs"], told["HostConfig"]["CapDrop"])
        if wanted != ("65532:65532", True, ["ALL"]):
            raise RuntimeError(f"{service} runs as {wanted}")
    image = ["docker", "run", "--rm", "--read-only", "--entrypoint", "python", IMAGE, "-c"]
    told_by_image = command(
        *image, "import json; print(len(json.load(open('/opt/callstream/sbom.cdx.json'))['components']))"
    )
    wrong = subprocess.run([*image, "open('/opt/callstream/x', 'w')"], capture_output=True, text=True, check=False)
    if wrong.returncode == 0:
        raise RuntimeError("the root file system could be written")
    return f"all run as 65532, read-only root, no capabilities; {told_by_image.strip()} components in the SBOM"


def labelled() -> str:
    """Step 3 on: what the image says of itself, and what it adds to its base; raises RuntimeError otherwise."""
    (image,) = json.loads(command("docker", "inspect", IMAGE))
    labels = {
        name.removeprefix("org.opencontainers.image."): value for name, value in image["Config"]["Labels"].items()
    }
    revision = command("git", "log", "-1", "--format=%H").strip()
    made = command("git", "log", "-1", "--format=%cI", labels.get("revision", revision)).strip()
    if datetime.fromisoformat(labels.get("created", "")) != datetime.fromisoformat(made):
        raise RuntimeError(f"the image says created {labels.get('created')}, its revision is of {made}")
    if {"title", "description", "licenses", "version"} - set(labels):
        raise RuntimeError(f"labels are missing: {sorted(labels)}")
    if image["Config"]["Healthcheck"]["Test"] != ["CMD", "python", "-m", "events.probe"]:
        raise RuntimeError("no health check")
    (base,) = json.loads(command("docker", "inspect", BASE))
    added_mb = (image["Size"] - base["Size"]) / 1e6
    if added_mb > ADDED_MB_MAX:
        raise RuntimeError(f"the image adds {added_mb:.0f} MB to its base, more than {ADDED_MB_MAX}")
    return f"labels tell revision {labels['revision'][:7]} and its time; the image adds {added_mb:.0f} MB to its base"


async def seed_on_the_board(stack: Stack, feed: Feed, shots: Path) -> str:
    """Step 4: the seed's samples with today's times, seen in a browser."""
    began = datetime.now(UTC)
    start = {"caller": "+41225551234", "callee": "+41225555678", "agentExt": "201", "agentMail": "agent@company.com"}
    start |= {"direction": "Inbound", "startTime": zulu(began)}
    async with chromium() as browser:
        page = await browser.new_page(viewport={"width": 1280, "height": 800})
        await page.goto(stack.url("PROJECTIONS"))
        posted = time.monotonic()
        await feed.post(start)
        await expect(page.get_by_text("+41225551234").first).to_be_visible(timeout=30_000)
        seen_s = time.monotonic() - posted
        await page.screenshot(path=shots / "on-a-call.png")
        end = {key: value for key, value in start.items() if key != "startTime"}
        end |= {"callId": "12345", "duration": "00:04:32", "wav": "https://pbx.company.com/recordings/12345.wav"}
        await feed.post(end | {"endUtc": zulu(began + timedelta(seconds=280))})
        await eventually(partial(rows, stack), lambda seen: [row["status"] for row in seen] == ["ended"])
        await page.screenshot(path=shots / "ended.png")
    return f"the seed's call was on the wallboard after {seen_s:.2f} s and ended (pictures in {shots})"


async def killed(stack: Stack, feed: Feed) -> str:
    """Step 5: SIGKILL from outside, as the kernel's out-of-memory killer does it; the engine starts it again."""
    told = []
    for part in (*SERVICES, "postgres", "kafka"):
        before = len(feed.accepted)
        pid = stack.container(part)["State"]["Pid"]
        os.kill(pid, signal.SIGKILL)
        await eventually(partial(restarted, stack, part, pid), bool, READY_TIMEOUT_S)
        told.append(f"{part} {await stack.healthy():.0f} s, {len(feed.accepted) - before} calls meanwhile")
    return "killed, and all healthy again after: " + "; ".join(told)


async def restarted(stack: Stack, part: str, pid: int) -> bool:
    """Whether the part has another process now."""
    return stack.container(part)["State"]["Pid"] not in {0, pid}


async def upgraded(stack: Stack, feed: Feed) -> str:
    """Step 6: another image under the same volumes, as docs/operations.md says, while calls come in."""
    feed.away_s = 0.0
    stack.use(UPGRADED)
    began = time.monotonic()
    for service in ("projections", "processors", "ingest"):
        await asyncio.to_thread(stack.compose, "up", "--detach", "--no-deps", service)
        await stack.healthy(service)
    took_s = time.monotonic() - began
    for service in SERVICES:
        if stack.container(service)["Config"]["Image"] != UPGRADED:
            raise RuntimeError(f"{service} still runs the old image")
    waited = f"the longest wait of a webhook was {feed.away_s:.1f} s"
    return f"upgraded one service after the other, to an image without a shell; {waited}, all took {took_s:.0f} s"


async def drained(stack: Stack) -> str:
    """SIGTERM to each service in the order of the flow: it ends by itself, with exit status 0, within the grace."""
    told = []
    for service in SERVICES:
        began = time.monotonic()
        await asyncio.to_thread(stack.compose, "stop", service)
        took_s = time.monotonic() - began
        status = stack.container(service)["State"]["ExitCode"]
        if status != 0 or took_s > GRACE_S:
            raise RuntimeError(f"{service} ended with {status} after {took_s:.1f} s")
        told.append(f"{service} {took_s:.1f} s")
    return "SIGTERM drains, exit status 0: " + ", ".join(told)


async def scraped(stack: Stack) -> str:
    """Prometheus sees the three services and has the alerts."""

    async def ups() -> list[str]:
        async with httpx.AsyncClient() as client:
            answer = (await client.get(f"{stack.url('PROMETHEUS')}/api/v1/query", params={"query": "up"})).json()
        return sorted(one["value"][1] for one in answer["data"]["result"])

    await eventually(ups, lambda seen: seen == ["1"] * len(SERVICES), 60)
    async with httpx.AsyncClient() as client:
        groups = (await client.get(f"{stack.url('PROMETHEUS')}/api/v1/rules")).json()["data"]["groups"]
    return f"Prometheus scrapes {len(SERVICES)} targets and holds {sum(len(group['rules']) for group in groups)} rules"


async def nothing_lost(stack: Stack, feed: Feed) -> str:
    """Step 8: each accepted call once, ended, with the duration that was reported; raises RuntimeError otherwise."""
    wanted = sorted(feed.accepted)

    async def found() -> list[str]:
        return sorted(
            row["caller"]
            for row in await rows(stack)
            if row["caller"].startswith("+4122600") and (row["status"], row["duration_s"]) == ("ended", 3)
        )

    await eventually(found, lambda seen: seen == wanted, 60)
    total = len(await rows(stack))
    if total != len(wanted) + 1:
        raise RuntimeError(f"{total} rows for {len(wanted)} calls and the seed's")
    return f"{len(wanted)} calls were accepted ({feed.refusals} posts were tried again); each is there once, ended"


async def prove(folder: Path, shots: Path, builds: int, *, keep: bool) -> None:
    """All the steps; each prints its line."""
    stack = Stack(folder)
    print(command(*compose_program(), "version", "--short").strip(), "is the compose here", flush=True)
    print(built(folder, builds), flush=True)
    try:
        stack.up()
        print(f"up: all healthy after {await stack.healthy():.0f} s", flush=True)
        print(looked_at(stack), flush=True)
        print(labelled(), flush=True)
        feed = Feed(stack)
        print(await seed_on_the_board(stack, feed, shots), flush=True)
        feeding = asyncio.create_task(feed.run())
        for step in (killed, upgraded):
            print(await step(stack, feed), flush=True)
        print(await scraped(stack), flush=True)
        await asyncio.to_thread(stack.compose, "down")
        await asyncio.to_thread(stack.up)
        print(f"down and up again: all healthy after {await stack.healthy():.0f} s", flush=True)
        feed.stopping = True
        await feeding
        print(await nothing_lost(stack, feed), flush=True)
        print(await drained(stack), flush=True)
        print(NOT_RUN)
        print("verdict: good")
    finally:
        if not keep:
            stack.compose("down", "--volumes")


def main() -> None:
    """Fails loudly at the first step that is not as promised."""
    parser = argparse.ArgumentParser(description="deploy/compose.yaml for real")
    parser.add_argument(
        "--builds", type=int, choices=(0, 1, 2), default=2, help="1: do not compare two; 0: take the last run's"
    )
    parser.add_argument("--keep", action="store_true", help="leave the stack running")
    parser.add_argument("--shots", type=Path, default=Path(tempfile.gettempdir()), help="folder for the pictures")
    options = parser.parse_args()
    if shutil.which("docker") is None:
        raise SystemExit("no container engine: install one (Debian: apt-get install docker.io docker-compose)")
    with tempfile.TemporaryDirectory(prefix="callstream-stack-") as folder:
        asyncio.run(prove(Path(folder), options.shots, options.builds, keep=options.keep))


if __name__ == "__main__":
    main()
