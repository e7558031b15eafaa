"""``python -m tests.failing_calls``: every system call of the journal fails once, and a disk fills up. Root only.

1. Three clean runs of ingest under strace tell which calls touch the journal's folder: `beginning` (no folder yet,
   Kafka away: appends, rotations), `accepting` (the same after a crash with a torn tail) and `forwarding` (Kafka there:
   sending, deleting, an orderly end).
2. Then one run for each of these calls and each of EIO, ENOSPC and EINTR that it can have: that call fails, once.
   Beginning, accepting: each answer is 202 or 503 in time; ingest accepts again by itself, or, when the call failed
   at its start, ends with one sentence and starts again; then the power is cut, and everything answered 202 is in the
   journal.
   Forwarding: everything arrives in Kafka, and ingest ends in order.
3. A small disk is filled 20 times while webhooks come: 503 then, and 202 again within 1 s of its being freed.
"""

import argparse
import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from events.away import GAVE_UP
from events.kafka import KafkaSettings, ensure_topics
from ingest import accepted
from ingest.accepted import Accepted
from ingest.contents import Contents
from ingest.journal import open_journal
from tests.faults.arrivals import arrived
from tests.faults.door import DoorProcess
from tests.faults.load import Load, body
from tests.faults.loop import LoopDisk, loop_disk, own_mounts
from tests.journals import appended
from tests.kills.__main__ import broker
from tests.waiting import eventually

ALL, CHANGING, READING, BLOCKING = ("EIO", "ENOSPC", "EINTR"), ("EIO", "ENOSPC"), ("EIO",), ("EIO", "EINTR")
CALLS = {
    **dict.fromkeys(("openat", "write", "pwrite64", "fallocate", "fdatasync", "fsync", "ftruncate"), ALL),
    **dict.fromkeys(("rename", "unlink", "mkdir"), CHANGING),
    **dict.fromkeys(("read", "close", "flock"), BLOCKING),
    **dict.fromkeys(("getdents64", "newfstatat", "lseek"), READING),
}
"""Each call, and the errors that it can have."""
PHASES = ("beginning", "accepting", "forwarding")
NOWHERE = KafkaSettings(kafka_bootstrap_servers="127.0.0.1:1", kafka_topic_prefix="nowhere")
POSTS = 9
PADDING = 20_000
AGAIN_S = 2.0
SENTENCE_LINES_MAX = 6
WAITING = 8


@dataclass(frozen=True)
class Fault:
    """The `number`-th call of this name that a thread makes on the journal's files fails with `error`."""

    phase: str
    call: str
    number: int
    error: str

    def told(self) -> str:
        """In words."""
        return f"{self.phase}: {self.call} number {self.number} fails with {self.error}"


@dataclass
class Outcomes:
    """Of all runs: what was wrong, and what became of the faults."""

    problems: list[str] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    promised: dict[str, int] = field(default_factory=dict)


def say(line: str) -> None:
    """Show progress."""
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def strace(trace: Path, paths: Iterable[Path], fault: Fault | None) -> list[str]:
    """A command that becomes the traced one; only calls on `paths` count."""
    chosen = [word for path in paths for word in ("-P", str(path))]
    inject = ["-e", f"inject={fault.call}:error={fault.error}:when={fault.number}"] if fault else []
    traced = fault.call if fault else ",".join(CALLS)
    return [
        "strace",
        "-D",
        "-f",
        "-q",
        "-y",
        "-o",
        str(trace),
        *chosen,
        "-e",
        f"trace={traced}",
        *inject,
    ]


async def filled(folder: Path, first: int) -> dict[str, int]:
    """A journal with records that wait, in several files, and a torn tail; ids to numbers."""
    journal, _ = open_journal(folder, 2**30, 65_536)
    committing = asyncio.create_task(journal.run())
    promised = {}
    for number in range(first, first + WAITING):
        identity = f"{first:08x}{number:024x}"
        one = Accepted(identity, "default", "default", datetime.now(UTC), None, body(number, PADDING))
        await appended(journal, accepted.encode(one))
        promised[identity] = number
    committing.cancel()
    await asyncio.wait({committing})
    newest = max(folder.glob("*.segment"))
    journal.close()
    with newest.open("ab") as file:
        file.write(b"\xf3\xc3\x9a\x01torn")
    return promised


def in_journal(folder: Path) -> dict[str, int]:
    """Ids of the webhooks on the disk; nothing may be damaged."""
    found = {}
    for file in Contents(folder).files():
        if file.damaged_bytes:
            raise AssertionError(f"{file.path.name}: {file.damaged_bytes} damaged bytes")
        for one in file.records():
            webhook = accepted.decode(one.payload)
            found[webhook.id if webhook else ""] = one.sequence
    return found


class Bench:
    """One loop disk, one door at a time: runs faults one after the other."""

    def __init__(self, scratch: Path, disk: LoopDisk, kafka: KafkaSettings, outcomes: Outcomes, base: int) -> None:
        """`base`: numbers of webhooks begin there."""
        self._scratch = scratch
        self._disk = disk
        self._kafka = kafka
        self._outcomes = outcomes
        self._number = base
        self._trace = scratch / "trace"

    @property
    def _data(self) -> Path:
        return self._disk.folder / "data"

    async def _prepared(self, phase: str) -> dict[str, int]:
        shutil.rmtree(self._data, ignore_errors=True)
        self._trace.unlink(missing_ok=True)
        (self._scratch / "log").unlink(missing_ok=True)
        self._number += 1_000
        if phase == "beginning":
            self._data.mkdir()
            return {}
        promised = await filled(self._data / "journal", self._number)
        (self._data / "journal" / "reserve").unlink()
        return promised

    def _door(self, kafka: KafkaSettings) -> DoorProcess:
        return DoorProcess(kafka, self._data, self._scratch / "log", INGEST_JOURNAL_SEGMENT_BYTES="65536")

    def _load(self, door: DoorProcess) -> Load:
        load = Load(door.port, padding=PADDING)
        load.number = self._number + 500
        return load

    async def clean(self, phase: str) -> tuple[list[Path], dict[str, int]]:
        """The paths and how often each call is made on them at most by one thread."""
        await self.run(phase, None, [self._data / "journal"])
        text = self._text()
        paths = sorted(set(re.findall(rf'[<"]({re.escape(str(self._data))}/journal[^">]*)[">]', text)))
        counts: Counter[tuple[str, str]] = Counter()
        for line in text.splitlines():
            made = re.match(r"(\d+) (\w+)\(", line)
            if made and f"{self._data}/journal" in line:
                counts[made[1], made[2]] += 1
        most = {call: max((n for (_, name), n in counts.items() if name == call), default=0) for call in CALLS}
        return [Path(path) for path in paths], {call: n for call, n in most.items() if n}

    async def run(self, phase: str, fault: Fault | None, paths: list[Path]) -> None:
        """One run; what is wrong goes to the outcomes. Without a fault everything in the folder is traced."""
        promised = await self._prepared(phase)
        # A clean run does not know the names yet: it traces all files and looks at the folder's afterwards.
        wrapper = strace(self._trace, paths if fault else (), fault)
        door = self._door(self._kafka if phase == "forwarding" else NOWHERE)
        load = self._load(door)
        traced = 0
        try:
            door.start(wrapper)
            traced = door.running.pid
            if not await self._is_up(door):
                self._outcomes.seen["ended at its start with one sentence"] += 1
                door.start()
                await door.accepting(20)
            await (self._forward if phase == "forwarding" else self._accept)(door, load, promised)
        except AssertionError as error:
            self._outcomes.problems.append(f"{fault.told() if fault else phase}: {error}")
            say(f"PROBLEM {self._outcomes.problems[-1]}")
            shutil.copytree(self._data, self._scratch / f"problem-{len(self._outcomes.problems)}", dirs_exist_ok=True)
        finally:
            door.kill()
        is_made = "(INJECTED)" in await self._traced(traced)
        if fault is not None:
            self._outcomes.seen["failed as told" if is_made else "never made"] += 1

    async def _traced(self, pid: int) -> str:
        """The whole trace: strace is nobody's child and writes its last lines some time after the process ended."""

        async def is_whole() -> bool:
            return re.search(rf"^{pid} +\+\+\+", self._text(), re.MULTILINE) is not None

        await eventually(is_whole, timeout_s=60)
        return self._text()

    def _text(self) -> str:
        return self._trace.read_text("utf-8", "replace") if self._trace.exists() else ""

    async def _is_up(self, door: DoorProcess) -> bool:
        """Whether it accepts; false when it ended with status 1 and one sentence: it is to be started again."""

        async def look() -> bool | None:
            told = await door.health()
            return door.running.returncode is None if door.running.returncode is not None or told else None

        up = await eventually(look, lambda seen: seen is not None, 30)
        if up:
            return True
        text = door.log.read_text("utf-8", "replace")
        if door.running.returncode != GAVE_UP or "Traceback" in text or text.count("\n") > SENTENCE_LINES_MAX:
            raise AssertionError(f"ended with {door.running.returncode}: {text[-1500:]}")
        return False

    async def _accept(self, door: DoorProcess, load: Load, promised: dict[str, int]) -> None:
        for _ in range(POSTS):
            await load.one()
        began_s = time.monotonic()
        while await load.one() != b"202":
            if time.monotonic() - began_s > AGAIN_S:
                raise AssertionError(f"does not accept again: {load.told.statuses}")
            await asyncio.sleep(0.02)
        told = load.told
        if set(told.statuses) - {"202", "503"} or told.broken or told.late or door.running.returncode is not None:
            raise AssertionError(f"answers {told.statuses}, {told.broken} broken, {told.late} late")
        self._outcomes.seen["answers 503"] += told.statuses["503"]
        self._outcomes.seen["answers 202"] += told.statuses["202"]
        await door.freeze()
        self._disk.cut()
        door.kill()
        self._disk.unmount()
        self._disk.mount()
        missing = (promised | told.accepted).keys() - in_journal(self._data / "journal").keys()
        if missing:
            raise AssertionError(f"{len(missing)} webhooks answered 202 are gone after a power cut")

    async def _forward(self, door: DoorProcess, load: Load, promised: dict[str, int]) -> None:
        for _ in range(3):
            await load.one()
        await door.drained(30)
        status = door.running.stop()
        text = door.log.read_text("utf-8", "replace")
        if status != 0 or "Traceback" in text:
            raise AssertionError(f"ended with {status}: {text[-1500:]}")
        in_journal(self._data / "journal")
        self._outcomes.promised |= promised | load.told.accepted


async def fill(scratch: Path, times: int, outcomes: Outcomes) -> None:
    """Step 3."""
    slowest_s = 0.0
    with loop_disk(scratch, 24) as disk:
        door = DoorProcess(NOWHERE, disk.folder, scratch / "log", INGEST_JOURNAL_SEGMENT_BYTES="65536")
        load = Load(door.port, padding=5_000)
        door.start()
        try:
            await door.accepting()
            for _ in range(times):
                occupy(disk.folder / "filler")
                await eventually(load.one, lambda status: status == b"503", 30)
                (disk.folder / "filler").unlink()
                freed_s = time.monotonic()
                await eventually(load.one, lambda status: status == b"202", 30)
                slowest_s = max(slowest_s, time.monotonic() - freed_s)
            if set(load.told.statuses) - {"202", "503"} or load.told.broken or load.told.late or slowest_s > 1:
                outcomes.problems.append(f"full disk: {load.told.statuses}, {slowest_s:.2f} s until 202")
            await door.freeze()
            disk.cut()
        finally:
            door.kill()
        disk.unmount()
        disk.mount()
        missing = load.told.accepted.keys() - in_journal(disk.folder / "journal").keys()
        if missing:
            outcomes.problems.append(f"full disk: {len(missing)} webhooks answered 202 are gone after a power cut")
    told = load.told
    say(f"disk full {times} times: {told.statuses['202']} accepted, 202 again after at most {slowest_s * 1e3:.0f} ms")


def occupy(path: Path) -> None:
    """Everything that is free."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(65_536))
            os.fsync(file.fileno())


def planned(known: dict[str, dict[str, int]]) -> Iterator[Fault]:
    """Every call of both phases, with each error."""
    for phase, counts in known.items():
        for call, count in counts.items():
            for number in range(1, count + 1):
                yield from (Fault(phase, call, number, error) for error in CALLS[call])


async def every_call(servers: str, scratch: Path, given: argparse.Namespace, outcomes: Outcomes) -> None:
    """Steps 1 and 2, over so many disks at once."""
    prefix = f"calls-{os.getpid()}"
    kafka = KafkaSettings(kafka_bootstrap_servers=servers, kafka_topic_prefix=prefix, kafka_topic_partitions=1)
    await ensure_topics(kafka)
    left: list[Fault] = []

    async def work(worker: int) -> None:
        folder = scratch / f"disk-{worker}"
        folder.mkdir()
        with loop_disk(folder, 64) as disk:
            bench = Bench(folder, disk, kafka, outcomes, worker * 10_000_000)
            cleaned = {phase: await bench.clean(phase) for phase in PHASES}
            if worker == 0:
                known = {phase: counts for phase, (_, counts) in cleaned.items()}
                for phase, counts in known.items():
                    say(f"{phase}: {', '.join(f'{call} {n}' for call, n in counts.items())}")
                left.extend([*planned(known)][given.first :: given.step])
                begun.set()
            await begun.wait()
            while left:
                fault = left.pop(0)
                await bench.run(fault.phase, fault, cleaned[fault.phase][0])
                if len(left) % 25 == 0:
                    say(f"{len(left)} faults to go, {len(outcomes.problems)} problems")

    begun = asyncio.Event()
    await asyncio.gather(*(work(worker) for worker in range(given.disks)))
    lost = (await arrived(kafka)).lost(outcomes.promised)
    if lost:
        outcomes.problems.append(f"forwarding: {len(lost)} webhooks are not in Kafka")
    say(", ".join(f"{what}: {n}" for what, n in outcomes.seen.items()))


async def both(given: argparse.Namespace, scratch: Path) -> int:
    """All steps, and the verdict."""
    outcomes = Outcomes()
    (scratch / "full").mkdir()
    await fill(scratch / "full", given.full, outcomes)
    with broker() as servers:
        await every_call(servers, scratch, given, outcomes)
    for problem in outcomes.problems[:20]:
        print("PROBLEM", problem)
    print("RED" if outcomes.problems else "GREEN: no false 2xx, no crash loop, what was answered 202 is there")
    return bool(outcomes.problems)


def main() -> int:
    """0: green; 1: red; 2: not root, or no strace."""
    parser = argparse.ArgumentParser(prog="python -m tests.failing_calls")
    parser.add_argument("--full", type=int, default=20, help="how often the disk fills up")
    parser.add_argument("--disks", type=int, default=3, help="runs at once")
    parser.add_argument("--step", type=int, default=1, help="only every so many-th fault")
    parser.add_argument("--first", type=int, default=0, help="and of these not the first ones")
    parser.add_argument("--keep", type=Path, help="scratch folder that stays")
    given = parser.parse_args()
    if os.geteuid() != 0 or shutil.which("strace") is None:
        print("this needs root and strace: file systems are mounted, system calls made to fail")
        return 2
    own_mounts()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="failing-calls-") as scratch:
        folder = given.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        return asyncio.run(both(given, folder))


if __name__ == "__main__":
    sys.exit(main())
