"""The processors under test: child processes of one consumer group, and what their logs tell."""

import asyncio
import itertools
import json
import re
import signal
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from random import Random

import httpx

from deploy.local.broker import is_free
from tests.kills.plan import Fault
from tests.system import Service

PORTS = range(20_000, 30_000)  # below the ports that connections are given
POLL_S = 0.05
FENCED = re.compile(r'producer_replacements_total\{reason="fenced"\} (\d+)')


class Processor:
    """One process; with a fault "at" a point it ends or stops itself there."""

    def __init__(self, name: str, environment: Mapping[str, str], log: Path, fault: Fault | None) -> None:
        """Start it."""
        self.name = name
        self.port = int(environment["PROCESSORS_PORT"])
        self.expected_to_die = False
        self.point_reached = False
        self.said: Counter[str] = Counter()
        self._read = 0
        self._log = log
        self._killing = fault is not None and fault.kind == "kill at"
        if fault is None:
            self.service = Service("processors", environment, log)
        else:
            number = "KILL" if self._killing else "STOP"
            arguments = ("--point", fault.point, "--nth", str(fault.nth), "--signal", number)
            self.service = Service("tests.kills.processor", environment, log, *arguments)

    @property
    def alive(self) -> bool:
        """Whether it has not ended; stopped counts as alive."""
        return self.service.returncode is None

    @property
    def stopped(self) -> bool:
        """Whether SIGSTOP holds it."""
        stat = Path(f"/proc/{self.service.pid}/stat")
        return self.alive and stat.read_text().rsplit(")", 1)[1].split()[0] == "T"

    @property
    def failed(self) -> bool:
        """Whether it ended though nobody wanted it to."""
        return not (self.alive or self.expected_to_die or (self._killing and self.point_reached))

    def look(self) -> list[int]:
        """The partitions that it has taken over since the last look, as its log says."""
        with self._log.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        taken = []
        for line in whole.splitlines():
            try:
                said = json.loads(line)
            except ValueError:
                continue  # a traceback's
            self.said[said.get("event", "")] += 1
            self.point_reached |= said.get("event") == "point reached"
            if said.get("event") == "partition taken over":
                taken.append(int(said["partition"]))
        return taken

    async def fences(self) -> int:
        """How often it was fenced in its life; 0 when it does not answer."""
        try:
            async with httpx.AsyncClient() as client:
                answer = await client.get(f"http://127.0.0.1:{self.port}/metrics", timeout=1)
        except httpx.HTTPError:
            return 0
        return sum(int(one) for one in FENCED.findall(answer.text))

    def kill(self) -> None:
        """SIGKILL, whatever state it is in."""
        self.expected_to_die = True
        self.service.kill()


class Group:
    """The processes of the run, dead and alive, and who took over which partition when."""

    def __init__(self, environment: Mapping[str, str], folder: Path, random: Random) -> None:
        """Nothing is started yet; logs go to `folder`."""
        self._environment = environment
        self._folder = folder
        self._random = random
        self._numbers = itertools.count(1)
        self._watched: list[Processor] = []
        self.takeovers: list[tuple[Processor, int]] = []
        self.said: Counter[str] = Counter()
        self.problems: list[str] = []
        self.started = 0

    def start(self, fault: Fault | None = None) -> Processor:
        """Start one more; to be called in the main thread, whose end would end it."""
        self.started += 1
        name = f"processor-{next(self._numbers):03}"
        port = next(port for port in iter(lambda: self._random.choice(PORTS), None) if is_free(port))
        environment = {**self._environment, "PROCESSORS_PORT": str(port)}
        processor = Processor(name, environment, self._folder / f"{name}.log", fault)
        self._watched.append(processor)
        return processor

    @property
    def alive(self) -> list[Processor]:
        """Those that have not ended."""
        return [one for one in self._watched if one.alive]

    async def watch(self) -> None:
        """Follow the logs, until cancelled; an end that nobody wanted is a problem."""
        while True:
            self.look()
            await asyncio.sleep(POLL_S)

    def look(self) -> None:
        """Read the logs as far as they go."""
        for one in list(self._watched):
            ended = not one.alive
            self.takeovers += [(one, partition) for partition in one.look()]
            if ended:
                self._watched.remove(one)
                self.said += one.said
                if one.failed:
                    self.problems.append(f"{one.name} ended by itself with status {one.service.returncode}")

    def taken(self, by: Processor) -> bool:
        """Whether this processor has had a partition."""
        return any(one is by for one, _ in self.takeovers)

    def taken_from(self, zombie: Processor, since: int) -> set[int]:
        """The partitions that others took over after the takeover number `since`."""
        return {partition for one, partition in self.takeovers[since:] if one is not zombie}

    async def stop(self, processor: Processor) -> None:
        """SIGTERM; anything but a clean end in time is a problem, once the process has said a word.

        One that was started a moment ago still imports, and cannot listen yet.
        """
        if not processor.alive:
            return
        processor.expected_to_die = True
        try:
            status = await asyncio.to_thread(processor.service.stop)
        except AssertionError as error:
            self.problems.append(f"{processor.name}: {str(error)[:200]}")
        else:
            unheard = processor.service.log.stat().st_size == 0
            if status != 0 and not (unheard and status == -signal.SIGTERM):
                self.problems.append(f"{processor.name} ended with status {status} after SIGTERM")

    def kill_all(self) -> None:
        """End whatever is left."""
        for one in self.alive:
            one.kill()

    async def stop_all(self) -> None:
        """SIGTERM to all that are left."""
        await asyncio.gather(*(self.stop(one) for one in self.alive))
        self.look()


def wake(processor: Processor) -> None:
    """SIGCONT."""
    processor.service.send(signal.SIGCONT)
