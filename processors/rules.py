"""The numbers that the pairing rules use, as time spans; each is a setting of the processors."""

from dataclasses import dataclass, field
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
    ring_max: timedelta = field(init=False, repr=False, compare=False)
    """How long before `end - duration` a start may lie: ringing and queueing."""
    tolerance: timedelta = field(init=False, repr=False, compare=False)
    """How long after `end - duration` a start may lie: clocks and rounding."""
    repeat_window: timedelta = field(init=False, repr=False, compare=False)
    """Within this, an identical body without reported times is a repeat."""

    def __post_init__(self) -> None:
        """Make the spans once: every event asks for them."""
        object.__setattr__(self, "ring_max", timedelta(seconds=self.ring_max_s))
        object.__setattr__(self, "tolerance", timedelta(seconds=self.tolerance_s))
        object.__setattr__(self, "repeat_window", timedelta(seconds=self.repeat_window_s))
