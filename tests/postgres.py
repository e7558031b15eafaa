"""A real PostgreSQL for the tests: a given one, else the local programs as a child process, else a container."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deploy.local.broker import HOST, die_with_parent, free_port

START_TIMEOUT_S = 30
ACCEPTS, REJECTS = 0, 1
"""Exit statuses of pg_isready."""
PROGRAMS = ("initdb", "postgres", "pg_isready")


def programs() -> Path | None:
    """The folder with initdb and postgres: from the PATH, else Debian's, newest first."""
    found = shutil.which("postgres")
    candidates = [Path(found).resolve().parent] if found else []
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in candidates if all((folder / name).exists() for name in PROGRAMS)), None)


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The URL (without a database) of a server that lives as long as the block."""
    given = os.environ.get("TEST_POSTGRES_URL")
    local = programs()
    if given:
        yield given.rstrip("/")
    elif local:
        with own_cluster() as cluster:
            yield cluster.url
    elif shutil.which("docker"):
        with _container() as url:
            yield url
    else:
        pytest.fail("no PostgreSQL: install it (Debian: apt-get install postgresql) or set TEST_POSTGRES_URL")


class Cluster:
    """A PostgreSQL of our own in a folder: started, killed with all its processes, started again on what it left."""

    def __init__(self, local: Path, folder: Path) -> None:
        """`local`: where its programs are."""
        # PostgreSQL refuses to run as root: then it runs as whom its package made, else as nobody.
        self._user: str | None = None
        if os.geteuid() == 0:
            names = {entry.pw_name for entry in pwd.getpwall()}
            self._user = "postgres" if "postgres" in names else "nobody"
            shutil.chown(folder, self._user)
        self._local, self._folder, self._port = local, folder, free_port()
        initdb = [str(local / "initdb"), "-D", str(folder / "data"), "-U", "callstream", "-A", "trust", "-E", "UTF8"]
        subprocess.run([*initdb, "--no-sync"], check=True, capture_output=True, user=self._user, cwd=folder)
        self.url = f"postgresql+asyncpg://callstream@{HOST}:{self._port}"

    @property
    def data(self) -> Path:
        """Its data folder, with its configuration."""
        return self._folder / "data"

    def start(self, *, lets_in: bool = True) -> None:
        """Start it and wait until it answers; not `lets_in`: only until it turns everybody away."""
        arguments = ["-D", str(self.data), "-h", HOST, "-p", str(self._port), "-k", str(self._folder)]
        self._process = subprocess.Popen(
            [str(self._local / "postgres"), *arguments, "-c", "fsync=off"],
            stdout=subprocess.DEVNULL,
            stderr=(self._folder / "log").open("ab"),
            user=self._user,
            cwd=self._folder,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one prctl call
        )
        ready = [str(self._local / "pg_isready"), "-h", HOST, "-p", str(self._port), "-t", str(START_TIMEOUT_S)]
        while subprocess.run(ready, capture_output=True, check=False).returncode != (ACCEPTS if lets_in else REJECTS):
            assert self._process.poll() is None, (self._folder / "log").read_text()

    def kill(self) -> None:
        """SIGKILL to the postmaster and each of its backends.

        Stopped first, it starts none that would be overlooked, and would hold the memory that its successor wants.
        """
        processes = [psutil.Process(self._process.pid)]
        processes[0].suspend()
        processes += processes[0].children(recursive=True)
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
        psutil.wait_procs(processes[1:], timeout=START_TIMEOUT_S)

    def stop(self) -> None:
        """End it in order."""
        self._process.terminate()
        self._process.wait()


@contextlib.contextmanager
def own_cluster() -> Iterator[Cluster]:
    """A running cluster of the test's own, to be killed."""
    local = programs()
    assert local is not None, "no PostgreSQL: install it (Debian: apt-get install postgresql)"
    # Not in pytest's own folder, which it keeps closed to other users.
    with tempfile.TemporaryDirectory(prefix="callstream-postgres-") as folder:
        cluster = Cluster(local, Path(folder))
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop()


@contextlib.contextmanager
def _container() -> Iterator[str]:
    from testcontainers.community.postgres import PostgresContainer  # noqa: PLC0415 - only where an engine is used

    with PostgresContainer("postgres:17", driver="asyncpg") as container:
        yield container.get_connection_url().rsplit("/", 1)[0]
