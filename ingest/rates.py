"""How many webhooks a PBX may send: a token bucket each; off by default, since a refused one may never come again."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Rates:
    """`per_second` webhooks and PBX, with a burst of one second's worth; 0: no limit."""

    per_second: float
    _buckets: dict[str, tuple[float, float]] = field(default_factory=dict)

    def allows(self, pbx: str, now_s: float) -> bool:
        """Take one webhook's worth at the monotonic time `now_s`; false when there is none left."""
        if not self.per_second:
            return True
        burst = max(1.0, self.per_second)
        tokens, then_s = self._buckets.get(pbx, (burst, now_s))
        tokens = min(burst, tokens + (now_s - then_s) * self.per_second)
        allowed = tokens >= 1
        self._buckets[pbx] = tokens - allowed, now_s
        return allowed
