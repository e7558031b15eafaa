"""The state: the calls kept of one partition, open and lately closed, indexed so that no event looks at all of them.

A call at rest is its changelog value, half the size of the objects in it; what a batch looks at is decoded, and what
it changes is encoded at its end. A restored call is unread at first (see `unread`): all of an agent or a party are
read, that is decoded and indexed, when an event asks for either. Whatever is asked for comes in the order (first
received, session id): it follows from the calls themselves, so that a restored state answers as the one that it was
saved from. Pure.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final

from events import numbers
from events.session import Direction
from events.webhook import Party
from processors import changelog
from processors.calls import Call, Ended, agent_of, changelog_key, external_of, number_name
from processors.indexes import Index, Moment, Moments
from processors.unread import Unread

NO_NUMBER_LACKING: Final = "?end"
"""The trait of a call without a known number of which no end was reported: any end of its agent may be meant."""
NO_NUMBER_ALONE: Final = "?start"
"""The trait of an end without a known number and without a start."""

Trait = str | datetime | tuple[str]
"""A text is what a party may be called; an id stands in a tuple, or a caller of the name would have the trait twice."""


class Calls:
    """Every kept call of a partition, by id and by what an event can be looked up with.

    The index's names: ("trait", key, agent, trait) every call of an agent by what `traits_of` says; ("lacking", key,
    agent) those without a reported end; ("alone", key, agent) those without a start; ("leg", key, number) the open ones
    with a known external party, of whatever agent. In order of time: of (key, number) `_parted`, once their end
    was reported, and `_met`, by their start, once they are not open; of (key, agent) `_begun`, by their start, those of
    which both are known.
    """

    def __init__(self) -> None:
        """Nothing is kept."""
        self.open_count = 0
        self._at_rest: dict[str, bytes] = {}
        self.unread = Unread()
        self._unread = self.unread.values
        self._at_hand: dict[str, Call] = {}
        self._touched: dict[str, bytes | None] = {}
        self._fresh: dict[str, Call] = {}
        self._places: dict[str, _Places] = {}
        self._index = Index()
        self._parted = Moments()
        self._met = Moments()
        self._begun = Moments()
        self._open: set[str] | None = None
        self._lacking: tuple[str, Sequence[str], Sequence[Call]] | None = None

    def __len__(self) -> int:
        """How many calls are kept."""
        return len(self._at_rest) + len(self._unread)

    def __contains__(self, session_id: str) -> bool:
        """Whether the call is kept."""
        return session_id in self._at_rest or bool(self._unread and session_id.encode() in self._unread)

    def __iter__(self) -> Iterator[Call]:
        """Every kept call, in no order that means anything."""
        return (self[one] for one in [*self._at_rest, *map(bytes.decode, self._unread)])

    def __getitem__(self, session_id: str) -> Call:
        """The kept call; raises KeyError when there is none."""
        call = self._at_hand.get(session_id)
        if call is None:
            value = self._unread.pop(session_id.encode(), None) if self._unread else None
            if value is not None:
                return self._read(session_id, value)
            call = self._at_hand[session_id] = changelog.decode_call(self._at_rest[session_id])
        return call

    def get(self, session_id: str) -> Call | None:
        """The kept call, if any."""
        call = self._at_hand.get(session_id)
        if call is not None:
            return call
        kept = session_id in self
        return self[session_id] if kept else None

    def put(self, call: Call) -> None:
        """Keep `call` in place of its earlier version."""
        session_id = call.session_id
        before = self.get(session_id)
        if before is None:
            self._at_rest[session_id] = b""
        self._at_hand[session_id] = call
        self._lacking = None
        self._touched[session_id] = None
        self._fresh[session_id] = call
        self.open_count += (call.ended is None) - (before is not None and before.ended is None)
        if self._open is not None:
            (self._open.add if call.ended is None else self._open.discard)(session_id)
        self._move(session_id, before, call)

    def drop(self, session_id: str) -> None:
        """Keep the call no longer; raises KeyError when it was not kept."""
        call = self[session_id]
        self._fresh.pop(session_id, None)
        self._lacking = None
        self._touched[session_id] = changelog_key(call)
        del self._at_rest[session_id], self._at_hand[session_id]
        self.open_count -= call.is_open
        if self._open is not None:
            self._open.discard(session_id)
        self._move(session_id, call, None)

    def _read(self, session_id: str, value: bytes) -> Call:
        self._at_rest[session_id] = value
        self._lacking = None
        call = self._at_hand[session_id] = changelog.decode_call(value)
        self._move(session_id, None, call)
        return call

    def _read_with(self, key: str, party: Party) -> None:
        for session_id, value in self.unread.take_with(key, number_name(party)):
            self._read(session_id, value)

    def _read_of_agent(self, key: str, agent: Sequence[str]) -> None:
        for name in agent:
            for session_id, value in self.unread.take_of_agent(key, name):
                self._read(session_id, value)

    def take_fresh(self) -> Iterable[Call]:
        """What was put since the last time."""
        if not self._fresh:
            return ()
        fresh, self._fresh = self._fresh, {}
        return fresh.values()

    def take_changes(self) -> dict[bytes, bytes | None]:
        """What was put or dropped since the last time, as changelog records, in order; all calls are at rest then."""
        changes: dict[bytes, bytes | None] = {}
        for session_id, dropped in self._touched.items():
            if dropped is not None:
                changes[dropped] = None
                continue
            call = self._at_hand[session_id]
            self._at_rest[session_id] = changes[changelog_key(call)] = changelog.encode_call(call)
        self._touched.clear()
        self._lacking = None
        self._at_hand.clear()
        self._places.clear()
        return changes

    def like(self, key: str, agent: Sequence[str], traits: Iterable[Trait]) -> list[Call]:
        """The agent's calls that share one of the `traits` (see `traits_of`); `agent`: see `names_of_agent`."""
        if len(agent) == 1:
            (name,) = agent
            return self._of_agent([hash(("trait", key, name, trait)) for trait in traits], key, agent)
        return self._of_agent([hash(("trait", key, name, trait)) for trait in traits for name in agent], key, agent)

    def lacking_end(self, key: str, agent: Sequence[str]) -> Sequence[Call]:
        """The agent's calls of which no end was reported; a start asks several times with nothing put between."""
        last = self._lacking
        if last is not None and last[0] == key and last[1] == agent:
            return last[2]
        found = self._of_agent([hash(("lacking", key, name)) for name in agent], key, agent)
        self._lacking = key, agent, found
        return found

    def alone(self, key: str, agent: Sequence[str]) -> list[Call]:
        """The agent's calls of which only the end is known."""
        return self._of_agent([hash(("alone", key, name)) for name in agent], key, agent)

    def legs_with(self, key: str, party: Party) -> list[Call]:
        """The open calls with an external party of the same number, of whatever agent."""
        if self._unread:
            self._read_with(key, party)
        ids = self._index.get(hash(("leg", key, number_name(party))))
        if not ids:
            return []
        found = [self[one] for one in ids]
        return sorted((call for call in found if call.is_open and _is_with(call, key, party)), key=_order)

    def parted_since(self, key: str, party: Party, since: datetime) -> Iterator[Call]:
        """The calls of the same external party whose reported end is not before `since`, the earliest end first."""
        if self._unread:
            self._read_with(key, party)
        for session_id in self._parted.since(hash((key, number_name(party))), since):
            call = self[session_id]
            if _is_with(call, key, party):
                yield call

    def met_since(self, key: str, party: Party, since: datetime) -> Iterator[Call]:
        """The calls of the same external party, not open any more, whose start is not before `since`, in that order."""
        if self._unread:
            self._read_with(key, party)
        for session_id in self._met.since(hash((key, number_name(party))), since):
            call = self[session_id]
            if _is_with(call, key, party):
                yield call

    def begun_since(self, key: str, agent: Sequence[str], since: datetime) -> Iterator[Call]:
        """The agent's calls whose start is not before `since`: those without a reported end, then the others."""
        for call in self.lacking_end(key, agent):
            if call.began is not None and call.began.moment >= since:
                yield call
        for name in agent:
            for session_id in self._begun.since(hash((key, name)), since):
                call = self[session_id]
                if call.key == key and _agent(call) == name:
                    yield call

    def open_of(self, pbx: str) -> list[Call]:
        """The open calls of a PBX, whatever their key; which are open is noted from the first such question on."""
        if self._open is None:
            for unread in [one for one, value in self._unread.items() if value[0] != changelog.CLOSED]:
                self.get(unread.decode())
            self._open = {one for one, value in self._at_rest.items() if value and value[0] != changelog.CLOSED}
            self._open -= self._at_hand.keys()
            self._open |= {one for one, call in self._at_hand.items() if call.is_open}
        return sorted((call for call in map(self.__getitem__, self._open) if call.pbx == pbx), key=_order)

    def _of_agent(self, names: Iterable[int], key: str, agent: Sequence[str]) -> list[Call]:
        if self._unread:
            self._read_of_agent(key, agent)
        ids = self._index.get(*names)
        if not ids:
            return []
        at_hand = self._at_hand
        calls = [at_hand[one] if one in at_hand else self[one] for one in ids]
        found = [call for call in calls if call.key == key and agent_of(call.extension, call.email) in agent]
        if len(found) > 1:
            found.sort(key=_order)
        return found

    def _move(self, session_id: str, before: Call | None, after: Call | None) -> None:
        """From where the version `before` stands to where the one `after` does."""
        old = self._places.get(session_id) or (_NOWHERE if before is None else _places_of(before))
        new = self._places[session_id] = _NOWHERE if after is None else _places_of(after)
        old_names, old_parting, old_meeting, old_beginning = old
        names, parting, meeting, beginning = new
        for name in old_names:
            if name not in names:
                self._index.discard(name, session_id)
        for name in names:
            if name not in old_names:
                self._index.add(name, session_id)
        if parting != old_parting:
            self._parted.move(session_id, old_parting, parting)
        if meeting != old_meeting:
            self._met.move(session_id, old_meeting, meeting)
        if beginning != old_beginning:
            self._begun.move(session_id, old_beginning, beginning)


def _order(call: Call) -> tuple[datetime, str]:
    return call.first_received_at, call.session_id


def _agent(call: Call) -> str:
    return agent_of(call.extension, call.email)


def _is_with(call: Call, key: str, party: Party) -> bool:
    return call.key == key and call.external is not None and numbers.same_number(call.external, party)


_Places = tuple[list[int], Moment | None, Moment | None, Moment | None]
"""Where a call stands: its names in the index; among the partings and the meetings of its party; by its agent's starts.

A parting: of a call with a known external party and a reported end. A meeting: with a known external party and a start,
not open any more. By the agent's starts: with a start and a reported end; until then `lacking_end` finds it.
"""
_NOWHERE: Final[_Places] = ([], None, None, None)


def _places_of(call: Call) -> _Places:
    key, agent, ended, began = call.key, _agent(call), call.ended, call.began
    names = [hash(("trait", key, agent, trait)) for trait in traits_of(call)]
    external = call.external
    number = None if external is None else number_name(external)
    if ended is None:
        names.append(hash(("lacking", key, agent)))
        if number is not None:
            names.append(hash(("leg", key, number)))
        return names, None, None, None
    party = None if number is None else hash((key, number))
    meeting = None if party is None or began is None else (party, began.moment)
    if not isinstance(ended, Ended):
        names.append(hash(("lacking", key, agent)))
        return names, None, meeting, None
    parting = None if party is None else (party, ended.moment)
    if began is None:
        names.append(hash(("alone", key, agent)))
        return names, parting, None, None
    return names, parting, meeting, (hash((key, agent)), began.moment)


def names_of_agent(extension: str | None, email: str | None) -> tuple[str, ...]:
    """Under which names an agent's calls are kept: with both known, also those of which only the e-mail was known."""
    if extension is not None and email is not None:
        return agent_of(extension, email), agent_of(None, email)
    return (agent_of(extension, email),)


def traits_of(call: Call) -> Iterable[Trait]:
    """What a call can be found by, each once.

    The names of its external party, of both where that is not known, a name of its own for want of a number; its id;
    and its end itself, so that a repeat finds it whatever number it carries.
    """
    external = external_of(call.direction, call.caller, call.callee)
    traits: list[Trait] = [number_name(call.caller if external is None else external)]
    if external is None and (other := number_name(call.callee)) != traits[0]:
        traits.append(other)
    if "" in traits:
        traits.remove("")
    if is_vague(call.direction, call.caller, call.callee):
        if call.lacks_end:
            traits.append(NO_NUMBER_LACKING)
        elif call.began is None:
            traits.append(NO_NUMBER_ALONE)
    if call.call_id is not None:
        traits.append((call.call_id,))
    if isinstance(call.ended, Ended):
        traits.append(evidence_of(call.ended))
    return traits


def is_vague(direction: Direction, caller: Party, callee: Party) -> bool:
    """Whether the numbers tell so little that every call of the agent may be meant: withheld, or names."""
    external = external_of(direction, caller, callee)
    if external is None:
        return caller.withheld or callee.withheld or not caller.digits or not callee.digits
    return external.withheld or not external.digits


def evidence_of(ended: Ended) -> Trait:
    """What the same end has again: its reported time, else its body."""
    return ended.ended_at or f"body {ended.origin.digest}"
