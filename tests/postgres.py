"""A real PostgreSQL for the tests: a given one, else the local programs as a child process, else a container."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.broker import HOST, die_with_parent, free_port

START_TIMEOUT_S = 30
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
        # Not in pytest's own folder, which it keeps closed to other users.
        with tempfile.TemporaryDirectory(prefix="callstream-postgres-") as folder, _child(local, Path(folder)) as url:
            yield url
    elif shutil.which("docker"):
        with _container() as url:
            yield url
    else:
        pytest.fail("no PostgreSQL: install it (Debian: apt-get install postgresql) or set TEST_POSTGRES_URL")


@contextlib.contextmanager
def _child(local: Path, folder: Path) -> Iterator[str]:
    # PostgreSQL refuses to run as root: then it runs as whom its package made, else as nobody.
    user = None
    if os.geteuid() == 0:
        names = {entry.pw_name for entry in pwd.getpwall()}
        user = "postgres" if "postgres" in names else "nobody"
        shutil.chown(folder, user)
    data, port = folder / "data", free_port()
    initdb = [str(local / "initdb"), "-D", str(data), "-U", "callstream", "-A", "trust", "-E", "UTF8", "--no-sync"]
    subprocess.run(initdb, check=True, capture_output=True, user=user, cwd=folder)
    process = subprocess.Popen(
        [str(local / "postgres"), "-D", str(data), "-h", HOST, "-p", str(port), "-k", str(folder), "-c", "fsync=off"],
        stdout=subprocess.DEVNULL,
        stderr=(folder / "log").open("ab"),
        user=user,
        cwd=folder,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - one prctl call
    )
    try:
        ready = [str(local / "pg_isready"), "-h", HOST, "-p", str(port), "-t", str(START_TIMEOUT_S)]
        while subprocess.run(ready, capture_output=True, check=False).returncode:
            assert process.poll() is None, (folder / "log").read_text()
        yield f"postgresql+asyncpg://callstream@{HOST}:{port}"
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def _container() -> Iterator[str]:
    from testcontainers.community.postgres import PostgresContainer  # noqa: PLC0415 - only where an engine is used

    with PostgresContainer("postgres:17", driver="asyncpg") as container:
        yield container.get_connection_url().rsplit("/", 1)[0]
