"""The journal: durable before it says so, found again after any damage, never silent about what it lost."""

import asyncio
import contextlib
import errno
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog
from pydantic import ValidationError

from events.away import AwayError
from events.serving import ensure_data_dir
from events.settings import ConfigurationError
from ingest import segments
from ingest.disk import Disk, RealDisk
from ingest.journal import FIRST_SEQUENCE, Journal, JournalFullError, open_journal
from ingest.recovery import SKIPPED
from ingest.segments import PAYLOAD_BYTES_MAX, Found
from ingest.settings import IngestSettings
from tests.crash_states import check
from tests.damage import INSTANCE, cuts, flips, segment
from tests.journals import RefusedError, appended
from tests.waiting import eventually

MEGABYTE = 1024 * 1024


@asynccontextmanager
async def running(
    folder: Path, bytes_max: int = 64 * MEGABYTE, segment_bytes: int = 64 * 1024, disk: Disk | None = None
) -> AsyncIterator[Journal]:
    """An open journal that commits."""
    journal, _ = open_journal(folder, bytes_max, segment_bytes, disk)
    task = asyncio.create_task(journal.run())
    try:
        yield journal
    finally:
        task.cancel()
        await asyncio.wait({task})
        journal.close()


async def everything(journal: Journal) -> list[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    while more := await journal.read(found[-1][0] if found else journal.acknowledged, 100):
        found += more
    return found


async def test_a_record_is_on_disk_before_its_future_is_done(tmp_path: Path) -> None:
    async with running(tmp_path) as journal:
        sequence = await appended(journal, b"one")
        (path,) = tmp_path.glob("*.segment")
        salt = segments.salt_of(journal.instance, FIRST_SEQUENCE)
        assert list(segments.scan(path.read_bytes(), salt)) == [Found(sequence, b"one", path.stat().st_size)]


async def test_concurrent_appends_share_a_sync_and_keep_their_order(tmp_path: Path) -> None:
    syncs = 0

    class Counting(RealDisk):
        def sync(self, descriptor: int) -> None:
            nonlocal syncs
            syncs += 1
            super().sync(descriptor)

    async with running(tmp_path, disk=Counting()) as journal:
        syncs = 0
        sequences = await asyncio.gather(*(appended(journal, b"%d" % n) for n in range(500)))
        assert syncs < 10
        assert sequences == sorted(sequences)
        assert await everything(journal) == [(sequence, b"%d" % n) for n, sequence in enumerate(sequences)]


async def test_two_crowds_that_take_turns_become_one_that_shares_each_sync(tmp_path: Path) -> None:
    rounds, crowd, syncs = 20, 25, 0

    class Slow(RealDisk):
        def sync(self, descriptor: int) -> None:
            nonlocal syncs
            syncs += 1
            threading.Event().wait(0.005)
            super().sync(descriptor)

    async def come_again_and_again(after_s: float) -> None:
        await asyncio.sleep(after_s)
        for _ in range(rounds):
            await appended(journal, b"x")

    async with running(tmp_path, disk=Slow()) as journal:
        await appended(journal, b"the file is there")
        syncs = 0
        await asyncio.gather(*(come_again_and_again(after_s) for after_s in (0.0, 0.002) for _ in range(crowd)))
        assert syncs < 1.5 * rounds, "one after the other they would take two for each round"


async def test_a_restart_finds_what_was_not_acknowledged_and_goes_on_counting(tmp_path: Path) -> None:
    async with running(tmp_path) as journal:
        sequences = [await appended(journal, b"x" * 1000) for _ in range(300)]
        journal.acknowledge(sequences[149])
        instance, files = journal.instance, len(list(tmp_path.glob("*.segment")))
        assert files < 6, "acknowledged segments are gone"
    async with running(tmp_path) as again:
        assert again.instance == instance
        found = [sequence for sequence, _ in await everything(again)]
        assert found == list(range(found[0], sequences[-1] + 1))
        assert found[0] <= sequences[150]
        assert await appended(again, b"y") > sequences[-1] + 1, (
            "what a lost segment could have held is never used again"
        )


async def test_after_a_clean_end_with_everything_acknowledged_nothing_is_sent_again(tmp_path: Path) -> None:
    async with running(tmp_path) as journal:
        last = [await appended(journal, b"x") for _ in range(10)][-1]
        journal.acknowledge(last)
    async with running(tmp_path) as again:
        assert again.depth == 0
        assert await appended(again, b"y") == last + 1 + SKIPPED


async def test_what_is_too_much_for_memory_is_read_from_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.journal.TAIL_BYTES_MAX", 10_000)
    async with running(tmp_path) as journal:
        await asyncio.gather(*(appended(journal, b"%05d" % n + b"." * 500) for n in range(1000)))
        assert [payload[:5] for _, payload in await everything(journal)] == [b"%05d" % n for n in range(1000)]


async def test_at_its_limit_it_refuses_and_takes_again_once_kafka_has_some(tmp_path: Path) -> None:
    async with running(tmp_path, bytes_max=200_000) as journal:
        accepted = []
        while not journal.is_full:
            accepted.append(await appended(journal, b"x" * 1000))
        with pytest.raises(JournalFullError):
            appended(journal, b"too much")
        assert journal.size <= 200_000 + 2_000
        journal.acknowledge(accepted[-1])
        await appended(journal, b"fits again")


class Failing(RealDisk):
    """A disk that fails when told to."""

    def __init__(self) -> None:
        self.fails: Callable[[], bool] = lambda: False

    def sync(self, descriptor: int) -> None:
        if self.fails():
            raise OSError(errno.EIO, "Input/output error")
        super().sync(descriptor)


async def test_a_failed_sync_is_tried_once_more_in_a_new_file_and_nobody_notices(tmp_path: Path) -> None:
    disk = Failing()
    async with running(tmp_path, disk=disk) as journal:
        await appended(journal, b"before")
        failures = iter([True])
        disk.fails = lambda: next(failures, False)
        with structlog.testing.capture_logs() as logs:
            await appended(journal, b"during")
        assert [(one["log_level"], one["error"]) for one in logs] == [("warning", "OSError")]
        assert journal.failures == 1
        assert len(list(tmp_path.glob("*.segment"))) == 2
        assert [payload for _, payload in await everything(journal)] == [b"before", b"during"]


async def test_a_disk_that_fails_once_at_the_start_does_not_end_the_service_and_one_that_stays_broken_does(
    tmp_path: Path,
) -> None:
    disk, failures = Failing(), iter([True])
    disk.fails = lambda: next(failures, False)
    async with running(tmp_path / "once", disk=disk) as journal:
        await appended(journal, b"taken")
    disk.fails = lambda: True
    with pytest.raises(AwayError, match=r"cannot be used \(Input/output error\)"):  # whoever watches starts it again
        open_journal(tmp_path / "broken", MEGABYTE, MEGABYTE, disk)
    (tmp_path / "no folder").touch()
    with pytest.raises(ConfigurationError, match=r"cannot be used \(File exists\)"):
        open_journal(tmp_path / "no folder", MEGABYTE, MEGABYTE)


@pytest.mark.parametrize(
    ("number", "ends_with"),
    [(errno.ENOSPC, None), (errno.EDQUOT, None), (errno.EIO, AwayError), (errno.EACCES, ConfigurationError)],
)
def test_a_full_disk_keeps_no_service_from_its_folder_and_a_failing_one_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, ends_with: type[Exception] | None
) -> None:
    def touch(_: Path) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "touch", touch)
    with contextlib.nullcontext() if ends_with is None else pytest.raises(ends_with, match="DATA_DIR"):
        ensure_data_dir(IngestSettings(data_dir=tmp_path))


async def test_a_file_whose_beginning_the_disk_cannot_read_costs_nothing_of_the_others(tmp_path: Path) -> None:
    async with running(tmp_path) as journal:
        await appended(journal, b"taken")
        instance = journal.instance
    (tmp_path / f"{0:020d}.segment").symlink_to("/proc/self/mem")  # the kernel answers EIO at its beginning
    with pytest.raises(OSError, match="Input/output error"):
        (tmp_path / f"{0:020d}.segment").read_bytes()
    async with running(tmp_path) as journal:
        assert journal.instance == instance
        assert [payload for _, payload in await everything(journal)] == [b"taken"]


async def test_a_disk_that_stays_broken_refuses_and_a_sequence_is_never_used_twice(tmp_path: Path) -> None:
    disk = Failing()
    async with running(tmp_path, disk=disk) as journal:
        first = await appended(journal, b"before")
        disk.fails = lambda: True
        with pytest.raises(RefusedError):
            await appended(journal, b"refused")
        disk.fails = lambda: False
        after = await appended(journal, b"after")
        assert after > first + 1
        assert [payload for _, payload in await everything(journal)] == [b"before", b"after"]
    async with running(tmp_path) as again:
        found = [payload for _, payload in await everything(again)]
        assert found in ([b"before", b"after"], [b"before", b"refused", b"after"]), "what was refused may be there"


async def test_a_disk_that_fails_with_every_group_is_counted_each_time_and_told_of_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it stays broken or heals in between: a log of a line per group would fill the next disk."""
    disk = Failing()
    async with running(tmp_path, disk=disk) as journal:

        async def failing() -> None:
            failures = iter([True])
            disk.fails = lambda: next(failures, False)
            await appended(journal, b"tried twice")

        await appended(journal, b"before")
        with structlog.testing.capture_logs() as logs:
            for _ in range(5):
                await failing()
                await appended(journal, b"taken at once")
            assert (len(logs), journal.failures) == (1, 5)
            monkeypatch.setattr("events.away.TOLD_EVERY_S", 0)
            await failing()
        assert [one["failures"] for one in logs] == [1, 6]


async def test_what_would_go_to_a_folder_that_was_taken_away_is_refused(tmp_path: Path) -> None:
    """The descriptor of the active segment is open still: what is written to it can be read by nobody."""
    folder = tmp_path / "journal"
    async with running(folder) as journal:
        await appended(journal, b"before")
        away = folder.rename(tmp_path / "away")
        with pytest.raises(RefusedError):
            await appended(journal, b"into nowhere")
        away.rename(folder)
        await appended(journal, b"after")
        assert [payload for _, payload in await everything(journal)] == [b"before", b"after"]


async def test_a_payload_longer_than_a_record_may_be_is_not_taken(tmp_path: Path) -> None:
    """Read back it would be damage. No body that the settings let in makes one so long."""
    with pytest.raises(ValidationError):
        IngestSettings(ingest_body_bytes_max=PAYLOAD_BYTES_MAX)
    async with running(tmp_path) as journal:
        with pytest.raises(ValueError, match="payload"):
            await appended(journal, b"x" * (PAYLOAD_BYTES_MAX + 1))
        last = await appended(journal, b"x" * PAYLOAD_BYTES_MAX)
    async with running(tmp_path) as again:
        assert [(sequence, len(payload)) for sequence, payload in await everything(again)] == [
            (last, PAYLOAD_BYTES_MAX)
        ]


async def test_a_second_process_is_told_so(tmp_path: Path) -> None:
    async with running(tmp_path):
        with pytest.raises(ConfigurationError, match="another ingest process"):
            open_journal(tmp_path, MEGABYTE, MEGABYTE)


async def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="DATA_DIR: the journal in"):
        open_journal(tmp_path / "file" / "journal", MEGABYTE, MEGABYTE)


def test_every_truncation_leaves_exactly_the_records_that_are_whole_and_reports_the_rest() -> None:
    whole = segment(30, 1)
    assert not any(cuts(whole, range(len(whole.data) + 1)))


def test_every_flipped_bit_is_found_and_every_undamaged_record_kept() -> None:
    """A small segment; ``python -m tests.damage`` does it with 100 records."""
    whole = segment(25, 2)
    assert not any(flips(whole, range(len(whole.data))))


def test_a_record_inside_a_body_is_never_taken_for_one() -> None:
    salt = segments.salt_of(INSTANCE, 1)
    data = segments.header(INSTANCE) + segments.encode(1, b"one", salt)
    forged = segments.encode(99, b"forged", segments.salt_of("guessed" * 4, 1))
    data += segments.encode(2, forged, salt)
    torn = data[:-1]
    assert [one.sequence for one in segments.scan(torn, salt) if isinstance(one, Found)] == [1]


async def test_a_torn_tail_is_cut_and_damage_in_the_middle_is_reported(tmp_path: Path) -> None:
    async with running(tmp_path) as journal:
        for number in range(5):
            await appended(journal, b"record %d" % number)
    path = max(tmp_path.glob("*.segment"), key=lambda one: one.stat().st_size)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data) + b"\xf3\xc3torn")
    journal, recovery = open_journal(tmp_path / ".." / tmp_path.name, MEGABYTE, MEGABYTE)
    assert (recovery.records, recovery.torn_bytes) == (4, 6)
    assert recovery.damaged_bytes > 0
    journal.close()


async def test_a_hundred_starts_without_a_webhook_leave_one_file(tmp_path: Path) -> None:
    for _ in range(100):
        async with running(tmp_path) as journal:
            await eventually(lambda: is_begun(journal))
    assert len(list(tmp_path.glob("*.segment"))) == 1


async def is_begun(journal: Journal) -> bool:
    return any(journal.folder.glob("*.segment"))


async def test_a_journal_whose_files_were_deleted_begins_under_a_new_name(tmp_path: Path) -> None:
    async with running(tmp_path) as journal:
        await appended(journal, b"x")
        instance = journal.instance
    for path in tmp_path.glob("*.segment"):
        path.unlink()
    async with running(tmp_path) as again:
        assert again.instance != instance, "sequences begin anew: under the old name they would be repeats"


async def test_a_damaged_name_in_one_place_costs_no_record(tmp_path: Path) -> None:
    async with running(tmp_path) as journal:
        await appended(journal, b"x")
        instance = journal.instance
    for path in (tmp_path / "instance", next(tmp_path.glob("*.segment"))):
        data = bytearray(path.read_bytes())
        data[12] = ord("0") if data[12] != ord("0") else ord("1")
        whole, _ = path.read_bytes(), path.write_bytes(data)
        async with running(tmp_path) as again:
            assert again.instance == instance
            assert [payload for _, payload in await everything(again)] == [b"x"]
        path.write_bytes(whole)


async def test_a_journal_of_a_newer_format_is_refused_and_one_wrong_header_is_damage(tmp_path: Path) -> None:
    async with running(tmp_path) as journal:
        await appended(journal, b"x")
    newer = segments.FILE_KIND + b"%d" % (segments.FILE_VERSION + 1)
    for path, is_refused in ((tmp_path / "instance", False), (next(tmp_path.glob("*.segment")), True)):
        path.write_bytes(newer + path.read_bytes()[len(newer) :])
        if not is_refused:
            async with running(tmp_path) as again:
                assert [payload for _, payload in await everything(again)] == [b"x"]
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ConfigurationError, match="has format 2, this release knows up to 1; start the newer release"):
        open_journal(tmp_path, MEGABYTE, 64 * 1024)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


async def test_a_segment_with_damage_is_set_aside_not_deleted(tmp_path: Path) -> None:
    async with running(tmp_path) as journal:
        for number in range(5):
            await appended(journal, b"record %d" % number)
    (path,) = tmp_path.glob("*.segment")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    async with running(tmp_path) as again:
        assert again.depth == 4
        await appended(again, b"more")
        again.acknowledge(again.durable)
        await eventually(lambda: has_set_aside(again))
        assert path.with_suffix(".damaged").read_bytes() == bytes(data)
        assert again.depth == 0


async def test_damage_that_comes_while_ingest_runs_is_counted_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.journal.TAIL_BYTES_MAX", 0)
    async with running(tmp_path) as journal:
        for number in range(5):
            await appended(journal, b"record %d" % number)
        (path,) = tmp_path.glob("*.segment")
        data = bytearray(path.read_bytes())
        length = segments.FRAME_LENGTH + len(b"record 0")
        for number in (1, 3):
            data[segments.HEADER_LENGTH + number * length] ^= 0xFF
        path.write_bytes(data)
        assert len(await everything(journal)) == 3
        assert journal.damaged_bytes == 2 * length


async def has_set_aside(journal: Journal) -> bool:
    return journal.set_aside == 1


class Full(RealDisk):
    """A disk with so many bytes left; `room` grows when somebody deletes something elsewhere."""

    def __init__(self) -> None:
        self.room = 10 * MEGABYTE
        self.reserved = 0

    def take(self, length: int) -> None:
        if length > self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room -= length

    def write(self, descriptor: int, data: bytes) -> None:
        self.take(len(data))
        super().write(descriptor, data)

    def reserve(self, descriptor: int, length: int) -> None:
        self.take(length)
        super().reserve(descriptor, length)
        self.reserved = length

    def unlink(self, path: Path) -> None:
        super().unlink(path)
        if path.name == "reserve":
            self.room, self.reserved = self.room + self.reserved, 0


async def test_a_disk_that_fills_up_refuses_nothing_that_was_begun_and_takes_again_by_itself(tmp_path: Path) -> None:
    disk = Full()
    async with running(tmp_path, disk=disk) as journal:
        await appended(journal, b"before")
        for _ in range(3):
            disk.room = 100
            await appended(journal, b"from the reserve" * 20)
            with pytest.raises(RefusedError):
                await appended(journal, b"no more")
            assert journal.is_failing
            disk.room = 10 * MEGABYTE
            await eventually(lambda: is_well(journal))
            await appended(journal, b"after")
        assert len(list(tmp_path.glob("*.segment"))) <= 7


class Shared(RealDisk):
    """A disk of `capacity` bytes: what does not fit is written as far as it does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.capacity = 64 * MEGABYTE

    @property
    def used(self) -> int:
        return sum(path.stat().st_size for path in self.folder.iterdir())

    def write(self, descriptor: int, data: bytes) -> None:
        room = max(0, self.capacity - self.used)
        super().write(descriptor, data[:room])
        if len(data) > room:
            raise OSError(errno.ENOSPC, "No space left on device")

    def reserve(self, descriptor: int, length: int) -> None:
        if self.used + length > self.capacity:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().reserve(descriptor, length)


async def test_what_was_refused_leaves_the_room_in_which_the_reserve_was(tmp_path: Path) -> None:
    """Others fill the disk, and a group is longer than the reserve: both of its writes fail."""
    disk = Shared(tmp_path)
    async with running(tmp_path, disk=disk) as journal:
        last = await appended(journal, b"before")
        disk.capacity = disk.used + 1_000
        appending = [appended(journal, b"x" * (MEGABYTE // 2)) for _ in range(3)]
        assert {type(one) for one in await asyncio.gather(*appending, return_exceptions=True)} == {RefusedError}
        journal.acknowledge(last)
        await eventually(lambda: is_well(journal))
        await appended(journal, b"after")
        assert [payload for _, payload in await everything(journal)] == [b"after"]


async def is_well(journal: Journal) -> bool:
    return not journal.is_failing


async def test_while_the_disk_refuses_no_files_pile_up(tmp_path: Path) -> None:
    disk = Failing()
    async with running(tmp_path, disk=disk) as journal:
        await appended(journal, b"before")
        disk.fails = lambda: True
        for _ in range(50):
            with pytest.raises(RefusedError):
                await appended(journal, b"refused")
        assert len(list(tmp_path.glob("*.segment"))) == 1


async def test_every_state_that_a_power_cut_can_leave_recovers_to_a_legal_one(tmp_path: Path) -> None:
    """A sample; ``python -m tests.crash_states`` looks at more than 100,000."""
    looked, problems = await check(8, 1, 2_000, tmp_path)
    assert looked >= 1_500
    assert not problems
