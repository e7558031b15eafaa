"""Restored calls of which nothing was asked yet: their changelog values, found by agent and by external party. Pure.

A restore has a million of them, and a microsecond for each: a value is looked at no further than its head, and put
where a thousand others wait, which are searched when an event asks for one of them. (A dictionary of all the names is
larger than any cache: two of them took half the time that a restore takes beside its reading.)
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from processors import changelog
from processors.calls import Call
from processors.changelog import CLOSED, HEAD, NAME_BYTES, NO_PARTY, OPEN

SHARDS: Final = 1024
"""Of a million calls a thousand are in each: their names are 4 KB, in which one is found within a microsecond."""


class Heads(NamedTuple):
    """What the heads say of open and of closed calls (since when, session id; in that order they sort).

    `others`: values whose head does not tell when they are due, or of an earlier version.
    """

    open: list[bytes]
    closed: list[bytes]
    others: list[bytes]


class Names:
    """Session ids under names, which are four bytes as good as random."""

    __slots__ = ("_ids", "_names")

    def __init__(self) -> None:
        """Nothing is here."""
        self._names = [bytearray() for _ in range(SHARDS)]
        self._ids: list[list[bytes]] = [[] for _ in range(SHARDS)]

    def add(self, name: bytes, session_id: bytes) -> None:
        """Put the id under the name, under which others may be."""
        shard = (name[-2] << 8 | name[-1]) % SHARDS
        self._names[shard].extend(name)
        self._ids[shard].append(session_id)

    def take(self, name: bytes) -> Sequence[bytes]:
        """The ids under a name, which are here no longer."""
        shard = (name[-2] << 8 | name[-1]) % SHARDS
        names, ids = self._names[shard], self._ids[shard]
        taken: list[bytes] = []
        at = names.find(name)
        while at >= 0:
            place, into = divmod(at, NAME_BYTES)
            if into:  # the end of one name and the beginning of the next
                at = names.find(name, at + 1)
                continue
            taken.append(ids[place])
            # The last one goes where this one was.
            names[at : at + NAME_BYTES] = names[-NAME_BYTES:]
            ids[place] = ids[-1]
            del names[-NAME_BYTES:], ids[-1]
            at = names.find(name, at)
        return taken


class Unread:
    """Values by session id (as bytes: half the work of text). Use: `put`, then `spread` what is left, then `take`."""

    __slots__ = ("_agents", "_parties", "values")

    def __init__(self) -> None:
        """Nothing is here."""
        self.values: dict[bytes, bytes] = {}
        self._agents = Names()
        self._parties = Names()

    def spread(self, values: Iterable[tuple[bytes, bytes]], heads: Heads) -> None:
        """Put calls (session id, value) where they will be looked for, and add to `heads` what these say.

        Raises ChangelogError for what is not ours.
        """
        opened, closed, others = heads
        agents, parties, unpack = self._agents, self._parties, HEAD.unpack_from
        try:
            for session_id, value in values:
                state, since_and_id, agent, party = unpack(value)
                if state == OPEN:
                    opened.append(since_and_id)
                elif state == CLOSED:
                    closed.append(since_and_id)
                else:
                    others.append(value)
                    continue
                agents.add(agent, session_id)
                if party != NO_PARTY:
                    parties.add(party, session_id)
        except struct.error as error:
            raise changelog.refused(error) from error

    def renew(self, call: Call) -> None:
        """Put this call, whose value `spread` gave back, where it will be looked for, in the present form."""
        session_id = call.session_id.encode()
        value = self.values[session_id] = changelog.encode_call(call)
        _, _, agent, party = HEAD.unpack_from(value)
        self._agents.add(agent, session_id)
        if party != NO_PARTY:
            self._parties.add(party, session_id)

    def take_of_agent(self, key: str, agent: str) -> Iterator[tuple[str, bytes]]:
        """Session id and value of what may be the agent's; they are here no longer."""
        return self._take(self._agents.take(changelog.agent_name(key, agent)))

    def take_with(self, key: str, number: str) -> Iterator[tuple[str, bytes]]:
        """Session id and value of what may be with that external party; they are here no longer."""
        return self._take(self._parties.take(changelog.party_name(key, number)))

    def _take(self, session_ids: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
        for session_id in session_ids:
            value = self.values.pop(session_id, None)  # null: it was asked for by its other name, or by its id
            if value is not None:
                yield session_id.decode(), value
