"""One partition's work: records in, session events, changelog and dead letters out. Pure: no clock, no I/O.

For each record: 1. is it a repeat of ingest's? then nothing; 2. advance live time; 3. fire what is due, in the order
(deadline, session id); 4. apply the record; 5. tell the progress when live time crossed a whole second.
How the records are cut into batches changes no byte of the session events and nothing of the changelog's last values.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any, Final, NamedTuple, Protocol, assert_never

import orjson

from events import dead_letters, envelope, reading, times
from events.active_calls import listing_of
from events.call_history import recorded_of
from events.envelope import Envelope, EnvelopeError, Type
from events.pbx import DEFAULT_PBX, Pbx
from events.webhook import End, Start, Unreadable
from processors import backfill, changelog, pairing, sessions, timers, witness
from processors.calls import Call, Origin
from processors.changelog import SESSION_ID_CHARACTERS, Email, LastList, Position
from processors.clock_skew import ClockSkews
from processors.contradictions import Input
from processors.kept import Calls
from processors.live_time import INSTANCES_MAX, SECOND_US, LiveTime
from processors.rules import Rules
from processors.sessions import Told
from processors.timers import Timers
from processors.unread import Heads

SEQUENCE_MAX = 2**64 - 1
"""What the changelog's JSON can hold; no ingest counts that far."""

RESTORED_SLICE: Final = 2_000
"""Values of the changelog taken in in one go: a few ms."""
_WEBHOOK: Final = Type.WEBHOOK_RECEIVED
_new: Final = tuple.__new__


class InputRecord(NamedTuple):
    """A record of ``threecx.webhooks``, as consumed."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class OutputRecord(NamedTuple):
    """A record to be written to the partition of its input; the topic is told by the list that it stands in."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class ChangelogRecord(Protocol):
    """What of a consumed changelog record is looked at."""

    @property
    def key(self) -> Any:
        """Bytes; see `changelog`."""

    @property
    def value(self) -> bytes | None:
        """See `changelog`; null: a tombstone."""


@dataclass(slots=True)
class Batch:
    """What one transaction writes. `counts` are (metric, label) for the metric catalogue.

    `bugs`: at which offset reading met a bug of ours, and which; the records are among the dead letters.
    """

    next_offset: int
    session_events: list[OutputRecord] = field(default_factory=list)
    changelog: dict[bytes, bytes | None] = field(default_factory=dict)
    dead_letters: list[OutputRecord] = field(default_factory=list)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    bugs: list[tuple[int, Exception]] = field(default_factory=list)

    def extend(self, following: "Batch") -> None:
        """Take in what the records after these lead to, so that one transaction writes both."""
        self.next_offset = following.next_offset
        self.session_events += following.session_events
        for key in following.changelog.keys() & self.changelog.keys():
            del self.changelog[key]  # its place is behind what it follows: the position ends a transaction
        self.changelog |= following.changelog
        self.dead_letters += following.dead_letters
        self.counts += following.counts
        self.bugs += following.bugs


class Task:
    """The state of one partition and what its records do to it. Not to be used again after an exception."""

    def __init__(self, partition: int, rules: Rules, pbxs: Mapping[str, Pbx], input_topic: str) -> None:
        """Start empty; feed `restore` with the changelog, then call `restored` or go through `taking_in`."""
        self._partition = partition
        self._rules = rules
        self._pbxs = pbxs
        self._input_topic = input_topic
        self._calls = Calls()
        self._emails: dict[tuple[str, str], str] = {}
        self._position = Position(-1, LiveTime(), {}, {})
        self._timers = Timers()
        self._facts: dict[bytes, bytes] = {}
        self.clock_skews = ClockSkews()

    @property
    def next_offset(self) -> int | None:
        """The next input offset that the changelog asks for; null when it holds no state."""
        return None if self._position.next_offset < 0 else self._position.next_offset

    @property
    def open_calls(self) -> int:
        """How many calls are open."""
        return self._calls.open_count

    @property
    def kept_calls(self) -> int:
        """How many calls are kept, open or lately closed."""
        return len(self._calls)

    @property
    def live_time_us(self) -> int:
        """The partition's live time."""
        return self._position.live_time.live_us

    @property
    def stream_time(self) -> datetime:
        """The received time that last moved live time; 1970 when none has."""
        return times.from_us(self._position.live_time.head_us)

    def knows(self, value: bytes) -> bool:
        """Whether the state is one after the session event of this value, of its partition.

        A call that it does not hold is yet to be, or was told of to its end, and dropped.
        """
        said = orjson.loads(value)
        if said["type"] == Type.FEED_PROGRESS:
            return bool(said["live_time_us"] <= self.live_time_us)
        call = self._calls.get(said["session_id"])
        if call is None:
            return all(cause["offset"] < self._position.next_offset for cause in said["causes"])
        return bool(call.revision >= said["revision"])

    def restore(self, key: bytes, value: bytes | None) -> None:
        """Take one changelog record, as `restore_all`."""
        self.restore_all((OutputRecord(key, value, ()),))

    def restore_all(self, records: Iterable[ChangelogRecord]) -> None:
        """Take changelog records, in the order of the log; only the last one of each key will be looked at."""
        calls, facts = self._calls.unread.values, self._facts
        for record in records:
            key: bytes = record.key
            value: bytes | None = record.value
            if value is None:
                calls.pop(key[-SESSION_ID_CHARACTERS:], None)
            elif value.startswith(b"[") and not value.startswith(changelog.EARLIER_CALL):
                facts[key] = value
            else:
                calls[key[-SESSION_ID_CHARACTERS:]] = value

    def restored(self) -> None:
        """End of the changelog: take it in; raises ChangelogError for a record that is not ours."""
        for _ in self.taking_in():
            pass

    def taking_in(self) -> Iterator[None]:
        """As `restored`, in slices, between which others may go on."""
        for value in self._facts.values():
            self._take_in(value)
        self._facts.clear()
        unread = self._calls.unread
        waiting = iter(unread.values.items())
        heads = Heads([], [], [])
        for _ in range(0, len(unread.values), RESTORED_SLICE):
            unread.spread(islice(waiting, RESTORED_SLICE), heads)
            for value in heads.others:
                self._take_in_call(changelog.decode_call(value))
            heads.others.clear()
            yield
        self._calls.open_count += len(heads.open)
        # Timers are not stored: they are derived from the calls.
        self._timers.follow(timers.restored(sorted(heads.open), self._rules.call_duration_max_s * SECOND_US))
        self._timers.follow(timers.restored(sorted(heads.closed), self._rules.closed_kept_s * SECOND_US))

    def _take_in(self, value: bytes) -> None:
        match changelog.decode(value):
            case Email(key=owner, email=email, extension=extension):
                self._emails[owner, email] = extension
            case Position() as position:
                self._position = position

    def _take_in_call(self, call: Call) -> None:
        """One whose head does not tell when it is due, or that an earlier version wrote."""
        self._calls.unread.renew(call)
        self._watch(call)
        self._calls.open_count += call.is_open

    def _watch(self, call: Call) -> None:
        self._timers.put(pairing.deadline_us(call, self._rules), call.session_id, is_open=call.is_open)

    def process(self, records: Sequence[InputRecord]) -> Batch:
        """Apply records of this partition, in offset order; returns what the transaction must write."""
        batch = Batch(next_offset=records[-1].offset + 1)
        for record in records:
            self._apply(record, batch)
            for call in self._calls.take_fresh():
                self._watch(call)
        batch.changelog |= self._calls.take_changes()
        self._position.next_offset = batch.next_offset
        batch.changelog[changelog.position_key(self._partition)] = changelog.encode_position(self._position)
        return batch

    def _apply(self, record: InputRecord, batch: Batch) -> None:
        try:
            said = envelope.decode(record.headers)
            if said.ingest_sequence is not None and not 0 <= said.ingest_sequence <= SEQUENCE_MAX:
                raise EnvelopeError("header ingest_sequence is not a count")  # noqa: TRY301 - one place buries both
        except EnvelopeError as error:
            self._bury(record, str(error), "envelope", batch)
            return
        if self._is_repeat(said):
            batch.counts["repeats", "sequence"] += 1
            return
        live_time = self._position.live_time
        before_s = live_time.live_us // SECOND_US
        received_us = times.to_us(said.time)
        if said.ingest is not None:
            alarm = live_time.advance(said.ingest, received_us)
            if alarm is not None:
                batch.counts["clock_alarms", alarm] += 1
        if self._timers.next_us <= live_time.live_us:
            self._fire(batch)
        if said.type is _WEBHOOK:  # nearly all are
            self._webhook(record, said, received_us, batch)
        else:
            self._read(record, said, batch)
        if live_time.live_us // SECOND_US > before_s:
            batch.session_events.append(self._progress(said, record.key))

    def _read(self, record: InputRecord, said: Envelope, batch: Batch) -> None:
        match said.type:
            case Type.CLOCK_TICK:
                batch.counts["records", "tick"] += 1
            case Type.CALLS_LISTED:
                self._listing(record, said, batch)
            case Type.CALLS_RECORDED:
                self._recorded(record, said, batch)
            case _:
                self._bury(record, f"{said.type} does not belong on this topic", "type", batch)

    def _is_repeat(self, said: Envelope) -> bool:
        """Whether ingest forwarded this record before; it sends again after a crash, from an earlier sequence on."""
        if said.ingest is None or said.ingest_sequence is None:
            return False
        sequences = self._position.sequences
        highest = sequences.pop(said.ingest, -1)
        sequences[said.ingest] = max(highest, said.ingest_sequence)
        if len(sequences) > INSTANCES_MAX:
            del sequences[next(iter(sequences))]
        return said.ingest_sequence <= highest

    def _fire(self, batch: Batch) -> None:
        live_us = self.live_time_us
        while (due := self._timers.take(live_us)) is not None:
            due_us, session_id = due
            call = self._calls.get(session_id)
            # A timer whose call has changed since is stale: its true deadline waits elsewhere.
            if call is not None and pairing.deadline_us(call, self._rules) == due_us:
                events = pairing.on_deadline(self._calls, session_id, live_us, self._rules, self._position.lists)
                self._tell(events, call.key, batch)

    def _webhook(self, record: InputRecord, said: Envelope, received_us: int, batch: Batch) -> None:
        latest_us = self._position.received_us
        latest_us[said.pbx] = max(latest_us.get(said.pbx, 0), received_us)
        pbx = self._pbxs.get(said.pbx) or self._pbxs[DEFAULT_PBX]
        body = record.value or b""
        key = record.key.decode("utf-8", "replace") if record.key is not None else said.pbx
        origin = _origin_of(record, said)
        given = Input(key, said.pbx, origin, self._position.live_time.live_us, pbx.shared_extensions)
        found = reading.read(body, said.content_type, said.time, pbx)
        if not isinstance(found, Unreadable) and found.email is not None:
            found = self._with_extension(found, key, found.email.lower(), batch)
        match found:
            case Start():
                kind = "start"
                events = pairing.on_start(self._calls, found, given, self._rules)
            case End():
                kind = "end"
                events = pairing.on_end(self._calls, found, given, self._rules)
            case Unreadable(reason=reason, bug=bug):
                if bug is None:
                    self._bury_unreadable(record, reason, batch)
                else:
                    self._bury_for_bug(record, reason, bug, batch)
                return
            case _:
                assert_never(found)
        batch.counts["records", kind] += 1
        self.clock_skews.note(said.pbx, found, said.time)
        if not events:
            batch.counts["repeats", kind] += 1
        self._tell(events, key, batch)

    def _listing(self, record: InputRecord, said: Envelope, batch: Batch) -> None:
        """The PBX's list of its active calls, as the poller wrote it: evidence on the calls that are open."""
        listing = listing_of(record.value or b"")
        if listing is None:
            self._bury_unreadable(record, "the value is no list of active calls", batch)
            return
        batch.counts["records", "listing"] += 1
        lists = self._position.lists
        now, last = LastList(times.to_us(listing.asked_at), self.live_time_us), lists.get(said.pbx)
        if witness.is_late(now.asked_us, last):
            batch.counts["repeats", "listing"] += 1
            return
        origin = _origin_of(record, said)
        witness.on_listing(self._calls, said.pbx, listing, origin, now, last or now)
        lists[said.pbx] = now

    def _recorded(self, record: InputRecord, said: Envelope, batch: Batch) -> None:
        """Of the PBX's history of calls, as the poller wrote it: ends that perhaps no webhook told."""
        recorded = recorded_of(record.value or b"")
        if recorded is None:
            self._bury_unreadable(record, "the value is no history of calls", batch)
            return
        batch.counts["records", "history"] += 1
        origin = _origin_of(record, said)
        for one in backfill.on_recorded(self._calls, said.pbx, recorded, origin, self.live_time_us, self._rules):
            self._tell([one], self._calls[one.session_id].key, batch)

    def _with_extension(self, event: Start | End, key: str, email: str, batch: Batch) -> Start | End:
        """An event with an e-mail but no extension belongs to the extension last seen with that e-mail at that PBX."""
        if event.extension is None:
            return event._replace(extension=self._emails.get((key, email)))
        if self._emails.get((key, email)) != event.extension:
            self._emails[key, email] = event.extension
            fact = Email(key, email, event.extension)
            batch.changelog[changelog.email_key(fact)] = changelog.encode_email(fact)
        return event

    def _tell(self, events: Sequence[Told], key: str, batch: Batch) -> None:
        counts, raw_key = batch.counts, key.encode()
        for event in events:
            counts["session_events", event.type] += 1
            counts["decisions", event.reason] += 1
            headers = envelope.encode_json(event.id, event.pbx, event.type, event.time)
            batch.session_events.append(_new(OutputRecord, (raw_key, event.value, headers)))

    def _progress(self, said: Envelope, key: bytes | None) -> OutputRecord:
        identity = hashlib.blake2b(said.id.encode(), digest_size=16, person=b"feed-progress").hexdigest()
        received = {pbx: times.from_us(us) for pbx, us in self._position.received_us.items()}
        value = sessions.progress_of(identity, said.time, self.live_time_us, self.stream_time, received)
        headers = envelope.encode_json(identity, said.pbx, Type.FEED_PROGRESS, said.time)
        return OutputRecord(key, value, headers)

    def _bury_unreadable(self, record: InputRecord, reason: str, batch: Batch) -> None:
        batch.counts["records", "unreadable"] += 1
        self._bury(record, reason, "body", batch)

    def _bury_for_bug(self, record: InputRecord, reason: str, bug: Exception, batch: Batch) -> None:
        batch.counts["records", "unreadable"] += 1
        batch.bugs.append((record.offset, bug))
        self._bury(record, reason, "bug", batch)

    def _bury(self, record: InputRecord, reason: str, kind: str, batch: Batch) -> None:
        batch.counts["dead_letters", kind] += 1
        value = record.value
        if value is not None and len(value) > dead_letters.VALUE_BYTES_MAX:
            value, reason = value[: dead_letters.VALUE_BYTES_MAX], f"{reason} ({len(value)} bytes); cut"
        headers = dead_letters.headers(record.headers, reason, self._input_topic, record.partition, record.offset)
        batch.dead_letters.append(OutputRecord(record.key, value, headers))


def _origin_of(record: InputRecord, said: Envelope) -> Origin:
    digest = hashlib.blake2b(record.value or b"", digest_size=8).hexdigest()
    return _new(Origin, (record.partition, record.offset, said.id, said.time, digest))
