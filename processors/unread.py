"""Restored calls of which nothing was asked yet: their changelog values, found by agent and by external party. Pure.

A restore has a million of them, and microseconds for each: a value is looked at no further than its head, and stands in
a bucket with a few others, told apart when one of them is asked for.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from processors import changelog
from processors.calls import Call
from processors.changelog import CLOSED, HEAD, OPEN

PER_BUCKET: Final = 4
"""Calls in a bucket, on average."""
_AGENT: Final = 2
_PARTY: Final = 3


class Heads(NamedTuple):
    """What the heads say of open and of closed calls (since when, session id; in that order they sort).

    `others`: values whose head does not tell when they are due, or of an earlier version.
    """

    open: list[bytes]
    closed: list[bytes]
    others: list[bytes]


class Unread:
    """Values by session id (as bytes: half the work of text). Use: `put`, then `spread` what is left, then `take`."""

    __slots__ = ("_agents", "_mask", "_parties", "values")

    def __init__(self) -> None:
        """Nothing is here."""
        self.values: dict[bytes, bytes] = {}
        self._mask = 0
        self._agents: list[list[bytes]] = [[]]
        self._parties: list[list[bytes]] = [[]]

    def make_buckets(self) -> None:
        """As many as suit the values that are here; all of them must then be put there by `spread`."""
        buckets = 1 << (len(self.values) // PER_BUCKET).bit_length()
        self._mask = buckets - 1
        self._agents = [[] for _ in range(buckets)]
        self._parties = [[] for _ in range(buckets)]

    def spread(self, values: Iterable[tuple[bytes, bytes]], heads: Heads) -> None:
        """Put calls (session id, value) where they will be looked for, and add to `heads` what these say.

        Raises ChangelogError for what is not ours.
        """
        add_open, add_closed, add_other = heads.open.append, heads.closed.append, heads.others.append
        agents, parties, mask = self._agents, self._parties, self._mask
        unpack = HEAD.unpack_from
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
                agents[agent & mask].append(session_id)
                if party:
                    parties[party & mask].append(session_id)
        except struct.error as error:
            raise changelog.refused(error) from error

    def renew(self, call: Call) -> None:
        """Put this call, whose value `spread` gave back, where it will be looked for, in the present form."""
        session_id = call.session_id.encode()
        value = self.values[session_id] = changelog.encode_call(call)
        _, _, agent, party = HEAD.unpack_from(value)
        self._agents[agent & self._mask].append(session_id)
        if party:
            self._parties[party & self._mask].append(session_id)

    def take_of_agent(self, key: str, agent: str) -> Iterator[tuple[str, bytes]]:
        """Session id and value of what may be the agent's; they are here no longer."""
        return self._take(self._agents, changelog.agent_name(key, agent), _AGENT)

    def take_with(self, key: str, number: str) -> Iterator[tuple[str, bytes]]:
        """Session id and value of what may be with that external party; they are here no longer."""
        return self._take(self._parties, changelog.party_name(key, number), _PARTY)

    def _take(self, buckets: list[list[bytes]], name: int, place: int) -> Iterator[tuple[str, bytes]]:
        held, others = buckets[name & self._mask], []
        for session_id in held:
            value = self.values.get(session_id)
            if value is None:
                continue
            if HEAD.unpack_from(value)[place] == name:
                del self.values[session_id]
                yield session_id.decode(), value
            else:
                others.append(session_id)
        buckets[name & self._mask] = others
