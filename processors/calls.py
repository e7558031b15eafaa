"""The state: the calls kept of one partition, open and lately closed, indexed so that no event looks at all of them.

A call is immutable; the container `Calls` holds the current version of each and keeps its indexes in step.
Whatever is asked for comes in the order (first received, session id): it follows from the calls themselves, so that a
restored state answers as the one that it was saved from.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from events import numbers
from events.session import Direction, EndReason, Outcome
from events.webhook import Party
from processors.index import Index


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
    `linked` is the session of the other agent's leg that showed this one to have ended.
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
    linked: str | None = None

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
    """Every kept call of a partition, by id, and by (key, agent) and what else an event can be looked up with.

    `_by_trait`: every call of an agent by a party's number or the call id. `_lacking`: those without a reported end.
    `_alone`: those without a start. `_legs`: the open calls with a known external party, of whatever agent.
    `_parted`: the same of the calls whose end was reported.
    """

    by_id: dict[str, Call] = field(default_factory=dict)
    open_count: int = 0
    _touched: dict[str, bytes] = field(default_factory=dict)
    _by_trait: Index = field(default_factory=Index)
    _lacking: Index = field(default_factory=Index)
    _alone: Index = field(default_factory=Index)
    _legs: Index = field(default_factory=Index)
    _parted: Index = field(default_factory=Index)

    def put(self, call: Call) -> None:
        """Keep `call` in place of its earlier version."""
        before = self.by_id.get(call.session_id)
        self.by_id[call.session_id] = call
        self._touched[call.session_id] = changelog_key(call)
        self.open_count += call.is_open - (before is not None and before.is_open)
        old, new = [] if before is None else self._places(before), self._places(call)
        for index, name in old:
            if (index, name) not in new:
                index.discard(name, call.session_id)
        for index, name in new:
            if (index, name) not in old:
                index.add(name, call.session_id)

    def drop(self, session_id: str) -> None:
        """Keep the call no longer; raises KeyError when it was not kept."""
        call = self.by_id.pop(session_id)
        self._touched[session_id] = changelog_key(call)
        self.open_count -= call.is_open
        for index, name in self._places(call):
            index.discard(name, session_id)

    def take_touched(self) -> dict[str, bytes]:
        """What was put or dropped since the last time: session id and changelog key, in order."""
        touched, self._touched = self._touched, {}
        return touched

    def like(self, key: str, agent: Sequence[str], traits: Iterable[str]) -> list[Call]:
        """The agent's calls that share one of the `traits` (see `traits_of`); `agent`: see `names_of_agent`."""
        return self._all(sid for trait in traits for name in agent for sid in self._by_trait.get((key, name, trait)))

    def lacking_end(self, key: str, agent: Sequence[str]) -> list[Call]:
        """The agent's calls of which no end was reported."""
        return self._all(sid for name in agent for sid in self._lacking.get((key, name)))

    def alone(self, key: str, agent: Sequence[str]) -> list[Call]:
        """The agent's calls of which only the end is known."""
        return self._all(sid for name in agent for sid in self._alone.get((key, name)))

    def legs_with(self, key: str, party: Party) -> list[Call]:
        """The open calls with an external party of the same number, of whatever agent."""
        return self._with(self._legs, key, party)

    def parted_with(self, key: str, party: Party) -> list[Call]:
        """The calls of the same external party of which the end was reported, of whatever agent."""
        return self._with(self._parted, key, party)

    def _with(self, index: Index, key: str, party: Party) -> list[Call]:
        found = self._all(index.get((key, number_name(party))))
        return [call for call in found if call.external is not None and numbers.same_number(call.external, party)]

    def _all(self, session_ids: Iterable[str]) -> list[Call]:
        found = [self.by_id[session_id] for session_id in dict.fromkeys(session_ids)]
        if len(found) > 1:
            found.sort(key=lambda call: (call.first_received_at, call.session_id))
        return found

    def _places(self, call: Call) -> list[tuple[Index, tuple[str, ...]]]:
        """Where the call stands: each index with its name there."""
        key, agent = call.key, agent_of(call.extension, call.email)
        traits = traits_of(call.direction, call.caller, call.callee, call.call_id)
        places: list[tuple[Index, tuple[str, ...]]] = [
            (self._by_trait, (key, agent, trait)) for trait in dict.fromkeys(traits)
        ]
        if call.lacks_end:
            places.append((self._lacking, (key, agent)))
        elif call.began is None:
            places.append((self._alone, (key, agent)))
        external = call.external
        if external is not None and (call.is_open or not call.lacks_end):
            index = self._legs if call.is_open else self._parted
            places.append((index, (key, number_name(external))))
        return places


def changelog_key(call: Call) -> bytes:
    """The key of the call's changelog record: ``{key}/{session_id}``."""
    return f"{call.key}/{call.session_id}".encode()


def names_of_agent(extension: str | None, email: str | None) -> tuple[str, ...]:
    """Under which names an agent's calls are kept: with both known, also those of which only the e-mail was known."""
    if extension is not None and email is not None:
        return agent_of(extension, email), agent_of(None, email)
    return (agent_of(extension, email),)


def number_name(party: Party) -> str:
    """A name that two parties share if they are the same number; a withheld number has the empty name."""
    return "" if party.withheld or party.text is None else numbers.suffix_key(party)


def traits_of(direction: Direction, caller: Party, callee: Party, call_id: str | None) -> tuple[str, ...]:
    """What a call can be found by: the names of its external party (of both where that is not known), and its id."""
    external = external_of(direction, caller, callee)
    names = (number_name(external),) if external is not None else (number_name(caller), number_name(callee))
    return names if call_id is None else (*names, f"#{call_id}")
