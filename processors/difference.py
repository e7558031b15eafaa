"""What differs between two sets of session events: the sessions row by row, and the events byte by byte. Pure.

A session is its highest revision. Of each set one entry per session is held (revision and the event's bytes, shared
where both sets say the same), never all events: memory grows with the sessions, about 1.5 kB for each.

With `common`, a partition is compared as far as both sets have come: up to the last feed progress that both have. It
is a mark at the same webhook in both, because live time follows from the webhooks alone and never from the rules.
"""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from events import session_events
from events.session_events import CallEvent, FeedProgress

Side = str
"""``a`` or ``b``."""


class UnreadableError(ValueError):
    """A record that is no session event: nothing can be said about its set."""

    def __init__(self, side: Side, partition: int, offset: int) -> None:
        """Which record it is."""
        super().__init__(f"partition {partition}, offset {offset} is not a session event")
        self.side = side


@dataclass(frozen=True, slots=True)
class Told:
    """A record of a session topic."""

    offset: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Why:
    """What led to a session's last revision. `causes`: (partition, offset, ce_id) of the raw records."""

    revision: int
    type: str
    reason: str
    causes: tuple[tuple[int, int, str], ...]


@dataclass(frozen=True, slots=True)
class Row:
    """A session that only one set has."""

    session_id: str
    pbx: str
    extension: str | None
    status: str
    why: Why


@dataclass(frozen=True, slots=True)
class Changed:
    """A session that both sets have, and not the same: its fields as (in A, in B), as JSON values."""

    session_id: str
    pbx: str
    extension: str | None
    fields: dict[str, tuple[Any, Any]]
    why_a: Why
    why_b: Why


@dataclass(frozen=True, slots=True)
class FirstDifference:
    """Where the values of a partition part: the event's number from 0, its offsets; a type is null where it ends."""

    number: int
    offset_a: int | None
    offset_b: int | None
    type_a: str | None
    type_b: str | None


@dataclass(slots=True)
class PartitionBytes:
    """How many events a partition has in each set, and where their values first differ (null: nowhere)."""

    partition: int
    events_a: int = 0
    events_b: int = 0
    first: FirstDifference | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """The answer. `reasons` counts the changed sessions by the reasons of their last revisions, (in A, in B)."""

    sessions_a: int
    sessions_b: int
    equal: int
    only_a: list[Row]
    only_b: list[Row]
    changed: list[Changed]
    reasons: Counter[tuple[str, str]]
    partitions: list[PartitionBytes]
    left_out: tuple[int, int] | None = None
    """How many events of A and of B lie beyond what both have; null unless asked for (`common`)."""

    @property
    def same_sessions(self) -> bool:
        """Whether every session is there in both sets and the same: the verdict."""
        return not (self.only_a or self.only_b or self.changed)

    @property
    def same_bytes(self) -> bool:
        """Whether every partition's event values are the same, in the same order, feed progress included."""
        return all(one.first is None for one in self.partitions)


@dataclass(slots=True)
class Fold:
    """The last revision of each session of one set: its number and its event's bytes."""

    side: Side
    sessions: dict[str, tuple[int, bytes]] = field(default_factory=dict)

    def take(self, event: CallEvent, value: bytes) -> None:
        """Fold an event in."""
        known = self.sessions.get(event.session_id)
        if known is None or event.revision > known[0]:
            self.sessions[event.session_id] = event.revision, value


@dataclass(slots=True)
class Held:
    """Events of one set's partition that wait until the other set is as far: groups, each ended by a feed progress."""

    live_us: int = -1
    groups: deque[tuple[int, list[tuple[CallEvent, bytes]]]] = field(default_factory=deque)
    group: list[tuple[CallEvent, bytes]] = field(default_factory=list)

    def take(self, event: CallEvent | FeedProgress, value: bytes) -> None:
        """Hold an event back."""
        if isinstance(event, FeedProgress):
            self.live_us = event.live_time_us
            self.groups.append((self.live_us, self.group))
            self.group = []
        else:
            self.group.append((event, value))

    def released(self, other_us: int) -> Iterator[tuple[CallEvent, bytes]]:
        """What the other set has come up to."""
        while self.groups and self.groups[0][0] <= other_us:
            yield from self.groups.popleft()[1]

    def dropped(self) -> int:
        """Let go of whole groups that nothing can release any more; returns how many call events they held."""
        count = sum(len(group) for _, group in self.groups)
        self.groups.clear()
        return count


class Comparison:
    """Takes both sets' records, partition by partition and in the order of the log; then tells the difference."""

    def __init__(self, *, common: bool = False) -> None:
        """`common`: only as far as both sets have come."""
        self._common = common
        self._folds = Fold("a"), Fold("b")
        self._held = Held(), Held()
        self._left_out = [0, 0]
        self._partitions: dict[int, PartitionBytes] = {}

    def take(self, partition: int, a: Sequence[Told], b: Sequence[Told]) -> None:
        """The next records of a partition: as many of both sets, until one has ended; at the end of both, none."""
        if partition not in self._partitions:
            self._partitions[partition] = PartitionBytes(partition)
        place = self._partitions[partition]
        for left, right in zip_longest(a, b):
            same = left is not None and right is not None and left.value == right.value
            type_a = self._fold(0, partition, left)
            # The same bytes are one object in both folds.
            type_b = self._fold(1, partition, Told(right.offset, left.value) if same and left and right else right)
            ended = left is None or right is None
            if not same and place.first is None and not (ended and self._common):
                offset_a, offset_b = (None if one is None else one.offset for one in (left, right))
                number = max(place.events_a, place.events_b)
                place.first = FirstDifference(number, offset_a, offset_b, type_a, type_b)
            place.events_a += left is not None
            place.events_b += right is not None
        if self._common:
            self._release(ended_a=not a, ended_b=not b)

    def _fold(self, side: int, partition: int, told: Told | None) -> str | None:
        if told is None:
            return None
        try:
            event = session_events.decode(told.value)
        except ValueError:
            raise UnreadableError(self._folds[side].side, partition, told.offset) from None
        if self._common:
            self._held[side].take(event, told.value)
        elif not isinstance(event, FeedProgress):
            self._folds[side].take(event, told.value)
        return event.type

    def _release(self, *, ended_a: bool, ended_b: bool) -> None:
        """Fold what both have come up to; what goes on where the other has ended is only counted."""
        ended = ended_a, ended_b
        for side, other in ((0, 1), (1, 0)):
            held = self._held[side]
            for event, value in held.released(self._held[other].live_us):
                self._folds[side].take(event, value)
            if ended[other]:
                self._left_out[side] += held.dropped()
        if ended_a and ended_b:
            for side, held in enumerate(self._held):
                self._left_out[side] += len(held.group)
            self._held = Held(), Held()

    def told(self) -> Difference:
        """What differs; rows in the order of (first receipt, session id)."""
        a, b = (fold.sessions for fold in self._folds)
        both = a.keys() & b.keys()
        changed = [one for session_id in both for one in _changed(a[session_id][1], b[session_id][1])]
        return Difference(
            sessions_a=len(a),
            sessions_b=len(b),
            equal=len(both) - len(changed),
            only_a=[row for _, row in sorted(_rows(a, b), key=_place)],
            only_b=[row for _, row in sorted(_rows(b, a), key=_place)],
            changed=[one for _, one in sorted(changed, key=_place)],
            reasons=Counter((one.why_a.reason, one.why_b.reason) for _, one in changed),
            partitions=[self._partitions[number] for number in sorted(self._partitions)],
            left_out=(self._left_out[0], self._left_out[1]) if self._common else None,
        )


def _place(ordered: tuple[str, Row | Changed]) -> tuple[str, str]:
    return ordered[0], ordered[1].session_id


def _event(value: bytes) -> CallEvent:
    event = session_events.decode(value)
    if isinstance(event, FeedProgress):  # the fold keeps none
        raise TypeError(event.type)
    return event


def _rows(of: dict[str, tuple[int, bytes]], other: dict[str, tuple[int, bytes]]) -> Iterator[tuple[str, Row]]:
    for session_id in of.keys() - other.keys():
        event = _event(of[session_id][1])
        session = event.session
        row = Row(session_id, session.pbx, session.agent.extension, session.status, _why(event))
        yield session.first_received_at.isoformat(), row


def _changed(a: bytes, b: bytes) -> Iterator[tuple[str, Changed]]:
    """At most one: nothing when the sessions are equal."""
    if a == b:
        return
    event_a, event_b = _event(a), _event(b)
    if event_a.session == event_b.session:
        return
    before, after = event_a.session.model_dump(mode="json"), event_b.session.model_dump(mode="json")
    fields = {name: (before[name], after[name]) for name in before if before[name] != after[name]}
    session = event_a.session
    yield (
        session.first_received_at.isoformat(),
        Changed(session.session_id, session.pbx, session.agent.extension, fields, _why(event_a), _why(event_b)),
    )


def _why(event: CallEvent) -> Why:
    causes = tuple((cause.partition, cause.offset, cause.ce_id) for cause in event.causes)
    return Why(event.revision, event.type, event.reason.value, causes)
