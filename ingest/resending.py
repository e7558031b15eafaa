"""Sending a journal's records to Kafka again, by the forwarder itself, without opening the door.

From a folder: with the names that the records have, so whatever Kafka has already is a repeat, which the processors
drop. The folder is locked and not changed: ingest may still be started on it. From an export: under a new instance
name, because the processors take a sequence for a repeat when they have seen a higher one of that instance. Then the
ids (`ce_id`) are the old ones, and the pairing drops what repeats a call that it still knows.
"""

import asyncio
import itertools
import json
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from events.metrics import Metrics
from events.progress import Progress
from events.settings import ConfigurationError
from ingest import contents, segments
from ingest.contents import Contents
from ingest.forwarder import Clock, Forwarder
from ingest.settings import IngestSettings

PATIENCE_S: Final = 60.0
"""How long Kafka may take nothing before the command gives up."""
LOOK_S: Final = 0.2

Records = Iterator[tuple[int, bytes]]


class Resending:
    """Records in ascending order of sequences, as the forwarder reads them from a journal."""

    def __init__(self, instance: str, records: Records) -> None:
        """Nothing is read before it is asked for."""
        self.instance = instance
        self.acknowledged = -1
        self.sent = 0
        self.arrived = asyncio.Event()
        self.emptied = asyncio.Event()
        self._records = records
        self._window: list[tuple[int, bytes]] = []
        self._fill(1)

    @property
    def depth(self) -> int:
        """How many records are read and not acknowledged: 0 at the end only."""
        return len(self._window)

    def oldest_waiting(self) -> bytes | None:
        """All that waits is there to be read."""
        return None

    async def read(self, after: int, records_max: int) -> list[tuple[int, bytes]]:
        """The records after the sequence `after`, at most so many."""
        self._fill(records_max)
        return [one for one in self._window if one[0] > after][:records_max]

    def _fill(self, records_max: int) -> None:
        self._window += itertools.islice(self._records, max(0, records_max - len(self._window)))
        if not self._window:
            self.emptied.set()

    def acknowledge(self, sequence: int) -> None:
        """Kafka has everything up to `sequence`."""
        waiting = [one for one in self._window if one[0] > sequence]
        self.sent += len(self._window) - len(waiting)
        self._window = waiting
        self.acknowledged = max(self.acknowledged, sequence)
        self._fill(1)


def of_folder(found: Contents) -> Records:
    """The records of every file; a group that was written again comes once, from the later file."""
    last = -1
    for file in found.files():
        for one in file.records():
            if one.sequence > last and (file.following is None or one.sequence < file.following):
                last = one.sequence
                yield one.sequence, one.payload


def of_export(path: Path) -> Records:
    """The records of an export, numbered anew; raises ConfigurationError naming a line that is none of an export."""
    numbers = itertools.count(1)
    for number, line in enumerate(_lines(path), 1):
        try:
            payload = contents.payload_of(json.loads(line))
        except ValueError as error:
            message = f"{path}, line {number}: {error}; give a file that `journal export` wrote"
            raise ConfigurationError(message) from None
        if payload is not None:
            yield next(numbers), payload


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8") as file:
            yield from file
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise ConfigurationError(f"{path} cannot be read ({what})") from None


def count(records: Iterable[tuple[int, bytes]]) -> int:
    """How many there are."""
    return sum(1 for _ in records)


def new_instance() -> str:
    """A name that no ingest has used."""
    return secrets.token_hex(segments.INSTANCE_LENGTH // 2)


async def resend(settings: IngestSettings, resending: Resending, total: int, clock: Clock) -> bool:
    """Send all of it, with progress; false when Kafka took nothing for `PATIENCE_S`."""
    progress = Progress("resend")
    progress.total = total
    forwarder = Forwarder(settings, resending, Metrics("ingest"), clock, tick_partitions=0)
    forwarding = asyncio.create_task(forwarder.run())
    loop = asyncio.get_running_loop()
    moved_at = loop.time()
    try:
        async with progress.shown():
            while not resending.emptied.is_set() and loop.time() - moved_at < PATIENCE_S:
                await asyncio.wait({forwarding}, timeout=LOOK_S)
                if forwarding.done():
                    forwarding.result()
                if resending.sent != progress.done:
                    progress.done, moved_at = resending.sent, loop.time()
            progress.done = resending.sent
    finally:
        forwarding.cancel()
        await asyncio.wait({forwarding})
    return resending.emptied.is_set()
