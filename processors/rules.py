"""The numbers that the pairing rules use, as time spans; each is a setting of the processors."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Rules:
    """All in whole seconds. Two processors of one group must use the same, and a replay too."""

    call_duration_max_s: int = 14_400
    superseded_grace_s: int = 900
    ring_max_s: int = 3_600
    tolerance_s: int = 120
    closed_kept_s: int = 86_400
    repeat_window_s: int = 60
    absence_grace_s: int = 60

    @property
    def ring_max(self) -> timedelta:
        """How long before `end - duration` a start may lie: ringing and queueing."""
        return timedelta(seconds=self.ring_max_s)

    @property
    def tolerance(self) -> timedelta:
        """How long after `end - duration` a start may lie: clocks and rounding."""
        return timedelta(seconds=self.tolerance_s)

    @property
    def repeat_window(self) -> timedelta:
        """Within this, an identical body without reported times is a repeat."""
        return timedelta(seconds=self.repeat_window_s)
