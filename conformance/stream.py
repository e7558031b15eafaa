"""The stream with faults, and what is to come of it: the same for the same seed. Pure.

1. Each session is there for one rule (`SCRIPTS`); its events keep their order, those of many sessions come mixed.
2. What is late comes at the end: older revisions again, corrections.
3. Between them come feed progress and events of types that do not exist yet.
4. All goes in transactions; what is not to be seen goes in transactions that are aborted, the last records among it.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from types import MappingProxyType
from typing import Any, Final
from zlib import crc32

from conformance.calls import BEGIN, corrected, end_missed, ended, of_any_kind, started, untaken
from conformance.rules import Rule
from events import envelope, session_events
from events.envelope import Envelope, Type
from events.session_events import CallEvent, CallStarted, FeedProgress
from events.settings import ConfigurationError

PBXS: Final = ("north", "south", "east", "west", "harbour", "airport")
SESSIONS: Final = 150
TRANSACTION_RECORDS_MAX: Final = 20
ALL: Final = frozenset(Rule)
JSON_TYPE: Final = "application/json"

Json = dict[str, Any]
Headers = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Record:
    """A record as it is written; `pbx` decides its partition. `event`: what it tells of a session, if it counts."""

    pbx: str
    key: bytes | None
    value: bytes
    headers: Headers
    event: CallEvent | None = None


@dataclass(frozen=True, slots=True)
class Transaction:
    """Records that are committed, or aborted, together."""

    records: tuple[Record, ...]
    committed: bool


@dataclass(slots=True)
class Script:
    """When what is written about one session: in its `course`, at the end (`late`), and never committed (`aborted`).

    An aborted record comes between the course and what is late.
    """

    course: list[Record] = field(default_factory=list)
    late: list[Record] = field(default_factory=list)
    aborted: list[Record] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Stream:
    """What is written, and the fold that is expected of it.

    `rule_of`: why a session is in the stream, those of aborted transactions included.
    """

    seed: int
    transactions: tuple[Transaction, ...]
    expected: Mapping[str, Json]
    rule_of: Mapping[str, Rule]
    rules: frozenset[Rule]

    @property
    def events(self) -> list[CallEvent]:
        """Each committed event of a session, repeats included."""
        records = (record for one in self.transactions if one.committed for record in one.records)
        return [record.event for record in records if record.event is not None]


def stream(seed: int, sessions: int = SESSIONS, rules: frozenset[Rule] = ALL) -> Stream:
    """The stream of a seed; `rules`: only with the faults of these.

    Raises ConfigurationError when a rule would have no session.
    """
    chance = Random(f"{seed} {sessions} {sorted(rules)}")  # noqa: S311 - a stream that can be made again
    kinds = sorted(rules | {Rule.COMPLETE})
    if sessions < len(kinds):
        raise ConfigurationError(f"{sessions} sessions show nothing of some rules: {len(kinds)} are the least")
    scripts: list[Script] = []
    rule_of: dict[str, Rule] = {}
    for number in range(sessions):
        rule = kinds[number % len(kinds)]
        first = started(chance, number, chance.choice(PBXS), str(seed))
        rule_of[first.session_id] = rule
        scripts.append(SCRIPTS[rule](chance, first))
    transactions = _put_together(chance, scripts)
    found = Stream(seed, transactions, {}, rule_of, rules)
    expected = _folded(found.events)
    for identity in expected:
        if rule_of[identity] is Rule.UNKNOWN_FIELDS:
            del expected[identity]["end_reason"]  # of the future: whatever a consumer makes of it
    return Stream(seed, transactions, expected, rule_of, rules)


def _folded(events: Iterable[CallEvent]) -> dict[str, Json]:
    last: dict[str, CallEvent] = {}
    for event in events:
        held = last.get(event.session_id)
        if held is None or event.revision > held.revision:
            last[event.session_id] = event
    return {identity: event.session.model_dump(mode="json") for identity, event in last.items()}


def _put_together(chance: Random, scripts: list[Script]) -> tuple[Transaction, ...]:
    turns = [number for number, script in enumerate(scripts) for _ in script.course]
    chance.shuffle(turns)
    courses = [iter(script.course) for script in scripts]
    committed = _batches(chance, [next(courses[number]) for number in turns])
    aborted = [Transaction((record,), committed=False) for script in scripts for record in script.aborted]
    late = [record for script in scripts for record in script.late]
    chance.shuffle(late)
    chance.shuffle(aborted)
    # A third of the aborted comes last: then no record stands at the end of a partition, only a marker.
    cut = len(aborted) * 2 // 3
    return (*committed, *aborted[:cut], *_batches(chance, late), *aborted[cut:])


def _batches(chance: Random, records: list[Record]) -> list[Transaction]:
    found = []
    while records:
        size = chance.randint(1, TRANSACTION_RECORDS_MAX)
        found.append(Transaction(tuple(records[:size]), committed=True))
        records = records[size:]
    return found


def record_of(event: CallEvent) -> Record:
    """The record of a session event."""
    pbx = event.session.pbx
    said = Envelope(event.id, pbx, Type(event.type), event.time, JSON_TYPE)
    return Record(pbx, pbx.encode(), session_events.encode(event), tuple(envelope.encode(said)), event)


def _complete(chance: Random, first: CallStarted) -> Script:
    match chance.randrange(3):
        case 0:
            return Script([record_of(first)])
        case 1:
            return Script([record_of(first), record_of(end_missed(first))])
        case _:
            return Script([record_of(first), record_of(ended(first, _talk_s(chance)))])


def _highest_revision(chance: Random, first: CallStarted) -> Script:
    last = ended(first, _talk_s(chance))
    return Script([record_of(first), record_of(last)], late=[record_of(first)])


def _late_corrections(chance: Random, first: CallStarted) -> Script:
    missed = end_missed(first)
    return Script([record_of(first), record_of(missed)], late=[record_of(corrected(missed, _talk_s(chance)))])


def _repeats(chance: Random, first: CallStarted) -> Script:
    told = [record_of(first), record_of(ended(first, _talk_s(chance)))]
    return Script([told[0], told[0], told[1]], late=[told[1]])


def _revision_gaps(chance: Random, first: CallStarted) -> Script:
    last = corrected(ended(first, _talk_s(chance)), _talk_s(chance), chance.randint(3, 9))
    return Script([record_of(first)] if chance.random() < 0.5 else [], late=[record_of(last)])  # noqa: PLR2004 - half


def _committed_only(chance: Random, first: CallStarted) -> Script:
    talked_s = _talk_s(chance)
    never = record_of(ended(first, talked_s + 1))
    match chance.randrange(3):
        case 0:  # a session that never was
            return Script(aborted=[record_of(first)])
        case 1:  # an end that never was
            return Script([record_of(first)], aborted=[never])
        case _:  # the same revision, written anew with other evidence
            return Script([record_of(first)], aborted=[never], late=[record_of(ended(first, talked_s))])


def _values(chance: Random, first: CallStarted) -> Script:
    begun = of_any_kind(chance, first)
    match chance.randrange(4):
        case 0:
            told: list[CallEvent] = [begun]
        case 1:
            told = [begun, end_missed(begun)]
        case 2:
            told = [begun, untaken(begun)]
        case _:
            told = [begun, ended(begun, _talk_s(chance))]
    return Script([record_of(one) for one in told])


def _progress(chance: Random, first: CallStarted) -> Script:
    pbx, moment = first.session.pbx, BEGIN + timedelta(seconds=chance.randrange(10_000))
    told = FeedProgress(
        id=f"progress-{first.id}", time=moment, live_time_us=1, stream_time=moment, received_at={pbx: moment}
    )
    said = Envelope(told.id, pbx, Type.FEED_PROGRESS, told.time, JSON_TYPE)
    key = chance.choice((None, pbx.encode()))
    record = Record(pbx, key, session_events.encode(told), tuple(envelope.encode(said)))
    return Script([record, record_of(first), record, record_of(ended(first, _talk_s(chance)))])


def _unknown_fields(chance: Random, first: CallStarted) -> Script:
    return Script([_extended(record_of(first)), _extended(record_of(ended(first, _talk_s(chance))))])


def _extended(record: Record) -> Record:
    said = json.loads(record.value)
    said |= {"mood": "calm", "reason": "a_rule_of_the_future", "scores": [{"of": "x", "is": 0.5}]}
    said["session"] |= {"queue": {"name": "sales", "waited_s": 12}, "end": None}
    if said["session"]["end_reason"] is not None:
        said["session"]["end_reason"] = "an_end_of_the_future"
    said["session"]["agent"] |= {"desk": "4b"}
    headers = (*record.headers, ("ce_traceparent", b"00-0"), ("not-text", b"\xff\xfe"))
    return Record(record.pbx, record.key, json.dumps(said).encode(), headers, record.event)


def _unknown_types(chance: Random, first: CallStarted) -> Script:
    last = ended(first, _talk_s(chance))
    about = {"session_id": first.session_id, "revision": 99, "stars": 5}
    rated = _stranger("call.rated", first, about)
    queue = _stranger("queue.counted", first, {"waiting": 3})
    return Script([record_of(first), rated, record_of(last)], late=[queue, rated])


def _stranger(kind: str, first: CallStarted, more: Json) -> Record:
    identity = f"{kind}-{first.id}"
    base = dict(record_of(first).headers) | {"ce_type": kind.encode(), "ce_id": identity.encode()}
    value = json.dumps({"type": kind, "id": identity, "time": "2026-01-05T08:00:00Z", **more})
    return Record(first.session.pbx, first.session.pbx.encode(), value.encode(), tuple(base.items()))


def _talk_s(chance: Random) -> int:
    return chance.randrange(5, 600)


def partition_of(pbx: str, partitions: int) -> int:
    """Where everything of a PBX is written."""
    return crc32(pbx.encode()) % partitions


SCRIPTS: Final[Mapping[Rule, Callable[[Random, CallStarted], Script]]] = MappingProxyType(
    {
        Rule.COMPLETE: _complete,
        Rule.HIGHEST_REVISION: _highest_revision,
        Rule.LATE_CORRECTIONS: _late_corrections,
        Rule.REPEATS: _repeats,
        Rule.REVISION_GAPS: _revision_gaps,
        Rule.COMMITTED_ONLY: _committed_only,
        Rule.VALUES: _values,
        Rule.PROGRESS: _progress,
        Rule.UNKNOWN_FIELDS: _unknown_fields,
        Rule.UNKNOWN_TYPES: _unknown_types,
    }
)
