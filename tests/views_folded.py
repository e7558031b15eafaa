"""What the views must be: the fold of the session topic, by the pure core in one go; and what they are, row by row."""

from collections.abc import Sequence
from itertools import starmap
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import select

from processors.task import InputRecord
from projections.folding import fold, rows_of
from projections.store import Store
from projections.tables import agents, calls, offsets, revisions
from tests.builders import Log, end, run, start

TABLES = (calls, revisions, agents, offsets)
Rows = dict[str, list[tuple[Any, ...]]]


class At(NamedTuple):
    """A record as the topic gives it back."""

    partition: int
    offset: int
    value: bytes | None


def session_records(count: int, partition: int = 1) -> list[InputRecord]:
    """The session events of so many calls, as records for the session topic."""
    log = Log(instance=f"ingest-{partition}")  # other sessions on each partition
    for number in range(count):
        log.webhook(number * 5 + 1, start(str(200 + number % 9), f"+4122555{number:04}", t=number * 5))
        log.webhook(number * 5 + 4, end(str(200 + number % 9), f"+4122555{number:04}", t=number * 5 + 3, duration=2))
    out = [one for batch in run(log.records).batches for one in batch.session_events]
    return [InputRecord(partition, number, one.key, one.value, one.headers) for number, one in enumerate(out)]


def folded_rows(records: Sequence[InputRecord], topic: str) -> Rows:
    """Every table's rows after these records; each partition's offsets begin at 0 and have no holes."""
    ends: dict[int, int] = {}
    placed: list[At] = []
    for record in records:
        placed.append(At(record.partition, ends.get(record.partition, 0), record.value))
        ends[record.partition] = placed[-1].offset + 1
    batch = fold(placed, {})
    rows = rows_of(batch, {}, ZoneInfo("UTC"))
    steps = [(topic, one.partition, one.position.next_offset, one.position.stream_time) for one in batch.steps]
    found = {
        table.name: [tuple(row[column.name] for column in table.c) for row in these]
        for table, these in ((calls, rows.calls), (revisions, rows.revisions), (agents, rows.agents))
    }
    return {name: sorted(these, key=repr) for name, these in {**found, "offsets": steps}.items()}


async def stored_rows(store: Store) -> Rows:
    """Every table's rows as they are, at one position."""
    async with store.reading() as connection:
        return {
            table.name: sorted(map(tuple, (await connection.execute(select(table))).all()), key=repr)
            for table in TABLES
        }


def difference(seen: Rows, expected: Rows) -> list[str]:
    """The first rows that differ, for a message; empty when nothing does."""
    told: list[str] = []
    for name, rows in expected.items():
        lacking, extra = set(rows) - set(seen[name]), set(seen[name]) - set(rows)
        told += starmap("{}: {} {!r}".format, [(name, "lacks", one) for one in sorted(lacking, key=repr)[:2]])
        told += starmap("{}: {} {!r}".format, [(name, "has", one) for one in sorted(extra, key=repr)[:2]])
        if len(seen[name]) != len(rows):
            told.append(f"{name}: {len(seen[name])} rows instead of {len(rows)}")
    return told
