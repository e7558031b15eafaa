"""The journal: what was accepted and Kafka has not acknowledged yet, on disk and synced before anybody is told so.

1. `append` joins the group that waits; one thread writes the whole group and syncs it (group commit);
2. only then the futures are resolved: a webhook is answered 202;
3. `read` gives the records in order to the forwarder, from memory or, when it is behind, from the files;
4. `acknowledge` deletes a segment once Kafka has all of it.

The position is derived from the data: no second file says how far Kafka is, so after a crash what the remaining
segments hold is sent again, with the same ids and sequences, and the processors recognise the repeats. A failed write
or sync is never trusted again: the group is written once more, to a new segment, and if that fails too it is refused.
"""

import asyncio
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from events.settings import ConfigurationError
from ingest import segments
from ingest.segments import Damaged

TAIL_BYTES_MAX: Final = 32 * 1024 * 1024
"""Of what Kafka has not acknowledged, so much is also kept in memory; beyond it the forwarder reads the files."""
GROUP_RECORDS_MAX: Final = 1_000
FIRST_SEQUENCE: Final = 1


class JournalFullError(Exception):
    """The journal holds as many bytes as it may; Kafka must take some first."""


class JournalFailedError(Exception):
    """The disk refused the group; nothing of it was acknowledged to anybody."""


class Disk(Protocol):
    """What the journal asks of a disk; the tests give it one that fails."""

    def append(self, descriptor: int, data: bytes) -> None:
        """Write all of `data` at the end of the file and make it durable; raises OSError."""

    def sync_folder(self, folder: Path) -> None:
        """Make the names in `folder` durable; raises OSError."""


class RealDisk:
    """The disk, by system calls."""

    def append(self, descriptor: int, data: bytes) -> None:
        """Write and fdatasync."""
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fdatasync(descriptor)

    def sync_folder(self, folder: Path) -> None:
        """Fsync of the directory: a new file's name survives a power cut only after it."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@dataclass(slots=True)
class Segment:
    """One file: its first sequence, its size, and the last sequence in it (below `first` while it is empty)."""

    path: Path
    first: int
    last: int
    size: int
    salt: int


@dataclass(slots=True)
class _Group:
    """What waits for the next group commit."""

    payloads: list[bytes] = field(default_factory=list)
    futures: list["asyncio.Future[int]"] = field(default_factory=list)


class Journal:
    """One per ingest process and folder. Open it with `open_journal`; `append` only while `run` runs."""

    def __init__(
        self,
        folder: Path,
        instance: str,
        kept: list[Segment],
        bytes_max: int,
        segment_bytes: int,
        disk: Disk,
        lock: int,
    ) -> None:
        """Take over the segments in `kept`, oldest first, and the descriptor that holds the folder's `lock`."""
        self.folder = folder
        self.instance = instance
        self.bytes_max = bytes_max
        self.failures = 0
        self.is_failing = False
        self.next_sequence = max((segment.last + 1 for segment in kept), default=FIRST_SEQUENCE)
        self.acknowledged = (kept[0].first if kept else self.next_sequence) - 1
        self.durable = self.next_sequence - 1
        self.arrived = asyncio.Event()
        self.emptied = asyncio.Event()
        self.observe_sync: Callable[[float], None] = lambda _seconds: None
        self._segments = kept
        self._segment_bytes = segment_bytes
        self._disk = disk
        self._lock = lock
        self._descriptor = -1
        self._tail: dict[int, bytes] = {}
        self._tail_bytes = 0
        self._group = _Group()
        self._committing: list[bytes] = []
        self._grouped = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "journal")
        self._begin_segment()
        if not self.depth:
            self.emptied.set()

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(segment.size for segment in self._segments)

    @property
    def depth(self) -> int:
        """Records that Kafka has not acknowledged."""
        return self.durable - self.acknowledged

    @property
    def is_full(self) -> bool:
        """At its limit: what comes now is refused."""
        return self.size >= self.bytes_max

    def append(self, payload: bytes) -> "asyncio.Future[int]":
        """Join the next group commit; the future is the record's sequence once it is durable, or JournalFailedError.

        Raises JournalFullError at once when the journal is at its limit. Order of calls is order of sequences.
        """
        if self.is_full:
            raise JournalFullError
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._group.payloads.append(payload)
        self._group.futures.append(future)
        self._grouped.set()
        return future

    def oldest_waiting(self) -> bytes | None:
        """The payload of the first record that is not durable yet; null when all are."""
        return next(iter(self._committing or self._group.payloads), None)

    async def run(self) -> None:
        """Commit group after group until cancelled; what waits then is committed before it ends."""
        try:
            while True:
                await self._grouped.wait()
                self._grouped.clear()
                await asyncio.shield(self._commit_waiting())
        finally:
            await self._commit_waiting()

    async def _commit_waiting(self) -> None:
        while self._group.payloads:
            group = self._group
            self._group = _Group(group.payloads[GROUP_RECORDS_MAX:], group.futures[GROUP_RECORDS_MAX:])
            await self._commit(group.payloads[:GROUP_RECORDS_MAX], group.futures[:GROUP_RECORDS_MAX])

    async def _commit(self, payloads: list[bytes], futures: list["asyncio.Future[int]"]) -> None:
        loop = asyncio.get_running_loop()
        first = self.next_sequence
        self._committing = payloads
        # Never again for another record, whatever becomes of this group: a sequence names one record.
        self.next_sequence += len(payloads)
        began = loop.time()
        try:
            await loop.run_in_executor(self._thread, self._write, first, payloads)
        except OSError as error:
            self.failures += 1
            self.is_failing = True
            for future in futures:
                if not future.done():
                    future.set_exception(JournalFailedError(f"the disk refused: {error.strerror}"))
            return
        finally:
            self._committing = []
        self.is_failing = False
        self.observe_sync(loop.time() - began)
        self.durable = self.next_sequence - 1
        for sequence, payload in enumerate(payloads, first):
            self._tail[sequence] = payload
            self._tail_bytes += len(payload)
        while self._tail_bytes > TAIL_BYTES_MAX:
            self._tail_bytes -= len(self._tail.pop(next(iter(self._tail))))
        self.arrived.set()
        self.emptied.clear()
        for sequence, future in enumerate(futures, first):
            if not future.done():
                future.set_result(sequence)

    def _write(self, first: int, payloads: list[bytes]) -> None:
        """In the journal's thread: the group to the active segment, or once more to a new one."""
        if self._active.size >= self._segment_bytes or self._descriptor < 0:
            self._begin_segment(first)
        try:
            self._write_group(first, payloads)
        except OSError:
            self._begin_segment(first)
            self._write_group(first, payloads)

    def _write_group(self, first: int, payloads: list[bytes]) -> None:
        active = self._active
        data = b"".join(segments.encode(number, one, active.salt) for number, one in enumerate(payloads, first))
        try:
            self._disk.append(self._descriptor, data)
        except OSError:
            os.close(self._descriptor)
            self._descriptor = -1
            raise
        active.size += len(data)
        active.last = first + len(payloads) - 1

    @property
    def _active(self) -> Segment:
        return self._segments[-1]

    def _begin_segment(self, first: int | None = None) -> None:
        """Create the next file, durably, and make it the active one."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        begin = self.next_sequence if first is None else first
        path = self.folder / f"{begin:020d}.segment"
        while path.exists():  # the same first sequence again: its earlier file failed or is empty
            path = path.with_name(f"{path.stem}+.segment")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._disk.append(descriptor, segments.header(self.instance))
            self._disk.sync_folder(self.folder)
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        salt = segments.salt_of(self.instance, begin)
        self._segments.append(Segment(path, begin, begin - 1, segments.HEADER_LENGTH, salt))

    async def read(self, after: int, records_max: int) -> list[tuple[int, bytes]]:
        """Durable records after the sequence `after`, in order; empty when there are none yet.

        Up to `records_max` from memory; when they are not there any more, the rest of one segment, read in a thread.
        """
        wanted = range(after + 1, min(after + records_max, self.durable) + 1)
        if all(sequence in self._tail for sequence in wanted):
            return [(sequence, self._tail[sequence]) for sequence in wanted]
        return await asyncio.to_thread(self._read_files, after)

    def _read_files(self, after: int) -> list[tuple[int, bytes]]:
        for segment in [one for one in self._segments if one.last > after]:
            found: dict[int, bytes] = {}
            for sequence, payload in _records(segment):
                if after < sequence <= self.durable:
                    found.setdefault(sequence, payload)
            if found:
                return sorted(found.items())
        return []

    def acknowledge(self, sequence: int) -> None:
        """Kafka has everything up to `sequence`: forget it, and delete the segments that hold nothing else."""
        for number in range(self.acknowledged + 1, sequence + 1):
            payload = self._tail.pop(number, None)
            if payload is not None:
                self._tail_bytes -= len(payload)
        self.acknowledged = max(self.acknowledged, sequence)
        if not self.depth:
            self.emptied.set()
        while len(self._segments) > 1 and self._segments[0].last <= self.acknowledged:
            self._segments.pop(0).path.unlink()

    def close(self) -> None:
        """After `run` has ended: let a journal that Kafka has wholly acknowledged begin anew, so nothing is resent."""
        if self.depth == 0 and self._active.last >= self._active.first:
            self._begin_segment()
            self.acknowledge(self.durable)
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._thread.shutdown()
        os.close(self._lock)


def _records(segment: Segment) -> Iterator[tuple[int, bytes]]:
    for one in segments.scan(segment.path.read_bytes(), segment.salt):
        if not isinstance(one, Damaged):
            yield one.sequence, one.payload


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was found when the journal was opened: damage is reported, never silent."""

    records: int
    damaged_bytes: int
    torn_bytes: int


def open_journal(
    folder: Path, bytes_max: int, segment_bytes: int, disk: Disk | None = None
) -> tuple[Journal, Recovery]:
    """Open or make the journal in `folder`; raises ConfigurationError when another process has it or it is unusable.

    Call it in the event loop that will use it. A torn tail is cut off; damage in the middle stays and is skipped.
    """
    real = disk or RealDisk()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _lock(folder)
        instance = _instance(folder, real)
        kept, recovery = _recover(folder, instance)
        return Journal(folder, instance, kept, bytes_max, segment_bytes, real, lock), recovery
    except OSError as error:
        message = f"DATA_DIR: the journal in {folder} cannot be used ({error.strerror}); make it writable, free space"
        raise ConfigurationError(message) from None


def _lock(folder: Path) -> int:
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        message = f"DATA_DIR: another ingest process has the journal in {folder}; stop it or choose another DATA_DIR"
        raise ConfigurationError(message) from None
    return descriptor


def _instance(folder: Path, disk: Disk) -> str:
    """The instance's name: made once with the folder, and in every segment's header besides."""
    path = folder / "instance"
    for candidate in (path, *sorted(folder.glob("*.segment"))):
        if candidate.exists():
            with candidate.open("rb") as file:
                data = file.read(segments.HEADER_LENGTH)
            name = segments.instance_in(data)
            if name is not None:
                return name
    name = secrets.token_hex(segments.INSTANCE_LENGTH // 2)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        disk.append(descriptor, segments.header(name))
    finally:
        os.close(descriptor)
    disk.sync_folder(folder)
    return name


def _recover(folder: Path, instance: str) -> tuple[list[Segment], Recovery]:
    kept: list[Segment] = []
    records = damaged = torn = 0
    for path in sorted(folder.glob("*.segment")):
        first = int(path.stem.rstrip("+"))
        salt = segments.salt_of(instance, first)
        size = path.stat().st_size
        last, good_end = first - 1, segments.HEADER_LENGTH
        for one in segments.scan(path.read_bytes(), salt):
            if isinstance(one, Damaged):
                at_tail = one.end == size
                torn += (one.end - one.begin) * at_tail
                damaged += (one.end - one.begin) * (not at_tail)
            else:
                last, good_end, records = max(last, one.sequence), one.end, records + 1
        if good_end < size:
            os.truncate(path, good_end)
        kept.append(Segment(path, first, last, good_end, salt))
    return kept, Recovery(records, damaged, torn)
