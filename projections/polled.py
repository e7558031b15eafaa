"""What polling saw: observations of a PBX's active calls, folded into calls. Pure.

A call's end is only its absence, so it takes two good answers in a row without it; what was no good answer is not
here, and changes nothing. An id that comes again after that is another call, for ids restart with the PBX.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from events.active_calls import extensions_in

ABSENT_ANSWERS: Final = 2
_TALKING: Final = frozenset(("talking", "connected", "established"))


@dataclass(frozen=True, slots=True)
class Observation:
    """A good answer: when it was there, and the calls in it."""

    pbx: str
    at: datetime
    calls: tuple[Mapping[str, Any], ...]


@dataclass(slots=True)
class PolledCall:
    """A call as polling saw it. `first_absent_at`: of the first of two good answers without it; null: it goes on.

    `before_at`: of the last good answer before it was seen (null: it was there from the beginning), so that it began
    between `before_at` and `first_seen_at` and ended between `last_seen_at` and `first_absent_at`. `caller`, `callee`:
    the texts ``"<dn> <name>"``, as last seen.
    """

    pbx: str
    id: str
    before_at: datetime | None
    first_seen_at: datetime
    last_seen_at: datetime
    caller: str = ""
    callee: str = ""
    was_talking: bool = False
    first_absent_at: datetime | None = None

    @property
    def extensions(self) -> frozenset[str]:
        """The numbers within the PBX of both sides."""
        return extensions_in(self.caller, self.callee)


@dataclass(slots=True)
class _Watched:
    call: PolledCall
    missing_since: datetime | None = None
    missing: int = 0


@dataclass(slots=True)
class PolledCalls:
    """The fold over one PBX's observations, in their order."""

    pbx: str
    _known: dict[str, _Watched] = field(default_factory=dict)
    _last_at: datetime | None = None

    def observe(self, seen: Observation) -> Iterator[PolledCall]:
        """Take a good answer; gives the calls that it shows to have ended. A step back of the clock is let be."""
        if self._last_at is not None and seen.at <= self._last_at:
            return
        present = {str(call["Id"]): call for call in seen.calls}
        for identity, call in present.items():
            watched = self._known.get(identity)
            if watched is None:
                fresh = PolledCall(self.pbx, identity, self._last_at, seen.at, seen.at)
                watched = self._known[identity] = _Watched(fresh)
            self._note(watched, call, seen.at)
        for identity, watched in list(self._known.items()):
            if identity in present:
                continue
            watched.missing += 1
            watched.missing_since = watched.missing_since or seen.at
            if watched.missing >= ABSENT_ANSWERS:
                watched.call.first_absent_at = watched.missing_since
                del self._known[identity]
                yield watched.call
        self._last_at = seen.at

    def going_on(self) -> list[PolledCall]:
        """The calls that no two answers were without."""
        return [watched.call for watched in self._known.values()]

    @staticmethod
    def _note(watched: _Watched, call: Mapping[str, Any], at: datetime) -> None:
        known = watched.call
        known.last_seen_at = at
        known.caller = str(call.get("Caller") or known.caller)
        known.callee = str(call.get("Callee") or known.callee)
        status = str(call.get("Status") or "").lower()
        known.was_talking |= status in _TALKING or call.get("EstablishedAt") is not None
        watched.missing, watched.missing_since = 0, None


def polled_calls(observations: Iterable[Observation]) -> list[PolledCall]:
    """Every call of every PBX, in order of when it was first seen; a PBX's observations in their order."""
    folds: dict[str, PolledCalls] = {}
    ended: list[PolledCall] = []
    for seen in observations:
        ended += folds.setdefault(seen.pbx, PolledCalls(seen.pbx)).observe(seen)
    every = [*ended, *(call for fold in folds.values() for call in fold.going_on())]
    return sorted(every, key=lambda call: (call.first_seen_at, call.pbx, call.id))
