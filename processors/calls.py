"""The state: the calls kept of one partition, open and lately closed, indexed so that no event looks at all of them.

A call is immutable; the container `Calls` holds the current version of each and keeps its indexes in step.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from events import numbers
from events.session import Direction, EndReason, Outcome
from events.webhook import Party


@dataclass(frozen=True, slots=True)
class Origin:
    """A record of ``threecx.webhooks``: where it lies, its id, when ingest received it, and a digest of its body."""

    partition: int
    offset: int
    ce_id: str
    received_at: datetime
    digest: str


@dataclass(frozen=True, slots=True)
class Began:
    """The evidence of a start; `started_at` is null when the PBX did not say."""

    origin: Origin
    started_at: datetime | None

    @property
    def moment(self) -> datetime:
        """When it began, for comparisons: as reported, else as received."""
        return self.started_at or self.origin.received_at


@dataclass(frozen=True, slots=True)
class Ended:
    """The evidence of an end, as reported; null is what the PBX did not say."""

    origin: Origin
    started_at: datetime | None
    ended_at: datetime | None
    duration_s: int | None
    outcome: Outcome
    recording_url: str | None

    @property
    def moment(self) -> datetime:
        """When it ended, for comparisons: as reported, else as received."""
        return self.ended_at or self.origin.received_at


@dataclass(frozen=True, slots=True)
class Inferred:
    """No end was reported and yet the call cannot be open: why, between when, and what record contradicted it."""

    reason: EndReason
    earliest: datetime
    latest: datetime | None
    contradiction: Origin | None


@dataclass(frozen=True, slots=True)
class Superseded:
    """A newer call of the same agent began: the grace runs since `since_us` of live time."""

    since_us: int
    began: Began


@dataclass(frozen=True, slots=True)
class Call:
    """One call of one agent. At least one of `began` and `ended` is there; open means that there is no end at all.

    `key` is the record key that the call belongs to. `opened_us` and `closed_us` are live time.
    """

    session_id: str
    key: str
    pbx: str
    extension: str | None
    email: str | None
    direction: Direction
    caller: Party
    callee: Party
    call_id: str | None
    began: Began | None
    ended: Ended | Inferred | None
    superseded: Superseded | None
    opened_us: int
    closed_us: int | None
    revision: int
    first_received_at: datetime

    @property
    def is_open(self) -> bool:
        """Neither reported nor inferred to have ended."""
        return self.ended is None

    @property
    def lacks_end(self) -> bool:
        """No end was reported: a true end can still come."""
        return not isinstance(self.ended, Ended)

    @property
    def external(self) -> Party | None:
        """The party outside of the PBX; null where the direction does not tell or the number is withheld."""
        party = external_of(self.direction, self.caller, self.callee)
        return None if party is None or party.withheld else party


def external_of(direction: Direction, caller: Party, callee: Party) -> Party | None:
    """The caller of an inbound call, the callee of an outbound one; null for internal and unknown directions."""
    match direction:
        case Direction.INBOUND:
            return caller
        case Direction.OUTBOUND:
            return callee
        case Direction.INTERNAL | Direction.UNKNOWN:
            return None


def agent_of(extension: str | None, email: str | None) -> str:
    """What identifies an agent within a key: the extension, else the e-mail, else nothing (the empty agent)."""
    if extension is not None:
        return f"x{extension}"
    return f"m{email.lower()}" if email is not None else ""


@dataclass(slots=True)
class Calls:
    """Every kept call of a partition, by id, by (key, agent) and by (key, external party).

    Inner dictionaries serve as ordered sets: iteration is in order of insertion, never of hashes.
    """

    by_id: dict[str, Call] = field(default_factory=dict)
    open_count: int = 0
    _touched: dict[str, bytes] = field(default_factory=dict)
    _by_agent: dict[tuple[str, str], dict[str, None]] = field(default_factory=dict)
    _by_party: dict[tuple[str, str], dict[str, None]] = field(default_factory=dict)

    def put(self, call: Call) -> None:
        """Keep `call` in place of its earlier version."""
        before = self.by_id.get(call.session_id)
        if before is not None:
            self._forget(before)
        self.by_id[call.session_id] = call
        self._touched[call.session_id] = changelog_key(call)
        self.open_count += call.is_open
        self._by_agent.setdefault(_agent_key(call), {})[call.session_id] = None
        party = _party_key(call)
        if party is not None:
            self._by_party.setdefault(party, {})[call.session_id] = None

    def drop(self, session_id: str) -> None:
        """Keep the call no longer; raises KeyError when it was not kept."""
        call = self.by_id.pop(session_id)
        self._touched[session_id] = changelog_key(call)
        self._forget(call)

    def take_touched(self) -> dict[str, bytes]:
        """What was put or dropped since the last time: session id and changelog key, in order."""
        touched, self._touched = self._touched, {}
        return touched

    def of_agent(self, key: str, extension: str | None, email: str | None) -> Iterator[Call]:
        """The agent's kept calls; with both known, also those of which only the e-mail was known."""
        names = [agent_of(extension, email)]
        if extension is not None and email is not None:
            names.append(agent_of(None, email))
        for name in names:
            yield from self._all(self._by_agent.get((key, name), ()))

    def of_party(self, key: str, party: Party) -> Iterator[Call]:
        """The kept calls with an external party of the same number, of whatever agent."""
        for call in self._all(self._by_party.get((key, numbers.suffix_key(party)), ())):
            if call.external is not None and numbers.same_number(call.external, party):
                yield call

    def _all(self, session_ids: Iterable[str]) -> list[Call]:
        return [self.by_id[session_id] for session_id in session_ids]

    def _forget(self, call: Call) -> None:
        self.open_count -= call.is_open
        _discard(self._by_agent, _agent_key(call), call.session_id)
        party = _party_key(call)
        if party is not None:
            _discard(self._by_party, party, call.session_id)


def changelog_key(call: Call) -> bytes:
    """The key of the call's changelog record: ``{key}/{session_id}``."""
    return f"{call.key}/{call.session_id}".encode()


def _agent_key(call: Call) -> tuple[str, str]:
    return call.key, agent_of(call.extension, call.email)


def _party_key(call: Call) -> tuple[str, str] | None:
    return None if call.external is None else (call.key, numbers.suffix_key(call.external))


def _discard(index: dict[tuple[str, str], dict[str, None]], key: tuple[str, str], session_id: str) -> None:
    held = index[key]
    del held[session_id]
    if not held:
        del index[key]
