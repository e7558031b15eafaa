"""How many webhooks a PBX may send: a token bucket each; off by default, since a refused one may never come again."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Rates:
    """One bucket per PBX, with a burst of one second's worth."""

    _buckets: dict[str, tuple[float, float]] = field(default_factory=dict)

    def allows(self, pbx: str, per_second: float, now_s: float) -> bool:
        """Take one webhook's worth at the monotonic time `now_s`; false when none is left. 0 per second: no limit."""
        if not per_second:
            return True
        burst = max(1.0, per_second)
        tokens, then_s = self._buckets.get(pbx, (burst, now_s))
        tokens = min(burst, tokens + max(0.0, now_s - then_s) * per_second)
        allowed = tokens >= 1
        self._buckets[pbx] = tokens - allowed, max(now_s, then_s)
        return allowed
