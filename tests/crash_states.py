"""``python -m tests.crash_states``: every state that a power cut can leave of a journal, and what is found in it.

1. A seeded script (append, rotate, forward, delete, a failing sync, start again) runs a real journal; each operation on
   the disk is recorded, and beside it what had been acknowledged to a sender (2xx) and by Kafka at that point.
2. For every prefix of the operations: what was synced is there; of what was not, any part may be: each write whole,
   lost, torn, or with a hole of zeros; each name there or not, in any order. Equal states are looked at once.
3. Every state is written to a folder and opened by the real code: all that was acknowledged is there, nothing that
   was never written is, in order, and the next sequence is above every one that anybody can have seen.
"""

import argparse
import asyncio
import errno
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from ingest.disk import RealDisk
from ingest.journal import Journal, open_journal
from tests.journals import appended

BYTES_MAX = 64 * 1024 * 1024
SEGMENT_BYTES = 700
NOTHING = b""
FAILING = 12
LOSSES = 20
"""Of the places where a write can be cut, so many are chosen by chance, each for three kinds of loss."""


@dataclass
class File:
    """One file as the disk has it: what is synced, and the writes since then."""

    synced: bytes = NOTHING
    pending: list[bytes] = field(default_factory=list)

    def copy(self) -> "File":
        return File(self.synced, list(self.pending))


@dataclass
class State:
    """The disk at one point. `names`: durable ones; `steps`: changes of names since the folder's last sync."""

    names: dict[str, File] = field(default_factory=dict)
    steps: list[tuple[str, str, File]] = field(default_factory=list)
    promised: dict[int, bytes] = field(default_factory=dict)
    highest: int = 0

    def copy(self) -> "State":
        files: dict[int, File] = {}

        def own(file: File) -> File:
            return files.setdefault(id(file), file.copy())

        names = {name: own(file) for name, file in self.names.items()}
        steps = [(verb, name, own(file)) for verb, name, file in self.steps]
        return State(names, steps, dict(self.promised), self.highest)


class Recording(RealDisk):
    """The real disk, and a copy of the state after every operation. One sync in `FAILING` fails, its data in limbo."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.may_fail = False
        self.now = State()
        self.states: list[State] = []
        self.written: dict[int, bytes] = {}
        self._open: dict[int, File] = {}
        self._all: dict[str, File] = {}

    def note(self) -> None:
        self.states.append(self.now.copy())

    def create(self, path: Path) -> int:
        descriptor = super().create(path)
        self._open[descriptor] = self._all[path.name] = File()
        self.now.steps.append(("link", path.name, self._all[path.name]))
        self.note()
        return descriptor

    def write(self, descriptor: int, data: bytes) -> None:
        super().write(descriptor, data)
        self._open[descriptor].pending.append(data)
        self.note()

    def sync(self, descriptor: int) -> None:
        file = self._open[descriptor]
        if self.may_fail and self._random.randrange(FAILING) == 0:
            raise OSError(errno.EIO, "Input/output error")
        file.synced += NOTHING.join(file.pending)
        file.pending.clear()
        self.note()

    def truncate(self, path: Path, length: int) -> None:
        super().truncate(path, length)
        file = self._all[path.name]
        file.synced = NOTHING.join((file.synced, *file.pending))[:length]
        file.pending.clear()
        self.note()

    def sync_folder(self, folder: Path) -> None:
        super().sync_folder(folder)
        for step in self.now.steps:
            apply(step, self.now.names)
        self.now.steps.clear()
        self.note()

    def rename(self, path: Path, new: Path) -> None:
        super().rename(path, new)
        file = self._all[new.name] = self._all.pop(path.name)
        self.now.steps += [("link", new.name, file), ("drop", path.name, file)]
        self.note()

    def unlink(self, path: Path) -> None:
        super().unlink(path)
        self.now.steps.append(("drop", path.name, self._all.pop(path.name, File())))
        self.note()


def apply(step: tuple[str, str, File], names: dict[str, File]) -> None:
    verb, name, file = step
    if verb == "link":
        names[name] = file
    else:
        names.pop(name, None)


async def play(seed: int, folder: Path) -> Recording:
    """One script."""
    random = Random(seed)
    disk = Recording(Random(seed))
    for _ in range(random.randint(2, 3)):
        journal, _ = open_journal(folder, BYTES_MAX, SEGMENT_BYTES, disk)
        running = asyncio.create_task(journal.run())
        for _ in range(random.randint(8, 14)):
            await _append(
                journal, disk, [random.randbytes(random.choice((5, 60, 300))) for _ in range(random.randint(1, 4))]
            )
            if random.random() < 0.4 and journal.depth:
                upto = random.randint(journal.acknowledged, journal.durable)
                for sequence in [one for one in disk.now.promised if one <= upto]:
                    del disk.now.promised[sequence]
                journal.acknowledge(upto)
        running.cancel()
        await asyncio.wait({running})
        journal.close()
    return disk


async def _append(journal: Journal, disk: Recording, payloads: list[bytes]) -> None:
    first = journal.next_sequence
    disk.written |= dict(enumerate(payloads, first))
    disk.may_fail = True
    told = await asyncio.gather(*(appended(journal, payload) for payload in payloads), return_exceptions=True)
    disk.may_fail = False
    disk.now.promised |= {
        number: payload for number, payload in zip(told, payloads, strict=True) if type(number) is int
    }
    disk.now.highest = first + len(payloads) - 1
    disk.note()


def losses(file: File, random: Random) -> Iterator[bytes]:
    """What may be there of a file: its synced bytes and any part of the others."""
    rest = NOTHING.join(file.pending)
    yield file.synced
    if rest:
        yield file.synced + rest
        for _ in range(LOSSES):
            cut = random.randrange(len(rest))
            yield file.synced + rest[:cut]
            begin, end = sorted((random.randrange(len(rest) + 1), cut))
            yield file.synced + rest[:begin] + bytes(end - begin) + rest[end:]
            yield file.synced + bytes(cut) + rest[cut:]


def outcomes(state: State, random: Random) -> Iterator[dict[str, bytes]]:
    """Every choice of the pending names (sampled beyond 4 of them), each with the losses of the files."""
    steps = state.steps
    masks = range(2 ** len(steps)) if len(steps) <= 4 else [random.getrandbits(len(steps)) for _ in range(16)]
    for mask in masks:
        names = dict(state.names)
        for number, step in enumerate(steps):
            if mask >> number & 1:
                apply(step, names)
        whole = {name: file.synced for name, file in names.items()}
        yield whole
        for name, file in names.items():
            if file.pending:
                yield from (whole | {name: data} for data in losses(file, random))


def problem_of(files: dict[str, bytes], state: State, written: dict[int, bytes], folder: Path) -> str | None:
    """What is wrong with what the real code finds; null when nothing is."""
    folder.mkdir()
    try:
        for name, data in files.items():
            if name != "reserve":
                (folder / name).write_bytes(data)
        journal, _ = open_journal(folder, BYTES_MAX, SEGMENT_BYTES)
        found: list[tuple[int, bytes]] = []
        while more := journal._read_files(found[-1][0] if found else journal.acknowledged, 1000):
            found += more
        following, depth = journal.next_sequence, journal.depth
        journal.close()
    finally:
        shutil.rmtree(folder)
    sequences = [sequence for sequence, _ in found]
    if missing := state.promised.items() - set(found):
        return f"lost {sorted(sequence for sequence, _ in missing)}"
    if any(written.get(sequence) != payload for sequence, payload in found):
        return "a record that was never written"
    if sequences != sorted(set(sequences)) or depth != len(found):
        return "out of order, repeated or miscounted"
    if state.highest and following <= max([state.highest, *sequences]):
        return f"sequence {following} can be used twice"
    return None


def distinct(states: Iterable[tuple[dict[str, bytes], State]]) -> Iterator[tuple[dict[str, bytes], State]]:
    """Each choice of files once for what had been promised: the operations in between change nothing on the disk."""
    seen: set[int] = set()
    for files, state in states:
        key = hash((frozenset(files.items()), frozenset(state.promised), state.highest))
        if key not in seen:
            seen.add(key)
            yield files, state


async def check(scripts: int, seed: int, states_max: int, folder: Path) -> tuple[int, list[str]]:
    """Returns how many states were looked at, and what was wrong."""
    looked = 0
    problems: list[str] = []
    for script in range(scripts):
        disk = await play(seed + script, folder / f"script-{script}")
        random = Random(seed + script)
        share = max(1, states_max // scripts)
        states = list(distinct((files, state) for state in disk.states for files in outcomes(state, random)))
        for files, state in states if len(states) <= share else random.sample(states, share):
            looked += 1
            wrong = problem_of(files, state, disk.written, folder / "state")
            if wrong is not None:
                problems.append(f"script {seed + script}: {wrong}")
    return looked, problems


def main() -> int:
    """0: every state is legal."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash_states")
    parser.add_argument("--scripts", type=int, default=50)
    parser.add_argument("--states", type=int, default=200_000, help="at most so many, sampled evenly over the scripts")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    memory = Path("/dev/shm")  # noqa: S108 - only states of invented records
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        looked, problems = asyncio.run(check(given.scripts, given.seed, given.states, Path(folder)))
    for one in problems[:20]:
        print("PROBLEM", one)
    print(f"seed {given.seed}: {given.scripts} scripts, {looked} states, {len(problems)} problems")
    print("RED" if problems else "GREEN: every state recovers to a legal one")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
