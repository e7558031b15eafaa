"""What the journal asks of a disk, one method per system call; the tests give it disks that fail, record and forget."""

import contextlib
import os
from pathlib import Path
from typing import Final, Protocol

BLOCK_BYTES: Final = 4_096


class Disk(Protocol):
    """Every method raises OSError. Nothing is durable before `sync`, no name before `sync_folder`."""

    def create(self, path: Path) -> int:
        """A new, empty file for appending; its descriptor."""

    def write(self, descriptor: int, data: bytes) -> None:
        """All of `data` at the end of the file."""

    def reserve(self, descriptor: int, length: int) -> None:
        """Have the disk set aside `length` bytes for the file."""

    def sync(self, descriptor: int) -> None:
        """Make what was written durable."""

    def close(self, descriptor: int) -> None:
        """Let go of the file."""

    def sync_folder(self, folder: Path) -> None:
        """Make the names in `folder` durable: a new file survives a power cut only after it."""

    def truncate(self, path: Path, length: int) -> None:
        """Cut the file to `length` bytes, durably."""

    def rename(self, path: Path, new: Path) -> None:
        """Give the file another name, in place of whatever had it."""

    def unlink(self, path: Path) -> None:
        """Delete the name."""


class RealDisk:
    """The disk, by system calls."""

    def create(self, path: Path) -> int:
        """O_EXCL: no file is ever opened for writing twice."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write(self, descriptor: int, data: bytes) -> None:
        """Until all of it is taken."""
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]

    def reserve(self, descriptor: int, length: int) -> None:
        """By fallocate."""
        os.posix_fallocate(descriptor, 0, length)

    def sync(self, descriptor: int) -> None:
        """By fdatasync, which includes the size."""
        os.fdatasync(descriptor)

    def close(self, descriptor: int) -> None:
        """Whatever close says, the descriptor is gone."""
        os.close(descriptor)

    def sync_folder(self, folder: Path) -> None:
        """By fsync of the directory."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def truncate(self, path: Path, length: int) -> None:
        """By ftruncate and fsync."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.ftruncate(descriptor, length)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, path: Path, new: Path) -> None:
        """By rename."""
        path.rename(new)

    def unlink(self, path: Path) -> None:
        """By unlink."""
        path.unlink()


def make_folder(folder: Path, disk: Disk) -> None:
    """Make `folder` and those above it, and make each new name durable; raises OSError."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for one in reversed(missing):
        disk.sync_folder(one.parent)


def keep_reserve(path: Path, length: int, disk: Disk) -> None:
    """Have a file that keeps so much of the disk free, unless it is there; one that cannot be had leaves nothing."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size == length:
            return
        disk.unlink(path)
    descriptor = disk.create(path)
    try:
        disk.reserve(descriptor, length)
    except OSError:
        disk.unlink(path)
        raise
    finally:
        disk.close(descriptor)


def read_whole(path: Path) -> bytes:
    """The file's bytes; a block that the disk cannot read any more is zeros, so that those around it are not lost.

    Raises OSError when the file cannot be opened or nothing of it can be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError:
        return _read_blocks(path)


def read_head(path: Path, length: int) -> bytes:
    """The file's first bytes, without reading the rest; none when the disk cannot read them.

    Raises OSError when the file cannot be opened.
    """
    with path.open("rb") as file:
        try:
            return file.read(length)
        except OSError:
            return b""


def _read_blocks(path: Path) -> bytes:
    blocks: list[bytes] = []
    refused: OSError | None = None
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        for begin in range(0, size, BLOCK_BYTES):
            length = min(BLOCK_BYTES, size - begin)
            try:
                blocks.append(os.pread(file.fileno(), length, begin).ljust(length, b"\0"))
            except OSError as error:
                refused = error
                blocks.append(bytes(length))
    if refused is not None and not any(any(block) for block in blocks):
        raise refused
    return b"".join(blocks)
