"""``python -m tests.upgrade --from COMMIT``: a running system goes from that release to this tree and back; a verdict.

N-1 is the commit's own code, N the files as they are; both run with this tree's libraries. Traffic never stops:
1. N-1: ingest, two processors, projections on SQLite and on PostgreSQL, on a real Kafka;
2. to N, one process after the other, in the order projections, processors, ingest (its journal not empty);
3. N-1 by mistake on what N left: each service of N-1 goes on or refuses with a sentence, and nothing is hurt;
4. back as docs/operations.md says: ingest in place; processors by N-1's own replay into a new set; empty databases;
With --in-place, for releases between which no format changed: 3 is left out, and 4 exchanges each service back.
5. the verdict on both sets: accepted webhooks, sessions against the independent model, views against the fold, the sets
   against each other, and the tables that N took over from N-1 against tables that N builds anew.
"""

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from deploy.local.broker import free_port
from events.topics import TopicSet
from tests.chaos import verdict
from tests.chaos.ledger import Ledger, attempts_of
from tests.chaos.reference import Expected, Fold, expect_all, folded
from tests.chaos.run import CATCH_UP_TIMEOUT_S, STORES, WHY_SAMPLE, by_partition, wall_s
from tests.chaos.site import ALWAYS, RULES, Site, Surroundings
from tests.chaos.traffic import QUEUE, Sender, Traffic
from tests.system import Service

ROOT: Final = Path(__file__).parent.parent
BACK: Final = "threecx-back"
BACK_SERVICES: Final = ("processors-back", "projections-back-sqlite", "projections-back-postgres")
REFUSAL_TIMEOUT_S: Final = 60.0
COMMAND_TIMEOUT_S: Final = 240.0


class Releases(Site):
    """A site each of whose services runs from a release's folder; services called ``…-back…`` work on the new set."""

    def __init__(self, folder: Path, before: Path) -> None:
        """All of it is of the release before."""
        super().__init__(folder, Surroundings(), plain_times=False)
        self.before = before
        self.code = dict.fromkeys((*ALWAYS, *BACK_SERVICES), before)
        self.is_back = False
        self._ports |= {name: free_port() for name in BACK_SERVICES}

    def launch(self, name: str) -> None:
        """Start a service of its release."""
        log = self.folder / f"{name}.log"
        self.services[name] = Service(
            name.split("-", maxsplit=1)[0], self.environment(name), log, folder=self.code[name]
        )

    async def exchange(self, name: str, code: Path) -> float:
        """SIGTERM, and the same service of another release; the seconds until it is well again."""
        began = time.monotonic()
        await self.stop(name)
        self.code[name] = code
        self.launch(name)
        await self.answers(name)
        return time.monotonic() - began

    def environment(self, name: str) -> dict[str, str]:
        """Of a service; of a ``-back`` one as `replay` prints it, with a database of its own."""
        plain = name.replace("-back", "-1" if name == "processors-back" else "")
        found = dict(self._environment(plain))
        if plain == name:
            return found
        data = self.folder / "data" / name
        data.mkdir(parents=True, exist_ok=True)
        role = name.split("-", maxsplit=1)[0].upper()
        found |= {"DATA_DIR": str(data), f"{role}_PORT": str(self._ports[name])}
        found |= {"KAFKA_TOPIC_PREFIX": BACK, "KAFKA_WEBHOOKS_PREFIX": "threecx"}
        found |= {f"{role}_APPLICATION": f"{found[f'{role}_APPLICATION']}-{BACK}"}
        if "PROJECTIONS_DATABASE_URL" in found:
            found["PROJECTIONS_DATABASE_URL"] = self.database.url.replace("/postgres", "/back")
        return found

    async def caught_up(self, timeout_s: float) -> None:
        """As the site's, for the new set, too."""
        await super().caught_up(timeout_s)
        if self.is_back:
            topics = TopicSet(BACK, "threecx")
            async with asyncio.timeout(timeout_s), self._asking() as admin:
                await self._past(admin, f"processors-{BACK}", topics.webhooks)
                for store in STORES:
                    await self._past(admin, f"projections-{store}-{BACK}", topics.call_sessions)


class Upgrade:
    """One run."""

    def __init__(self, folder: Path, commit: str, seed: int, per_s: float, *, in_place: bool) -> None:
        """Nothing is started yet."""
        self._folder = folder
        self._steps = (self._up, self._back_in_place) if in_place else (self._up, self._by_mistake, self._back)
        self._before = folder / "before"
        self._before.mkdir()
        archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True).stdout
        subprocess.run(["tar", "-x", "-C", str(self._before)], input=archive, check=True)
        self.site = Releases(folder, self._before)
        self._ledger = Ledger(folder / "ledger.jsonl")
        self._sender = Sender(
            Traffic(seed, per_s, datetime.now(UTC).replace(microsecond=0), plain_times=False),
            self.site.door,
            self._ledger,
        )
        self.violations: list[str] = []

    async def go(self, rest_s: float) -> None:
        """All the steps; `rest_s` of traffic between them."""
        sending: asyncio.Task[None] | None = None
        try:
            await self.site.start()
            sending = asyncio.create_task(self._sender.run())
            await self._settled(rest_s * 3, "N-1 at work")
            for step in self._steps:
                await step(rest_s)
            self._sender.stop()
            await sending
            await self._judge()
        finally:
            if sending is not None:
                sending.cancel()
            self.site.kill_all()
            self._ledger.close()

    async def _settled(self, rest_s: float, what: str) -> None:
        await asyncio.sleep(rest_s)
        await self.site.caught_up(CATCH_UP_TIMEOUT_S)
        self._look()
        say(f"{what}; {self._sender.accepted} webhooks accepted, all of them in both views")

    def _look(self) -> None:
        """Who ended though nobody ended it says why; the next step starts it again."""
        for name, service in list(self.site.services.items()):
            if service.returncode is not None:
                del self.site.services[name]
                self.violations.append(f"{name} ended by itself: {last_words(service)}")

    async def _up(self, rest_s: float) -> None:
        """One process after the other; a processors process of N-1 may meet what the first one of N wrote."""
        for name in ("projections-sqlite", "projections-postgres"):
            say(f"{name}: N-1 -> N, well again after {await self.site.exchange(name, ROOT):.1f} s")
        await asyncio.sleep(rest_s)
        say(f"processors-1: N-1 -> N, well again after {await self.site.exchange('processors-1', ROOT):.1f} s")
        await asyncio.sleep(rest_s)
        second = self.site.services["processors-2"]
        if second.returncode is None:
            took_s = await self.site.exchange("processors-2", ROOT)
            say(f"processors-2: worked beside N's; N-1 -> N, well again after {took_s:.1f} s")
        else:
            say(f"processors-2 of N-1 was given a partition that N had written, and ended: {last_words(second)}")
            self.site.code["processors-2"] = ROOT
            self.site.launch("processors-2")
            await self.site.answers("processors-2")
        say(f"ingest: N-1 -> N, {await self._exchange_ingest(ROOT)}")
        await self._settled(rest_s * 3, "N at work")

    async def _exchange_ingest(self, code: Path) -> str:
        """Kafka is away from it meanwhile, so that its successor finds webhooks in the journal."""
        way = self.site.ways["ingest"]
        way.cut = True
        way.reset()
        before = self._sender.accepted
        await asyncio.sleep(2)
        waiting = self._sender.accepted - before
        await self.site.stop("ingest")
        self.site.code["ingest"] = code
        self.site.launch("ingest")
        await self.site.answers("ingest")
        way.heal()
        return f"with at least {waiting} webhooks in its journal"

    async def _by_mistake(self, rest_s: float) -> None:
        """The old image under the new data: what each of its services says."""
        environments = {
            "processors": self.site.environment("processors-1"),
            "projections on SQLite": self.site.environment("projections-sqlite"),
            "projections on PostgreSQL": self.site.environment("projections-postgres"),
        }
        for number, (name, environment) in enumerate(environments.items()):
            module = name.split()[0]
            own = environment | {f"{module.upper()}_PORT": str(free_port())}
            service = Service(module, own, self._folder / f"mistake-{number}.log", folder=self._before)
            try:
                said = await ended(service)
            finally:
                service.kill()
            say(f"N-1 by mistake, {name}: {said}")
            if service.returncode == -9:
                self.violations.append(f"{name} of N-1 worked on what N left: it must refuse, or be shown to be right")
        await self._settled(rest_s, "N goes on undisturbed")

    async def _back(self, rest_s: float) -> None:
        """docs/operations.md, "Upgrade and rollback"."""
        say(f"ingest: N -> N-1, {await self._exchange_ingest(self._before)}")
        replayed = await self._command(self._before, "processors-1", "processors", "replay", "--to-prefix", BACK)
        say(replayed.splitlines()[0])
        engine = create_async_engine(self.site.database.url, isolation_level="AUTOCOMMIT")
        async with engine.connect() as connection:
            await connection.execute(text("create database back"))
        await engine.dispose()
        for name in BACK_SERVICES:
            self.site.launch(name)
        for name in BACK_SERVICES:
            await self.site.answers(name)
        self.site.is_back = True
        await self._settled(rest_s * 3, "N-1 at work on the new set, N beside it")

    async def _back_in_place(self, rest_s: float) -> None:
        """In the reverse order of the way up."""
        say(f"ingest: N -> N-1, {await self._exchange_ingest(self._before)}")
        for name in ("processors-2", "processors-1", "projections-postgres", "projections-sqlite"):
            say(f"{name}: N -> N-1, well again after {await self.site.exchange(name, self._before):.1f} s")
            await asyncio.sleep(rest_s / 2)
        await self._settled(rest_s * 3, "N-1 at work again, on what N left")

    async def _command(self, code: Path, like: str, *words: str) -> str:
        """What a command said, in the environment of a service; another exit status than 0 is a violation."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            *words,
            cwd=code,
            env={**os.environ, **self.site.environment(like)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(COMMAND_TIMEOUT_S):
            said = (await process.communicate())[0].decode()
        if process.returncode:
            self.violations.append(f"{' '.join(words)} ended with {process.returncode}: {said[-1500:]}")
        return said

    async def _judge(self) -> None:
        await self.site.caught_up(CATCH_UP_TIMEOUT_S)
        await self.site.stop("ingest")  # no more ticks: what is in the log now is all
        await self.site.caught_up(CATCH_UP_TIMEOUT_S)
        topics = self.site.kafka.topic_set
        webhooks = await self.site.topic(topics.webhooks)
        attempts = list(attempts_of(self._folder / "ledger.jsonl"))
        self._tell(verdict.accepted_are_there(attempts, webhooks, wall_s()))
        self._tell(verdict.nothing_unsent(attempts, webhooks, clock_was_right=True))
        expected = expect_all(by_partition(webhooks), self._sender.facts, RULES, frozenset({QUEUE}))
        say("the set that was there from the first:")
        await self._judge_set(topics, expected, {name: name for name in STORES})
        if self.site.is_back:
            say("the set rolled back to N-1:")
            await self._judge_set(TopicSet(BACK, topics.prefix), expected, {name: f"back-{name}" for name in STORES})
            said = await self._command(ROOT, "processors-1", "processors", "diff", topics.prefix, BACK)
            say(f"diff: {next((line for line in said.splitlines() if line.startswith('the sessions')), said)}")
        for store in STORES:
            said = await self._command(ROOT, f"projections-{store}", "projections", "rebuild", "--dry-run")
            for line in said.splitlines():
                if line.startswith(("calls:", "revisions:", "agents:")) or "changed columns" in line:
                    say(f"  {STORES[store]}, taken over against built anew: {line.strip()}")
                if line.startswith(("calls:", "agents:")) and " 0 changed, 0 only before, 0 only after" not in line:
                    self.violations.append(f"{store}: {line}")
        self.violations += self.site.problems

    async def _judge_set(
        self, topic_set: TopicSet, expected: Mapping[int, Expected], stores: Mapping[str, str]
    ) -> None:
        sessions = await self.site.topic(topic_set.call_sessions)
        dead = await self.site.topic(topic_set.dead_letters)
        # What the door refused lies in the first set's dead letters alone.
        attempts = list(attempts_of(self._folder / "ledger.jsonl")) if topic_set.prefix != BACK else []
        self._tell(verdict.sessions_equal(expected, by_partition(sessions), dead, attempts))
        fold = folded(expected)
        for name, board in stores.items():
            calls, asked = await self.site.calls(board), [datetime.now(UTC)]
            agents, _ = await self.site.agents(board)
            asked.append(datetime.now(UTC))
            revisions = await self._revisions(board, fold)
            self._tell(verdict.views_equal(STORES[name], fold, calls, agents, revisions, self.site.zones, asked))

    async def _revisions(self, board: str, fold: Fold) -> dict[str, int]:
        ids = Random(len(fold.sessions)).sample(sorted(fold.sessions), min(WHY_SAMPLE, len(fold.sessions)))
        return {one: await self.site.revisions(board, one) for one in ids}

    def _tell(self, line: verdict.Line) -> None:
        print(line, flush=True)
        self.violations += [f"{line.holds}: {one}" for one in line.violations]


def say(line: str) -> None:
    """Show progress."""
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def last_words(service: Service) -> str:
    """Exit status and last line."""
    lines = service.log.read_text("utf-8", "replace").splitlines()
    return f"status {service.returncode}: {lines[-1] if lines else ''}"


async def ended(service: Service) -> str:
    """Its last words; or that it goes on."""
    deadline = time.monotonic() + REFUSAL_TIMEOUT_S
    while time.monotonic() < deadline:
        if service.returncode is not None:
            return f"refuses, {last_words(service)}"
        await asyncio.sleep(0.1)
    return f"still runs after {REFUSAL_TIMEOUT_S:g} s"


def main() -> int:
    """Parse, run, tell; exit status 0 when everything holds."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.upgrade", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--from", dest="commit", required=True, metavar="COMMIT", help="N-1: a release's tag or commit")
    parser.add_argument("--in-place", action="store_true", help="no format changed since: back service by service")
    parser.add_argument("--rate", type=float, default=40.0, help="webhooks a second (40)")
    parser.add_argument("--rest", type=float, default=8.0, metavar="SECONDS", help="of traffic between steps (8)")
    parser.add_argument("--seed", type=int, default=Random().randrange(10**6))
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="upgrade-"))
    folder.chmod(0o755)
    say(f"from {given.commit} to this tree and back, seed {given.seed}, {given.rate:g} webhooks/s; {folder}")
    run = Upgrade(folder, given.commit, given.seed, given.rate, in_place=given.in_place)
    asyncio.run(run.go(given.rest))
    for violation in run.violations:
        print("VIOLATION", violation)
    print("RED; evidence in " + str(folder) if run.violations else "GREEN")
    if not run.violations:
        shutil.rmtree(folder)
    return bool(run.violations)


if __name__ == "__main__":
    sys.exit(main())
