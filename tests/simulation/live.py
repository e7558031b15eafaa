"""Live time once more, from the design's section 3, for the model: nothing of the processors is used."""

from dataclasses import dataclass, field

COUNTED_US_MAX = 10_000_000
DAY_US = 86_400_000_000


@dataclass(slots=True)
class Clock:
    """`live_us` is the highest of the instances'; `head_us` the time of the record that last moved it."""

    live_us: int = 0
    head_us: int = 0
    last_us: dict[str, int] = field(default_factory=dict)
    own_us: dict[str, int] = field(default_factory=dict)

    def hear(self, instance: str, at_us: int) -> None:
        """A record of this instance, stamped so."""
        if instance in self.last_us:
            gap_us = at_us - self.last_us[instance]
            if 0 <= gap_us <= COUNTED_US_MAX:
                self.own_us[instance] += gap_us
        elif at_us >= self.head_us:
            self.own_us[instance] = self.live_us
        else:  # it begins behind by what it is behind, a day at most
            self.own_us[instance] = max(0, self.live_us - min(self.head_us - at_us, DAY_US))
        self.last_us[instance] = at_us
        if at_us >= self.head_us and self.own_us[instance] < self.live_us:
            self.own_us[instance] = self.live_us
        if self.own_us[instance] > self.live_us:
            self.live_us, self.head_us = self.own_us[instance], at_us
