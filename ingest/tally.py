"""What the door counts: kept beside the metrics and put into them many at a time, and whenever they are looked at."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from events.metrics import Metrics, observe_all

ANSWERS_MAX: Final = 256
"""So many answers are put into the metrics together, at the latest."""


@dataclass(slots=True)
class Tally:
    """`answered` and `accepted` for each, `tell` before the metrics are read."""

    metrics: Metrics
    _seconds: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    _accepted: Counter[str] = field(default_factory=Counter)

    def accepted(self, pbx: str) -> None:
        """One webhook of that PBX is durable and answered 202."""
        self._accepted[pbx] += 1

    def answered(self, route: str, status: int, seconds: float) -> None:
        """One answer, so long after its request began."""
        kept = self._seconds.get((route, status))
        if kept is None:
            kept = self._seconds[route, status] = []
        kept.append(seconds)
        if len(kept) >= ANSWERS_MAX:
            self.tell()

    def tell(self) -> None:
        """Put what was counted into the metrics."""
        for (route, status), seconds in self._seconds.items():
            observe_all(self.metrics.histogram("answer_seconds", route), seconds)
            self.metrics.counter("requests_total", route, str(status)).inc(len(seconds))
            seconds.clear()
        for pbx, count in self._accepted.items():
            self.metrics.counter("accepted_total", pbx).inc(count)
        self._accepted.clear()
