"""Disks that fail: each store on a file system of its own, whose power is cut, which fills up, is slow or refuses.

The stores are `ingest` (the journal), each broker, `postgres` and `projections-sqlite`. Root only: file systems are
mounted, and system calls are delayed or made to fail by strace.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.failing_calls import occupy
from tests.faults.loop import LoopDisk
from tests.waiting import eventually

MEGABYTES = 512
SYNCS = "fsync,fdatasync,sync_file_range,msync"
ATTACHED_TIMEOUT_S = 10.0
SLOW_US = 300_000
"""So long each sync takes on a slow disk."""


class Disks:
    """The file systems, by the name of their store."""

    def __init__(self) -> None:
        """None is mounted yet."""
        self._disks: dict[str, LoopDisk] = {}

    def make(self, name: str, scratch: Path) -> Path:
        """Make and mount one; its folder."""
        scratch.mkdir(parents=True)
        self._disks[name] = LoopDisk(scratch, MEGABYTES)
        self._disks[name].folder.chmod(0o755)
        return self._disks[name].folder

    async def cut(self, name: str, pids: Sequence[int]) -> None:
        """Stop those who write to it where they are, and take the power away; they must then be killed."""
        await freeze(pids)
        self._disks[name].cut()

    def again(self, name: str) -> None:
        """The power is back: what was synced is there."""
        self._disks[name].unmount()
        self._disks[name].mount()

    async def fill(self, name: str, seconds: float) -> None:
        """Full for a while."""
        folder = self._disks[name].folder
        fillers = folder / "most", folder / "rest"
        await asyncio.to_thread(_fill, *fillers)
        await asyncio.sleep(seconds)
        for one in fillers:
            one.unlink()

    def close(self) -> None:
        """Unmount all; nobody may have a file open there."""
        for disk in self._disks.values():
            with contextlib.suppress(subprocess.CalledProcessError):
                disk.unmount()


def _fill(most: Path, rest: Path) -> None:
    """All but a megabyte at once, and then piece by piece."""
    found = os.statvfs(most.parent)
    with most.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, found.f_bavail * found.f_frsize - 2**20))
    occupy(rest)


async def freeze(pids: Sequence[int]) -> None:
    """Stop the processes; a thread that waits for the disk stops as soon as the disk has answered."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)

    async def states() -> set[str]:
        tasks = (task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir())
        return {(task / "stat").read_text("ascii", "replace").rsplit(")", 1)[1].split()[0] for task in tasks}

    await eventually(states, lambda seen: seen <= {"T", "t"})


@asynccontextmanager
async def syncs(pids: Sequence[int], log: Path, *, fail: bool) -> AsyncIterator[Callable[[], Awaitable[bool]]]:
    """For the length of the block each sync of these processes fails with EIO, or takes `SLOW_US`.

    Yields what tells whether there was one; `log` is written for that.
    """
    how = "error=EIO" if fail else f"delay_enter={SLOW_US}"
    chosen = [word for pid in pids for word in ("-p", str(pid))]
    log.unlink(missing_ok=True)
    command = ["strace", "-f", "-o", str(log), "-e", f"trace={SYNCS}", "-e", f"inject={SYNCS}:{how}", *chosen]
    tracing = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert tracing.stderr is not None

    async def is_met() -> bool:
        return any(call in log.read_text("ascii", "replace") for call in ("INJECTED", "DELAYED"))

    try:
        async with asyncio.timeout(ATTACHED_TIMEOUT_S):
            # One line for each: that it is attached, or that it ended meanwhile, as PostgreSQL's own come and go.
            said = [await tracing.stderr.readline() for _ in pids]
        if not any(b"attached" in line for line in said):
            raise ProcessLookupError(b"".join(said).decode())
        yield is_met
    finally:
        with contextlib.suppress(ProcessLookupError):  # it ends with those whom it watches
            tracing.terminate()
        await tracing.communicate()


def is_possible() -> bool:
    """Whether we may, and have what it takes."""
    return os.geteuid() == 0 and shutil.which("strace") is not None
