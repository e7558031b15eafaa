"""A batch of the session topic as rows: one place for the projector and for a rebuild. Pure.

1. read each record; what cannot be read is told, and passed over; 2. of each session the highest revision holds;
3. each partition's step, from where it stood to after its last record, with the stream time of its last progress.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Final, Protocol

from events import session_values
from events.session_events import FeedProgress
from projections.call_log import Row, Told, folded, is_storable, row_of
from projections.forgetting import NOBODY, Forgotten


class Record(Protocol):
    """What is needed of a Kafka record."""

    @property
    def partition(self) -> int: ...  # noqa: D102 - as its name says

    @property
    def offset(self) -> int: ...  # noqa: D102

    @property
    def value(self) -> bytes | None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Position:
    """How far a partition is folded into the views, and up to when its feed was known then."""

    next_offset: int
    stream_time: datetime | None


NOTHING: Final = Position(0, None)
OUT_OF_RANGE: Final = "OutOfRange"


@dataclass(frozen=True, slots=True)
class Advance:
    """A partition's step within one transaction: from the offset expected in the database to the next one."""

    partition: int
    expected: int
    position: Position


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A record that is no session event, or one that no database takes, and what kind of error says so."""

    partition: int
    offset: int
    error: str


@dataclass(frozen=True, slots=True)
class Fold:
    """What a batch says: the call events, each session's last one, progress and step per partition."""

    told: Sequence[Told]
    last: Sequence[Told]
    progress: Mapping[int, FeedProgress]
    unreadable: Sequence[Unreadable]
    steps: Sequence[Advance]


@dataclass(frozen=True, slots=True)
class Rows:
    """What is written for a batch, one row per key."""

    calls: Sequence[Row]
    revisions: Sequence[Row]
    agents: Sequence[Row]


class Folding:
    """A fold that is handed its records little by little."""

    def __init__(self, positions: Mapping[int, Position], forgotten: Forgotten = NOBODY) -> None:
        """Nothing is folded yet."""
        self._positions = positions
        self._forgotten = forgotten
        self._told: list[Told] = []
        self._progress: dict[int, FeedProgress] = {}
        self._unreadable: list[Unreadable] = []
        self._next_offsets: dict[int, int] = {}
        self._stream_times = {partition: at.stream_time for partition, at in positions.items()}

    def take(self, records: Iterable[Record]) -> None:
        """Read the next records, which lie at or after the positions, in order of each partition's offsets."""
        for record in records:
            partition, value = record.partition, record.value or b""
            self._next_offsets[partition] = record.offset + 1
            try:
                event = session_values.read(value)
            except ValueError as error:
                self._unreadable.append(Unreadable(partition, record.offset, type(error).__name__))
                continue
            if isinstance(event, FeedProgress):
                self._progress[partition] = event
                self._stream_times[partition] = event.stream_time
                continue
            told = Told(partition, event, value, self._stream_times.get(partition))
            if is_storable(told):
                self._told.append(told)
            else:
                self._unreadable.append(Unreadable(partition, record.offset, OUT_OF_RANGE))

    def fold(self) -> Fold:
        """What all of them say."""
        told = [self._forgotten.redacted(one) for one in self._told] if self._forgotten.entries else self._told
        steps = [self._step(partition) for partition in sorted(self._next_offsets)]
        return Fold(told, list(folded(told).values()), self._progress, self._unreadable, steps)

    def _step(self, partition: int) -> Advance:
        position = Position(self._next_offsets[partition], self._stream_times.get(partition))
        return Advance(partition, self._positions.get(partition, NOTHING).next_offset, position)


def fold(records: Iterable[Record], positions: Mapping[int, Position], forgotten: Forgotten = NOBODY) -> Fold:
    """Fold the records, which lie at or after these positions, in order of each partition's offsets."""
    folding = Folding(positions, forgotten)
    folding.take(records)
    return folding.fold()


def rows_of(batch: Fold, zones: Mapping[str, tzinfo], default_zone: tzinfo) -> Rows:
    """The rows of a batch; `zones` gives each PBX its local day."""
    calls = [row_of(one, zones, default_zone) for one in batch.last]
    return Rows(calls, revision_rows(batch.told), agent_rows(calls))


def revision_rows(told: Iterable[Told]) -> list[Row]:
    """One row per revision, as it was told first."""
    unique: dict[tuple[str, int], Row] = {}
    for one in told:
        key = session_id, revision = one.key
        if key not in unique:
            unique[key] = {
                "session_id": session_id,
                "revision": revision,
                "known_at": one.known_at,
                "event": one.value.decode(),
            }
    return list(unique.values())


def agent_rows(rows: Iterable[Row]) -> list[Row]:
    """One row per agent: of several calls in the batch the newest counts, and the newest that names an e-mail."""
    found: dict[tuple[str, str], Row] = {}
    ordered = sorted(rows, key=lambda row: (row["first_received_at"], row["session_id"]))
    for row in (row for row in ordered if row["extension"] is not None):
        key = row["pbx"], row["extension"]
        agent = found.setdefault(
            key, {"pbx": key[0], "extension": key[1], "email": None, "email_at": None, "email_call": None}
        )
        agent |= {"last_at": row["first_received_at"], "last_call": row["session_id"], "partition": row["partition"]}
        if row["email"] is not None:
            agent |= {
                "email": row["email"],
                "email_at": row["first_received_at"],
                "email_call": row["session_id"],
            }
    return list(found.values())
