"""The state: the calls kept of one partition, open and lately closed, indexed so that no event looks at all of them.

A call at rest is its changelog value, half the size of the objects in it; what a batch looks at is decoded, and what
it changes is encoded at its end. A restored call is unread at first: it stands under its agent and its external party
only, and all that stand there are read, that is decoded and indexed, when an event asks for either. Whatever is asked
for comes in the order (first received, session id): it follows from the calls themselves, so that a restored state
answers as the one that it was saved from. Pure.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final

from events import numbers
from events.session import Direction
from events.webhook import Party
from processors import changelog
from processors.calls import Call, Ended, Glimpse, agent_of, changelog_key, external_of
from processors.indexes import Index, Moment, Moments

NO_NUMBER_LACKING: Final = "?end"
"""The trait of a call without a known number of which no end was reported: any end of its agent may be meant."""
NO_NUMBER_ALONE: Final = "?start"
"""The trait of an end without a known number and without a start."""

Trait = str | datetime


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
        self._unread: dict[str, bytes] = {}
        self._unread_index = Index()
        self._at_hand: dict[str, Call] = {}
        self._touched: dict[str, bytes | None] = {}
        self._fresh: dict[str, Call] = {}
        self._names: dict[str, list[int]] = {}
        self._index = Index()
        self._parted = Moments()
        self._met = Moments()
        self._begun = Moments()

    def __len__(self) -> int:
        """How many calls are kept."""
        return len(self._at_rest) + len(self._unread)

    def __contains__(self, session_id: str) -> bool:
        """Whether the call is kept."""
        return session_id in self._at_rest or session_id in self._unread

    def __iter__(self) -> Iterator[Call]:
        """Every kept call, in no order that means anything."""
        return (self._at_hand.get(one) or self[one] for one in [*self._at_rest, *self._unread])

    def __getitem__(self, session_id: str) -> Call:
        """The kept call; raises KeyError when there is none."""
        call = self._at_hand.get(session_id)
        if call is None:
            if session_id in self._unread:
                self._read(session_id)
            call = self._at_hand[session_id] = changelog.decode_call(self._at_rest[session_id])
        return call

    def get(self, session_id: str) -> Call | None:
        """The kept call, if any."""
        kept = session_id in self._at_rest or session_id in self._unread
        return self[session_id] if kept else None

    def put(self, call: Call) -> None:
        """Keep `call` in place of its earlier version."""
        before = self.get(call.session_id)
        if before is None:
            self._at_rest[call.session_id] = b""
        self._at_hand[call.session_id] = call
        self._touched[call.session_id] = None
        self._fresh[call.session_id] = call
        self.open_count += call.is_open - (before is not None and before.is_open)
        self._move(call.session_id, before, call)

    def drop(self, session_id: str) -> None:
        """Keep the call no longer; raises KeyError when it was not kept."""
        call = self[session_id]
        self._fresh.pop(session_id, None)
        self._touched[session_id] = changelog_key(call)
        del self._at_rest[session_id], self._at_hand[session_id]
        self.open_count -= call.is_open
        self._move(session_id, call, None)

    def restore(self, call: Glimpse, value: bytes) -> None:
        """Keep a call as the changelog has it, each but once; it is read when something may concern it."""
        session_id, external = call.session_id, call.external
        self._unread[session_id] = value
        self.open_count += call.is_open
        self._unread_index.add(hash((call.key, agent_of(call.extension, call.email))), session_id)
        if external is not None and not external.withheld:
            self._unread_index.add(hash((call.key, "with", number_name(external))), session_id)

    def _read(self, session_id: str) -> None:
        value = self._at_rest[session_id] = self._unread.pop(session_id)
        call = self._at_hand[session_id] = changelog.decode_call(value)
        self._move(session_id, None, call)

    def _read_of(self, name: int) -> None:
        """Read what is unread under the agent or the party with this name."""
        for session_id in self._unread_index.take(name):
            if session_id in self._unread:
                self._read(session_id)

    def _read_with(self, key: str, party: Party) -> None:
        if self._unread:
            self._read_of(hash((key, "with", number_name(party))))

    def _read_of_agent(self, key: str, agent: Sequence[str]) -> None:
        if self._unread:
            for name in agent:
                self._read_of(hash((key, name)))

    def take_fresh(self) -> Iterable[Call]:
        """What was put since the last time."""
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
            # A copy, because orjson's own bytes keep the 4 KiB that they were written into.
            value = bytes(memoryview(changelog.encode_call(call)))
            self._at_rest[session_id] = changes[changelog_key(call)] = value
        self._touched.clear()
        self._at_hand.clear()
        self._names.clear()
        return changes

    def like(self, key: str, agent: Sequence[str], traits: Iterable[Trait]) -> list[Call]:
        """The agent's calls that share one of the `traits` (see `traits_of`); `agent`: see `names_of_agent`."""
        return self._of_agent([hash(("trait", key, name, trait)) for trait in traits for name in agent], key, agent)

    def lacking_end(self, key: str, agent: Sequence[str]) -> list[Call]:
        """The agent's calls of which no end was reported."""
        return self._of_agent([hash(("lacking", key, name)) for name in agent], key, agent)

    def alone(self, key: str, agent: Sequence[str]) -> list[Call]:
        """The agent's calls of which only the end is known."""
        return self._of_agent([hash(("alone", key, name)) for name in agent], key, agent)

    def legs_with(self, key: str, party: Party) -> list[Call]:
        """The open calls with an external party of the same number, of whatever agent."""
        self._read_with(key, party)
        found = [self[one] for one in self._index.get(hash(("leg", key, number_name(party))))]
        return sorted((call for call in found if call.is_open and _is_with(call, key, party)), key=_order)

    def parted_since(self, key: str, party: Party, since: datetime) -> Iterator[Call]:
        """The calls of the same external party whose reported end is not before `since`, the earliest end first."""
        self._read_with(key, party)
        for session_id in self._parted.since((key, number_name(party)), since):
            call = self[session_id]
            if _is_with(call, key, party):
                yield call

    def met_since(self, key: str, party: Party, since: datetime) -> Iterator[Call]:
        """The calls of the same external party, not open any more, whose start is not before `since`, in that order."""
        self._read_with(key, party)
        for session_id in self._met.since((key, number_name(party)), since):
            call = self[session_id]
            if _is_with(call, key, party):
                yield call

    def begun_since(self, key: str, agent: Sequence[str], since: datetime) -> Iterator[Call]:
        """The agent's calls whose start is not before `since`: those without a reported end, then the others."""
        for call in self.lacking_end(key, agent):
            if call.began is not None and call.began.moment >= since:
                yield call
        for name in agent:
            for session_id in self._begun.since((key, name), since):
                call = self[session_id]
                if call.key == key and _agent(call) == name:
                    yield call

    def _of_agent(self, names: Iterable[int], key: str, agent: Sequence[str]) -> list[Call]:
        self._read_of_agent(key, agent)
        ids = dict.fromkeys([session_id for name in names for session_id in self._index.get(name)])
        if not ids:
            return []
        found = [call for call in map(self.__getitem__, ids) if call.key == key and _agent(call) in agent]
        if len(found) > 1:
            found.sort(key=_order)
        return found

    def _move(self, session_id: str, before: Call | None, after: Call | None) -> None:
        """From where the version `before` stands to where the one `after` does."""
        old = self._names.pop(session_id, None) or ([] if before is None else _names(before))
        new = [] if after is None else _names(after)
        self._names[session_id] = new
        for name in old:
            if name not in new:
                self._index.discard(name, session_id)
        for name in new:
            if name not in old:
                self._index.add(name, session_id)
        self._parted.move(session_id, _parting(before), _parting(after))
        self._met.move(session_id, _meeting(before), _meeting(after))
        self._begun.move(session_id, _beginning(before), _beginning(after))


def _order(call: Call) -> tuple[datetime, str]:
    return call.first_received_at, call.session_id


def _agent(call: Call) -> str:
    return agent_of(call.extension, call.email)


def _is_with(call: Call, key: str, party: Party) -> bool:
    return call.key == key and call.external is not None and numbers.same_number(call.external, party)


def _parting(call: Call | None) -> Moment | None:
    """Where a call with a known external party and a reported end stands among the partings."""
    if call is None or not isinstance(call.ended, Ended):
        return None
    external = call.external
    return None if external is None else ((call.key, number_name(external)), call.ended.moment)


def _meeting(call: Call | None) -> Moment | None:
    """Where a call with a known external party that is not open any more stands by its start."""
    if call is None or call.began is None or call.is_open:
        return None
    external = call.external
    return None if external is None else ((call.key, number_name(external)), call.began.moment)


def _beginning(call: Call | None) -> Moment | None:
    """Where a call with a start stands by it once its end was reported; until then `lacking_end` finds it."""
    if call is None or call.began is None or call.lacks_end:
        return None
    return (call.key, _agent(call)), call.began.moment


def _names(call: Call) -> list[int]:
    """The index's names of a call, without repetition."""
    key, agent = call.key, _agent(call)
    names = [hash(("trait", key, agent, trait)) for trait in traits_of(call)]
    if call.lacks_end:
        names.append(hash(("lacking", key, agent)))
    elif call.began is None:
        names.append(hash(("alone", key, agent)))
    if call.ended is None:
        external = call.external
        if external is not None:
            names.append(hash(("leg", key, number_name(external))))
    return names


def names_of_agent(extension: str | None, email: str | None) -> tuple[str, ...]:
    """Under which names an agent's calls are kept: with both known, also those of which only the e-mail was known."""
    if extension is not None and email is not None:
        return agent_of(extension, email), agent_of(None, email)
    return (agent_of(extension, email),)


def number_name(party: Party) -> str:
    """A name that two parties share if they are the same number; a withheld number has the empty name."""
    return "" if party.withheld or party.text is None else numbers.suffix_key(party)


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
        traits.append(f"#{call.call_id}")
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
