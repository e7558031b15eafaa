"""A small ext4 file system in a file, mounted by the kernel: its power can be cut. Needs root."""

import contextlib
import ctypes
import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

SHUTDOWN = 0x8004587D
"""EXT4_IOC_SHUTDOWN."""
NO_LOG_FLUSH = 2
"""As a power cut: what is in memory only, the file system's own journal included, never reaches the disk."""


_CLONE_NEWNS = 0x20000
_MS_REC_PRIVATE = 0x4000 | 0x40000


def own_mounts() -> None:
    """From now on this process and its children see mounts that nobody else sees.

    A container that is started elsewhere would otherwise keep a copy of ours: the dead file system would live on.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) or libc.mount(b"none", b"/", None, _MS_REC_PRIVATE, None):
        raise OSError(ctypes.get_errno(), "no mounts of our own can be had")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


class LoopDisk:
    """`folder` is where it is mounted."""

    def __init__(self, scratch: Path, megabytes: int) -> None:
        """Made and mounted; `megabytes` of it, none kept back for root."""
        self.folder = scratch / "mounted"
        self._image = scratch / "image"
        with self._image.open("wb") as file:
            file.truncate(megabytes * 1024 * 1024)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", str(self._image))
        self.folder.mkdir()
        self.mount()

    def mount(self) -> None:
        """The file system recovers by its own journal."""
        _run("mount", "-o", "loop", str(self._image), str(self.folder))

    def unmount(self) -> None:
        """Nobody may have a file open there."""
        _run("umount", str(self.folder))

    def cut(self) -> None:
        """From now on nothing reaches the disk, and every request of it fails.

        Whoever writes must be stopped before: a sync that is under way can be told that all is well although nothing
        reached the disk (in 3 of 40 tries on Linux 6.18). Without power nobody would hear of it.
        """
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def loop_disk(scratch: Path, megabytes: int) -> Iterator[LoopDisk]:
    """For the length of the block."""
    disk = LoopDisk(scratch, megabytes)
    try:
        yield disk
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            disk.unmount()
