"""Which sequences are there and not acknowledged, as runs without a gap, so that they can be counted. Pure."""

from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class Runs:
    """Ascending runs (first, last); `count` is how many sequences they hold."""

    runs: deque[tuple[int, int]] = field(default_factory=deque)
    count: int = 0

    def add(self, first: int, last: int) -> None:
        """Add the sequences `first` to `last`; what is not above all that is there is there already."""
        highest = self.runs[-1][1] if self.runs else first - 1
        first = max(first, highest + 1)
        if first > last:
            return
        self.count += last - first + 1
        if self.runs and highest == first - 1:
            first = self.runs.pop()[0]
        self.runs.append((first, last))

    def cut(self, upto: int) -> None:
        """Forget everything up to and with `upto`."""
        while self.runs and self.runs[0][0] <= upto:
            first, last = self.runs.popleft()
            self.count -= min(last, upto) - first + 1
            if last > upto:
                self.runs.appendleft((upto + 1, last))
