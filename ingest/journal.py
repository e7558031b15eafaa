"""The journal: what was accepted and Kafka has not acknowledged yet, on disk and synced before anybody is told so.

1. `append` joins the group that waits; one thread writes the whole group and syncs it (group commit);
2. only then those who appended are told: a webhook is answered 202;
3. `read` gives the records in order to the forwarder, from memory or, when it is behind, from the files;
4. `acknowledge` deletes a segment once Kafka has all of it; one with damage in it is set aside instead.

The position is derived from the data: no second file says how far Kafka is, so after a crash what the remaining
segments hold is sent again, with the same ids and sequences, and the processors recognise the repeats. A failed write
or sync is never trusted again: the group is written once more, to a new segment, and if that fails too it is refused.
"""

import asyncio
import contextlib
import errno
import itertools
import os
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Final

import structlog

from events.away import Reminder, of_disk
from ingest import recovery, segments
from ingest.disk import Disk, RealDisk, keep_reserve, read_whole
from ingest.opening import SET_ASIDE, SUFFIX, Opened, Recovery, Segment, open_folder, paths_in
from ingest.runs import Runs
from ingest.segments import Damaged
from ingest.worker import Worker

TAIL_BYTES_MAX: Final = 32 * 1024 * 1024
"""Of what Kafka has not acknowledged, so much is also kept in memory; beyond it the forwarder reads the files."""
WAITING_BYTES_MAX: Final = 64 * 1024 * 1024
"""What may wait for a disk that hangs; beyond it the journal is full."""
RESERVE_BYTES: Final = 1024 * 1024
"""Kept free on disk: one that fills up refuses nothing that was begun. It is there again before more is taken."""
GROUP_RECORDS_MAX: Final = 1_000
GATHER_RECORD_S: Final = 0.000_1
GATHER_S_MAX: Final = 0.004
"""After a group the next one gathers, so long for each record of it and no longer than this, until everybody who was
told may have come again: a group costs as much for one record as for fifty. A lone webhook does not wait."""
PROBE_S: Final = 0.25
"""While the disk refuses: how often it is tried, whether webhooks come or not."""
FIRST_SEQUENCE: Final = 1


class JournalFullError(Exception):
    """The journal holds as many bytes as it may; Kafka must take some first."""


log = structlog.get_logger()

Told = Callable[[int | None], object]
"""Called once: with the record's sequence when it is durable, with null when the disk refused it."""


@dataclass(slots=True)
class _Group:
    """What waits for the next group commit."""

    payloads: list[bytes] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)


class Journal:
    """One per ingest process and folder. Open it with `open_journal`; `append` only while `run` runs."""

    def __init__(self, folder: Path, opened: Opened, bytes_max: int, segment_bytes: int, disk: Disk) -> None:
        """Take over what was found in `folder`. Nothing is written before `run`."""
        self.folder = folder
        self.instance = opened.instance
        self.bytes_max = bytes_max
        self.failures = 0
        self.is_failing = False
        self.damaged_bytes = opened.recovery.damaged_bytes
        self._segments = opened.kept
        self._set_aside = [(path, path.stat().st_size) for path in paths_in(folder, SET_ASIDE)]
        firsts = [segment.first - 1 for segment in opened.kept]
        aside = [recovery.first_of(path.name) or 0 for path, _ in self._set_aside]
        used = max([*firsts, *aside, *(segment.last for segment in opened.kept)], default=None)
        self.next_sequence = FIRST_SEQUENCE if used is None else used + 1 + recovery.SKIPPED
        self._runs = Runs()
        for first, last in opened.runs:
            self._runs.add(first, last)
        self.durable = self._runs.runs[-1][1] if self._runs.runs else self.next_sequence - 1
        self.acknowledged = (self._runs.runs[0][0] if self._runs.runs else self.next_sequence) - 1
        self.arrived = asyncio.Event()
        self.emptied = asyncio.Event()
        self.observe_sync: Callable[[float], None] = lambda _seconds: None
        self._segment_bytes = segment_bytes
        self._disk = disk
        self._lock = opened.lock
        self._changing = threading.Lock()
        self._descriptor = -1
        self._tail: deque[tuple[int, bytes]] = deque()
        self._tail_after = self.durable
        self._tail_bytes = 0
        self._loaded: tuple[Path, int, list[tuple[int, bytes]]] | None = None
        self._group = _Group()
        self._waiting_bytes = 0
        self._committing: list[bytes] = []
        self._wanted = 1
        self._grouped = asyncio.Event()
        self._thread = Worker("journal")
        self._reminder = Reminder()
        self._bytes = self.size
        if not self.depth:
            self.emptied.set()

    @property
    def size(self) -> int:
        """Bytes on disk, without the reserve."""
        return sum(segment.size for segment in self._segments) + self.set_aside_bytes

    @property
    def set_aside(self) -> int:
        """How many files with damage in them Kafka has as far as they can be read; they wait for a person."""
        return len(self._set_aside)

    @property
    def set_aside_bytes(self) -> int:
        """How long these files are."""
        return sum(size for _, size in self._set_aside)

    @property
    def depth(self) -> int:
        """Records that Kafka has not acknowledged."""
        return self._runs.count

    @property
    def is_full(self) -> bool:
        """At its limit: what comes now is refused."""
        return self._bytes + self._waiting_bytes >= self.bytes_max or self._waiting_bytes >= WAITING_BYTES_MAX

    def append(self, payload: bytes, told: Told) -> None:
        """Join the next group commit; `told` is called after it.

        Raises JournalFullError at once when the journal is at its limit. Order of calls is order of sequences.
        """
        if len(payload) > segments.PAYLOAD_BYTES_MAX:
            raise ValueError("a payload that is too long for a record")  # read back it would be damage
        if self.is_full:
            raise JournalFullError
        self._group.payloads.append(payload)
        self._group.told.append(told)
        self._waiting_bytes += len(payload)
        if len(self._group.payloads) >= self._wanted:
            self._grouped.set()

    def oldest_waiting(self) -> bytes | None:
        """The payload of the first record that is not durable yet; null when all are."""
        return next(iter(self._committing or self._group.payloads), None)

    async def run(self) -> None:
        """Commit group after group until cancelled; what waits then is committed before it ends."""
        work = asyncio.create_task(self._try_disk())
        try:
            while True:
                await asyncio.shield(work)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._grouped.wait(), PROBE_S if self.is_failing else None)
                work = asyncio.create_task(self._commit_waiting() if self._group.payloads else self._try_disk())
        finally:
            await work
            await self._commit_waiting()

    async def _try_disk(self) -> None:
        """Whether the disk would take something; begins the first segment, too."""
        try:
            await self._thread.run(partial(self._make_ready, self.next_sequence))
        except OSError:
            self.failures += not self.is_failing
            self.is_failing = True
        else:
            self.is_failing = False

    async def _commit_waiting(self) -> None:
        while self._group.payloads:
            group = self._group
            self._group = _Group(group.payloads[GROUP_RECORDS_MAX:], group.told[GROUP_RECORDS_MAX:])
            self._grouped.clear()
            await self._commit(group.payloads[:GROUP_RECORDS_MAX], group.told[:GROUP_RECORDS_MAX])
            await self._gather(len(group.payloads))

    async def _gather(self, told: int) -> None:
        """After a group of which so many are told: wait for as many again, beside those who wait already."""
        self._wanted = told + len(self._group.payloads)
        if self._wanted < GROUP_RECORDS_MAX:
            self._grouped.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(GATHER_S_MAX, told * GATHER_RECORD_S)):
                    await self._grouped.wait()
        self._wanted = 1
        if self._group.payloads:
            self._grouped.set()

    async def _commit(self, payloads: list[bytes], told: list[Told]) -> None:
        loop = asyncio.get_running_loop()
        first = self.next_sequence
        self._committing = payloads
        # Never again for another record, whatever becomes of this group: a sequence names one record.
        self.next_sequence += len(payloads)
        began = loop.time()
        try:
            await self._thread.run(partial(self._write, first, payloads))
        except OSError:
            self.failures += 1
            self.is_failing = True
            loop.call_soon(_tell, told, itertools.repeat(None))
            return
        finally:
            self._committing = []
            self._waiting_bytes -= sum(map(len, payloads))
        self.is_failing = False
        self.observe_sync(loop.time() - began)
        self.durable = first + len(payloads) - 1
        self._runs.add(first, self.durable)
        self._remember(first, payloads)
        self._bytes = self.size
        self.arrived.set()
        self.emptied.clear()
        # Not before the next group is on its way to the disk: answering takes about as long.
        loop.call_soon(_tell, told, itertools.count(first))

    def _remember(self, first: int, payloads: list[bytes]) -> None:
        self._tail.extend(enumerate(payloads, first))
        self._tail_bytes += sum(map(len, payloads))
        while self._tail_bytes > TAIL_BYTES_MAX:
            self._tail_after, payload = self._tail.popleft()
            self._tail_bytes -= len(payload)

    def _write(self, first: int, payloads: list[bytes]) -> None:
        """In the journal's thread: the group to the active segment, or once more to a new one."""
        try:
            self._make_ready(first)
            self._write_group(first, payloads)
        except OSError as error:
            self.failures += 1
            if self._reminder.is_due():
                told = {"error": type(error).__name__, "why": error.strerror, "failures": self.failures}
                log.warning("the journal's disk failed; once more, to a new file", **told)
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                self._disk.unlink(self.folder / "reserve")
            self._begin_segment(first)
            self._write_group(first, payloads)

    def _make_ready(self, first: int) -> None:
        """In the journal's thread: the reserve is there, and a segment that may be written to.

        The reserve is looked for before each group, by its name: where somebody took the folder away, what is written
        to a descriptor that is still open would be nowhere.
        """
        keep_reserve(self.folder / "reserve", RESERVE_BYTES, self._disk)
        if self._descriptor < 0 or self._segments[-1].size >= self._segment_bytes:
            self._begin_segment(first)

    def _write_group(self, first: int, payloads: list[bytes]) -> None:
        active = self._segments[-1]
        salt = segments.salt_of(self.instance, active.first)
        data = b"".join(segments.encode(number, one, salt) for number, one in enumerate(payloads, first))
        try:
            self._disk.write(self._descriptor, data)
            self._disk.sync(self._descriptor)
        except OSError:
            self._close_active()
            with contextlib.suppress(OSError):  # nobody needs what was written, and it may lie where the reserve was
                self._disk.truncate(active.path, active.size)
            raise
        active.size += len(data)
        active.last = first + len(payloads) - 1

    def _close_active(self) -> None:
        """No write to this file any more; what was synced in it is durable, whatever closing it says."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            with contextlib.suppress(OSError):
                self._disk.close(descriptor)

    def _begin_segment(self, first: int) -> None:
        """Create the next file, durably, and make it the active one; empty ones before it go. Leaves no file behind."""
        self._close_active()
        path = self.folder / f"{first:020d}{SUFFIX}"
        while path.exists():  # the same first sequence again: its earlier file failed or is empty
            path = path.with_name(f"{path.stem}+{SUFFIX}")
        descriptor = self._disk.create(path)
        try:
            self._disk.write(descriptor, segments.header(self.instance))
            self._disk.sync(descriptor)
            self._disk.sync_folder(self.folder)
        except OSError:
            self._disk.close(descriptor)
            with contextlib.suppress(OSError):
                self._disk.unlink(path)
            raise
        self._descriptor = descriptor
        with self._changing:
            empty = [one for one in self._segments if one.last < one.first and not one.is_damaged]
            kept = [one for one in self._segments if one not in empty]
            self._segments = [*kept, Segment(path, first, first - 1, segments.HEADER_LENGTH)]
        for one in empty:
            with contextlib.suppress(OSError):
                self._disk.unlink(one.path)

    async def read(self, after: int, records_max: int) -> list[tuple[int, bytes]]:
        """Durable records after the sequence `after`, in order, from memory or one file; empty when there are none."""
        if after >= self._tail_after:
            # Nearly always none: the forwarder asks for what follows on what it has had acknowledged.
            passed = sum(1 for _ in itertools.takewhile(lambda one: one[0] <= after, self._tail))
            return list(itertools.islice(self._tail, passed, passed + records_max))
        return await asyncio.to_thread(self._read_files, after, records_max)

    def _read_files(self, after: int, records_max: int) -> list[tuple[int, bytes]]:
        for segment in [one for one in self._segments if one.last > after]:
            with contextlib.suppress(FileNotFoundError):  # Kafka has acknowledged it meanwhile
                records = self._records(segment)
                begin = bisect_right(records, after, key=itemgetter(0))
                upto = min(self.durable, segment.last)
                found = [one for one in records[begin : begin + records_max] if one[0] <= upto]
                if found:
                    return found
        return []

    def _records(self, segment: Segment) -> list[tuple[int, bytes]]:
        """What the segment holds, read once as long as nothing is added to it."""
        size = segment.size
        loaded = self._loaded
        if loaded is not None and loaded[:2] == (segment.path, size):
            return loaded[2]
        records: list[tuple[int, bytes]] = []
        lost = 0
        for one in segments.scan(read_whole(segment.path)[:size], segments.salt_of(self.instance, segment.first)):
            if isinstance(one, Damaged):
                lost += one.end - one.begin
            else:
                records.append((one.sequence, one.payload))
        if lost and not segment.is_damaged:
            segment.is_damaged = True
            self.damaged_bytes += lost
        self._loaded = (segment.path, size, records)
        return records

    def acknowledge(self, sequence: int) -> None:
        """Kafka has everything up to `sequence`: forget it, and delete the segments that hold nothing else."""
        while self._tail and self._tail[0][0] <= sequence:
            self._tail_bytes -= len(self._tail.popleft()[1])
        self._runs.cut(sequence)
        self.acknowledged = max(self.acknowledged, sequence)
        if not self.depth:
            self.emptied.set()
        gone: list[Segment] = []
        with self._changing:
            while len(self._segments) > 1 and self._segments[0].last <= self.acknowledged:
                gone.append(self._segments.pop(0))
        if gone:
            self._bytes = self.size
            self._thread.submit(partial(self._let_go, gone))

    def _let_go(self, gone: list[Segment]) -> None:
        """In the journal's thread: a file that cannot be deleted is sent again after the next start, nothing worse."""
        try:
            for segment in gone:
                if segment.is_damaged:
                    aside = segment.path.with_suffix(SET_ASIDE)
                    self._disk.rename(segment.path, aside)
                    self._set_aside.append((aside, segment.size))
                else:
                    self._disk.unlink(segment.path)
            self._disk.sync_folder(self.folder)
        except OSError:
            self.failures += 1
        self._bytes = self.size

    def close(self) -> None:
        """After `run` has ended: let a journal that Kafka has wholly acknowledged begin anew, so nothing is resent."""
        active = self._segments[-1] if self._segments else None
        if not self.depth and active is not None and active.last >= active.first:
            with contextlib.suppress(OSError):
                self._begin_segment(self.next_sequence)
                self.acknowledge(self.durable)
        self._close_active()
        self._thread.close()
        with contextlib.suppress(OSError):  # the lock is let go whatever close says
            os.close(self._lock)


def _tell(told: list[Told], outcomes: Iterable[int | None]) -> None:
    """Tell all of a group; a bug in one of those who are told goes to the log, and takes nothing from the others."""
    for one, outcome in zip(told, outcomes, strict=False):
        try:
            one(outcome)
        except Exception as error:  # noqa: BLE001 - as asyncio does with callbacks
            context = {"message": "who appended to the journal met a bug", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)


def open_journal(
    folder: Path, bytes_max: int, segment_bytes: int, disk: Disk | None = None
) -> tuple[Journal, Recovery]:
    """Open or make the journal in `folder`.

    Raises ConfigurationError when another process has it or it may not be used, AwayError when its disk fails. What
    fails once is tried once more, as a group is: a single failing call of the disk's must not end the service.
    """
    real = disk or RealDisk()
    try:
        try:
            opened = open_folder(folder, real)
        except OSError:
            opened = open_folder(folder, real)
        return Journal(folder, opened, bytes_max, segment_bytes, real), opened.recovery
    except OSError as error:
        message = f"DATA_DIR: the journal in {folder} cannot be used ({error.strerror}); make it writable, free space"
        raise of_disk(error, message) from None
