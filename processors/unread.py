"""Restored calls of which nothing was asked yet: their changelog values, found by agent and by external party. Pure.

A restore has a million of them, and a microsecond for each: a value is looked at no further than its head, and found by
the names that stand there, in dictionaries of numbers and bytes, which no garbage collector looks through. (Lists of
four, as there were, took longer to make than all else of a restore.)
"""

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from processors import changelog
from processors.calls import Call
from processors.changelog import CLOSED, HEAD, OPEN

Names = dict[int, bytes | list[bytes]]
"""The session id under a name, or all of them where there are several."""


class Heads(NamedTuple):
    """What the heads say of open and of closed calls (since when, session id; in that order they sort).

    `others`: values whose head does not tell when they are due, or of an earlier version.
    """

    open: list[bytes]
    closed: list[bytes]
    others: list[bytes]


class Unread:
    """Values by session id (as bytes: half the work of text). Use: `put`, then `spread` what is left, then `take`."""

    __slots__ = ("_agents", "_parties", "values")

    def __init__(self) -> None:
        """Nothing is here."""
        self.values: dict[bytes, bytes] = {}
        self._agents: Names = {}
        self._parties: Names = {}

    def spread(self, values: Iterable[tuple[bytes, bytes]], heads: Heads) -> None:
        """Put calls (session id, value) where they will be looked for, and add to `heads` what these say.

        Raises ChangelogError for what is not ours.
        """
        add_open, add_closed, add_other = heads.open.append, heads.closed.append, heads.others.append
        put_agent, put_party, unpack = self._agents.setdefault, self._parties.setdefault, HEAD.unpack_from
        try:
            for session_id, value in values:
                state, since_and_id, agent, party = unpack(value)
                if state == OPEN:
                    add_open(since_and_id)
                elif state == CLOSED:
                    add_closed(since_and_id)
                else:
                    add_other(value)
                    continue
                if (held := put_agent(agent, session_id)) is not session_id:
                    _add(self._agents, agent, held, session_id)
                if party and (held := put_party(party, session_id)) is not session_id:
                    _add(self._parties, party, held, session_id)
        except struct.error as error:
            raise changelog.refused(error) from error

    def renew(self, call: Call) -> None:
        """Put this call, whose value `spread` gave back, where it will be looked for, in the present form."""
        session_id = call.session_id.encode()
        value = self.values[session_id] = changelog.encode_call(call)
        _, _, agent, party = HEAD.unpack_from(value)
        if (held := self._agents.setdefault(agent, session_id)) is not session_id:
            _add(self._agents, agent, held, session_id)
        if party and (held := self._parties.setdefault(party, session_id)) is not session_id:
            _add(self._parties, party, held, session_id)

    def take_of_agent(self, key: str, agent: str) -> Iterator[tuple[str, bytes]]:
        """Session id and value of what may be the agent's; they are here no longer."""
        return self._take(self._agents, changelog.agent_name(key, agent))

    def take_with(self, key: str, number: str) -> Iterator[tuple[str, bytes]]:
        """Session id and value of what may be with that external party; they are here no longer."""
        return self._take(self._parties, changelog.party_name(key, number))

    def _take(self, names: Names, name: int) -> Iterator[tuple[str, bytes]]:
        held = names.pop(name, ())
        for session_id in (held,) if isinstance(held, bytes) else held:
            value = self.values.pop(session_id, None)  # null: it was asked for by its other name, or by its id
            if value is not None:
                yield session_id.decode(), value


def _add(names: Names, name: int, held: bytes | list[bytes], session_id: bytes) -> None:
    """One more id under a name that has some."""
    if isinstance(held, list):
        held.append(session_id)
    else:
        names[name] = [held, session_id]
