"""When which partition gets a clock tick: about once a second each, spread over the second. Pure.

A tick with time T says: what I received until T is in the log. So T is now only when nothing waits; while something
does, T is just before that was received; and while that is long ago there is no tick at all.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

PERIOD: Final = timedelta(seconds=1)
BEHIND_MAX: Final = timedelta(seconds=1)
_JUST_BEFORE: Final = timedelta(microseconds=1)


@dataclass(slots=True)
class Ticks:
    """The rota of the partitions; `due_at` of partition i lies i/n of a second behind that of partition 0."""

    partitions: int
    next_at: datetime
    _next: int = 0
    _last: dict[int, datetime] = field(default_factory=dict)

    def due(self, now: datetime, oldest_waiting: datetime | None) -> list[tuple[int, datetime]]:
        """The (partition, time) of the ticks to write now, given what is accepted but not acknowledged yet."""
        at = now if oldest_waiting is None else min(now, oldest_waiting - _JUST_BEFORE)
        if now - self.next_at > PERIOD * 2 or self.next_at - now > PERIOD:
            self.next_at = now  # the clock was set, or we were away: no flood of old ticks
        found: list[tuple[int, datetime]] = []
        while self.next_at <= now and len(found) < self.partitions:
            partition, self._next = self._next, (self._next + 1) % self.partitions
            self.next_at += PERIOD / self.partitions
            if now - at <= BEHIND_MAX and at != self._last.get(partition):
                self._last[partition] = at
                found.append((partition, at))
        return found
