"""What the kept calls are looked up with: session ids under a name, and in order of a moment. Pure.

A name is kept as its hash, which two may share: what is found must be looked at again.
"""

from bisect import bisect_left, insort
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

Moment = tuple[int, datetime]
"""The hash of a name, and when."""

NAME_MAX: Final = 2**60 - 1
"""A whole hash would take 16 bytes more, in each of a million calls' places."""


class Index:
    """Which session ids stand under a name; a dictionary per name only where there are several, to spare memory.

    A name is kept as its hash, which two may share: what is found must be looked at again.
    """

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: dict[int, str | dict[str, None]] = {}

    def add(self, name: int, session_id: str) -> None:
        """Put the id under the name."""
        name &= NAME_MAX
        held = self._held.setdefault(name, session_id)
        if isinstance(held, dict):
            held[session_id] = None
        elif held != session_id:
            self._held[name] = {held: None, session_id: None}

    def discard(self, name: int, session_id: str) -> None:
        """Take the id from the name; raises KeyError when it does not stand there."""
        name &= NAME_MAX
        held = self._held[name]
        if isinstance(held, dict):
            del held[session_id]
            if not held:
                del self._held[name]
        elif held == session_id:
            del self._held[name]
        else:
            raise KeyError(session_id)

    def get(self, *names: int) -> Collection[str]:
        """The ids under any of the names, each once, in no order that means anything."""
        found: Collection[str] = ()
        for name in names:
            held = self._held.get(name & NAME_MAX)
            if held is not None:
                ids = (held,) if isinstance(held, str) else held
                found = dict.fromkeys((*found, *ids)) if found else ids
        return found


class Moments:
    """Session ids under a name in order of a moment, then of the id."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: dict[int, list[tuple[datetime, str]]] = {}

    def move(self, session_id: str, before: Moment | None, after: Moment | None) -> None:
        """From where the id stands to where it shall; null: nowhere."""
        if before == after:
            return
        if before is not None:
            held = self._held[before[0]]
            del held[bisect_left(held, (before[1], session_id))]
            if not held:
                del self._held[before[0]]
        if after is not None:
            name, moment = after
            if name in self._held:
                insort(self._held[name], (moment, session_id))
            else:
                self._held[name] = [(moment, session_id)]

    def since(self, name: int, moment: datetime) -> Sequence[str]:
        """The ids under the name from the moment on; as in `Index`, what is found must be looked at again."""
        held = self._held.get(name)
        if held is None or held[-1][0] < moment:
            return ()
        return [session_id for _, session_id in held[bisect_left(held, (moment, "")) :]]
