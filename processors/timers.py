"""When something is due: the calls' deadlines as timers, in the order (deadline, session id). Pure.

A timer is one number, which sorts so and takes half the memory of the pair. Nearly all come in order: the ceilings of
calls as they open, the ends of keeping as they close, and a restore brings both sorted. So each is a row, of which the
heap holds but the first: however many wait, and a call that ends leaves its ceiling waiting for hours, the next one is
found in the same time. What comes out of order stands in the heap by itself.
"""

import heapq
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

SESSION_ID_BITS: Final = 96
SESSION_ID_MAX: Final = 2**SESSION_ID_BITS - 1
NEVER_US: Final = 1 << 62


class _Row:
    """Timers in order, taken from the front and added at the end."""

    def __init__(self) -> None:
        """Nothing waits."""
        self.waiting: deque[int] = deque()
        self.last = -1
        self.is_led = False

    def taken(self) -> Iterator[int]:
        """One after the other; at the end nothing of the row is in the heap any more."""
        while self.waiting:
            yield self.waiting.popleft()
        self.is_led = False


class Timers:
    """All timers of a partition. A timer whose call has changed since is the caller's to recognise."""

    def __init__(self) -> None:
        """Nothing is due."""
        self.next_us = NEVER_US
        self._heap: list[int] = []
        self._rows: dict[int, Iterator[int]] = {}
        self._opened, self._closed = _Row(), _Row()

    def put(self, due_us: int, session_id: str, *, is_open: bool) -> None:
        """Something is due then for this call."""
        timer = due_us << SESSION_ID_BITS | int(session_id, 16)
        row = self._opened if is_open else self._closed
        if timer < row.last:
            self._push(timer)
        elif not row.is_led:
            row.last, row.is_led = timer, True
            row.waiting.append(timer)
            self.follow(row.taken())
        elif timer > row.last:
            row.last = timer
            row.waiting.append(timer)

    def follow(self, row: Iterator[int]) -> None:
        """Take the next timer of this row, and when that is due the one after it."""
        for timer in row:
            if timer not in self._rows:  # the same is in the heap already
                self._rows[timer] = row
                self._push(timer)
                return

    def take(self, live_us: int) -> tuple[int, str] | None:
        """The first that is due by then: its deadline and session; null: none is."""
        if self.next_us > live_us:
            return None
        timer = heapq.heappop(self._heap)
        row = self._rows.pop(timer, None)
        if row is not None:
            self.follow(row)
        self.next_us = self._heap[0] >> SESSION_ID_BITS if self._heap else NEVER_US
        return timer >> SESSION_ID_BITS, f"{timer & SESSION_ID_MAX:024x}"

    def _push(self, timer: int) -> None:
        heapq.heappush(self._heap, timer)
        self.next_us = self._heap[0] >> SESSION_ID_BITS


def restored(heads: Iterable[bytes], span_us: int) -> Iterator[int]:
    """A row of timers, so long after what each head says (live time and session id), in the order of the heads."""
    for since_and_id in heads:
        yield int.from_bytes(since_and_id, "big") + (span_us << SESSION_ID_BITS)
