"""Opening a journal's folder: its lock, its instance, and what its files hold.

Nothing here needs free space but a new journal's name: with a full disk ingest starts, forwards, and so makes room.
"""

import fcntl
import itertools
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from events.settings import ConfigurationError
from ingest import recovery, segments
from ingest.disk import Disk, make_folder, read_head, read_whole
from ingest.recovery import Inspected

SUFFIX: Final = ".segment"
SET_ASIDE: Final = ".damaged"


@dataclass(slots=True)
class Segment:
    """One file: its first sequence, its bytes, and the last sequence in it (below `first` while it is empty)."""

    path: Path
    first: int
    last: int
    size: int
    is_damaged: bool = False


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was found when the journal was opened: damage is reported, never silent."""

    records: int
    damaged_bytes: int
    torn_bytes: int


@dataclass(frozen=True, slots=True)
class Opened:
    """A folder that this process has now: `lock` is the descriptor that holds it."""

    instance: str
    kept: list[Segment]
    runs: list[tuple[int, int]]
    recovery: Recovery
    lock: int


def lock_of(folder: Path) -> int:
    """Take the folder's lock; raises ConfigurationError when another process has it."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException as error:
        os.close(descriptor)
        if not isinstance(error, BlockingIOError):
            raise
        message = f"DATA_DIR: another ingest process has the journal in {folder}; stop it or choose another DATA_DIR"
        raise ConfigurationError(message) from None
    return descriptor


def open_folder(folder: Path, disk: Disk) -> Opened:
    """Take the folder and look through it; a torn tail is cut off, damage stays where it is and is skipped."""
    make_folder(folder, disk)
    lock = lock_of(folder)
    try:
        instance = find_instance(folder)
        if instance is None:
            instance = _new_instance(folder, disk)
        kept: list[Segment] = []
        runs: list[tuple[int, int]] = []
        records = damaged = torn = 0
        for path, whole, following in inspected(folder, instance, SUFFIX):
            found = recovery.bounded(whole, following)
            if found.torn is not None:
                torn += found.torn.end - found.torn.begin
                disk.truncate(path, found.torn.begin)
            lost = sum(one.end - one.begin for one in found.damaged)
            damaged += lost
            records += sum(last - first + 1 for first, last in found.runs)
            runs += found.runs
            kept.append(Segment(path, found.first, found.last, found.end, is_damaged=bool(lost)))
        return Opened(instance, kept, runs, Recovery(records, damaged, torn), lock)
    except BaseException:
        os.close(lock)
        raise


def paths_in(folder: Path, *suffixes: str) -> list[Path]:
    """The files of these kinds, oldest first."""
    return [
        folder / name for name in recovery.in_order(path.name for path in folder.iterdir()) if name.endswith(suffixes)
    ]


def inspected(folder: Path, instance: str, *suffixes: str) -> Iterator[tuple[Path, Inspected, int | None]]:
    """Look through one file after the other, oldest first; with the first sequence of the next one."""
    paths = paths_in(folder, *suffixes)
    for path, following in itertools.zip_longest(paths, paths[1:]):
        found = recovery.inspect(read_whole(path), recovery.first_of(path.name) or 0, instance)
        yield path, found, None if following is None else recovery.first_of(following.name)


def find_instance(folder: Path) -> str | None:
    """The instance of the folder; null for one without segments, which is to begin with a new name.

    Without segments the sequences begin anew, and under the old name they would be taken for repeats.
    """
    paths = paths_in(folder, SUFFIX, SET_ASIDE)
    if not paths:
        return None
    try:
        own = (folder / "instance").read_bytes()
    except FileNotFoundError:
        own = b""
    said = segments.instance_in(own)
    heads = [read_head(path, segments.HEADER_LENGTH) for path in paths]
    _refuse_a_newer_format(folder, own, heads)
    named = {name for head in heads if (name := segments.instance_in(head)) is not None}
    if said is not None and named <= {said}:
        return said
    files = [(recovery.first_of(path.name) or 0, read_whole(path)) for path in paths]
    return recovery.instance_of(said, files)


def _refuse_a_newer_format(folder: Path, own: bytes, heads: list[bytes]) -> None:
    """Raise ConfigurationError for what a newer release wrote; a single header that says so is damage."""
    said = segments.newer_version_in(own)
    if said is not None and said in map(segments.newer_version_in, heads):
        message = f"the journal in {folder} has format {said}, this release knows up to {segments.FILE_VERSION}"
        raise ConfigurationError(f"DATA_DIR: {message}; start the newer release until Kafka has all of the journal")


def _new_instance(folder: Path, disk: Disk) -> str:
    """Choose a name and keep it in a file of its own; it stands in every segment's header besides."""
    name = secrets.token_hex(segments.INSTANCE_LENGTH // 2)
    made, path = folder / "instance.new", folder / "instance"
    if made.exists():
        disk.unlink(made)
    descriptor = disk.create(made)
    try:
        disk.write(descriptor, segments.header(name))
        disk.sync(descriptor)
    finally:
        disk.close(descriptor)
    disk.rename(made, path)
    disk.sync_folder(folder)
    return name
