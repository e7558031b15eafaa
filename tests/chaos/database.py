"""A real PostgreSQL that can be killed like a power cut and started again where it was; it syncs, as in production."""

import contextlib
import os
import pwd
import select
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.broker import HOST, die_with_parent, free_port
from tests import postgres

GONE_TIMEOUT_S = 10.0


class Database:
    """One server with its data in `folder`."""

    def __init__(self, folder: Path) -> None:
        """Make the data; nothing runs yet."""
        programs = postgres.programs()
        if programs is None:
            pytest.fail("no PostgreSQL: install it (Debian: apt-get install postgresql)")
        self._programs: Path = programs
        self._folder = folder
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True)
        self._user = None
        if os.geteuid() == 0:
            known = {entry.pw_name for entry in pwd.getpwall()}
            self._user = "postgres" if "postgres" in known else "nobody"
            shutil.chown(folder, self._user)
        made = [str(programs / "initdb"), "-D", str(folder / "data"), "-U", "callstream", "-A", "trust", "-E", "UTF8"]
        subprocess.run(made, check=True, capture_output=True, user=self._user, cwd=folder)

    @property
    def url(self) -> str:
        """Of the database that every server has."""
        return f"postgresql+asyncpg://callstream@{HOST}:{self._port}/postgres"

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    @property
    def pid(self) -> int:
        """Of the server's first process."""
        assert self._process is not None
        return self._process.pid

    def pids(self) -> list[int]:
        """Of all its processes."""
        return [self.pid, *(pid for pid, parent in _processes() if parent == self.pid)]

    def has_ended(self) -> bool:
        """Whether it gave up."""
        return self._process is None or self._process.poll() is not None

    def start(self) -> None:
        """Start, and wait until it answers."""
        (self._folder / "data" / "postmaster.pid").unlink(missing_ok=True)
        self._process = subprocess.Popen(
            [str(self._programs / "postgres"), "-D", str(self._folder / "data"), "-h", HOST, "-p", str(self._port),
             "-k", str(self._folder)],
            stdout=subprocess.DEVNULL,
            stderr=(self._folder / "log").open("ab"),
            user=self._user,
            cwd=self._folder,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one prctl call
            start_new_session=True,
        )  # fmt: skip
        while not self.is_ready(30):
            assert self._process.poll() is None, (self._folder / "log").read_text()

    def is_ready(self, within_s: int) -> bool:
        """Whether it takes connections, or does so in time."""
        ready = [str(self._programs / "pg_isready"), "-h", HOST, "-p", str(self._port), "-t", str(within_s)]
        return not subprocess.run(ready, capture_output=True, check=False).returncode

    def kill(self) -> None:
        """All of its processes at once, without a word."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGSTOP)  # else it may have one more child than are seen
        _, *children = self.pids()
        with contextlib.ExitStack() as opened:
            gone = [fd for child in children if (fd := _descriptor_of(child, opened)) is not None]
            self._process.kill()
            for child in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            self._process.wait()
            # Who is killed has its files open until it is gone, which nobody but init is told of.
            for fd in gone:
                if not select.select([fd], [], [], GONE_TIMEOUT_S)[0]:
                    raise TimeoutError("PostgreSQL's processes do not go")


def _descriptor_of(pid: int, opened: contextlib.ExitStack) -> int | None:
    """Can be read from when the process is gone; null: it is."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    opened.callback(os.close, fd)
    return fd


def _processes() -> Iterator[tuple[int, int]]:
    """(process, its parent) of all that run."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield int(folder.name), int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
