"""Memory and open files of every process over a long run, and whether they stay flat; so do the journal and the logs.

A process that is killed takes its leak along: what is judged is one life, the longest of each process, from when it is
warm to its end, and each must have had one that was long enough. None is warm before all have had the worst to catch up
with: a process takes as much memory as the greatest burst needs, and keeps it.
"""

import asyncio
import contextlib
import csv
import itertools
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

EVERY_S = 5.0
WARM = 0.2
"""The share of a life that is not looked at: caches fill."""
SAMPLES_MIN = 120
"""Of a life that can tell: ten minutes."""
GROWTH_MAX = 0.25
MEGABYTES_MAX = 40
"""Memory may grow by so much, whichever is more, from the first third of what is looked at to the last."""
FILES_MAX = 25
"""And files by so many, or by GROWTH_MAX: a broker has as many as there are segments just then."""
JOURNAL_BYTES_MAX = 64 * 1024 * 1024
T = TypeVar("T")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Sample(NamedTuple):
    """Of one process at one time."""

    at_s: float
    pid: int
    megabytes: float
    files: int


@dataclass
class Watch:
    """Samples of each process by its name, whichever process has it; and the journal's bytes, and those of the logs.

    `lasting`: those of which one must have lived long. `logs`: what the brokers hold now; null: they keep everything.
    `warm_s`: what was before that is not judged.
    """

    pids: Callable[[], Mapping[str, int]]
    journal: Path
    lasting: Sequence[str] = ()
    logs: Callable[[], int] | None = None
    warm_s: float = 0.0
    samples: dict[str, list[Sample]] = field(default_factory=lambda: defaultdict(list))
    journal_bytes: list[int] = field(default_factory=list)
    log_megabytes: list[float] = field(default_factory=list)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(EVERY_S)

    def look(self) -> None:
        """Once; a process that is just away has no sample."""
        for name, pid in self.pids().items():
            with contextlib.suppress(OSError):
                pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
                if not pages:  # it has ended, and was not awaited yet
                    continue
                files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
                self.samples[name].append(Sample(time.monotonic(), pid, pages * PAGE_BYTES / 2**20, files))
        with contextlib.suppress(OSError):
            self.journal_bytes.append(sum(path.stat().st_size for path in self.journal.iterdir()))
        if self.logs is not None:
            self.log_megabytes.append(self.logs() / 2**20)

    def problems(self) -> Iterator[str]:
        """What is not flat: of each process's longest life the last third of what is looked at against the first.

        A process grows in steps, each when something befalls it for the first time, and keeps what it took. Ten minutes
        cannot tell the step that came last from a leak.
        """
        for name, samples in self.samples.items():
            lives = _long_lives([one for one in samples if one.at_s >= self.warm_s])
            if not lives:
                if name in self.lasting:
                    yield f"{name}: no life was long enough to tell"
                continue
            first, last = _ends(max(lives, key=len))
            for unit in ("megabytes", "files"):
                before, after = (statistics.median(getattr(one, unit) for one in part) for part in (first, last))
                slack = max(FILES_MAX if unit == "files" else MEGABYTES_MAX, before * GROWTH_MAX)
                if after > before + slack:
                    yield f"{name}: {unit} grew from {before:.0f} to {after:.0f}"
        if max(self.journal_bytes, default=0) > JOURNAL_BYTES_MAX:
            yield f"the journal grew to {max(self.journal_bytes):,} bytes"
        if self.logs is not None:
            before, after = map(statistics.median, _ends(self.log_megabytes))
            if after > before * (1 + GROWTH_MAX):
                yield f"the brokers' logs grew from {before:.0f} to {after:.0f} MB, whatever retention deletes"

    def told(self) -> Iterator[str]:
        """A line for each long life: medians of the two thirds that `problems` compares, and the most of all lives."""
        for name, samples in sorted(self.samples.items()):
            for life in _long_lives([one for one in samples if one.at_s >= self.warm_s]):
                first, last = _ends(life)
                mb, files = ([statistics.median(getattr(one, unit) for one in part) for part in (first, last)]
                             for unit in ("megabytes", "files"))  # fmt: skip
                most = max(one.megabytes for one in samples), max(one.files for one in samples)
                minutes = (life[-1].at_s - life[0].at_s) / 60
                yield (
                    f"{name}, {minutes:.0f} minutes: {mb[0]:.0f} -> {mb[1]:.0f} MB (most {most[0]:.0f}),"
                    f" {files[0]:.0f} -> {files[1]:.0f} open files (most {most[1]})"
                )
        yield f"the journal: {max(self.journal_bytes, default=0):,} bytes at the most"
        if self.logs is not None:
            before, after = map(statistics.median, _ends(self.log_megabytes))
            yield f"the brokers' logs: {before:.0f} -> {after:.0f} MB (most {max(self.log_megabytes):.0f})"

    def keep(self, path: Path) -> None:
        """All samples as CSV."""
        with path.open("w", newline="") as file:
            lines = csv.writer(file)
            lines.writerow(("process", *Sample._fields))
            lines.writerows((name, *one) for name, samples in self.samples.items() for one in samples)


def _long_lives(samples: list[Sample]) -> list[list[Sample]]:
    lives = (list(life) for _, life in itertools.groupby(samples, key=lambda one: one.pid))
    return [life for life in lives if len(life) >= SAMPLES_MIN]


def _ends(life: Sequence[T]) -> tuple[Sequence[T], Sequence[T]]:
    """The first and the last third of the warm part."""
    warm = life[int(len(life) * WARM) :]
    third = max(1, len(warm) // 3)
    return warm[:third], warm[-third:]


def seconds_of(text: str) -> float:
    """``90s``, ``10m`` or ``1h``; raises ValueError for anything else."""
    return float(text[:-1]) * {"s": 1, "m": 60, "h": 3600}[text[-1]]
