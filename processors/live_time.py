"""Live time: how long ingest was there to hear an end. Deadlines and retention are measured in it. Pure.

The processors have no clock of their own. Per ingest instance, the gap between a record's `ce_time` and that
instance's previous one counts if it lies between 0 and 10 s; a longer gap (the instance was away), a step back or a
new instance counts nothing and is an alarm. The partition's live time is the highest of the instances'. An instance
at the head (its `ce_time` is not before the one at which live time was last moved) has at least the partition's live
time; one behind it works off a backlog and keeps its own, so that the same hour never counts twice. A new one behind it
begins as far back as its `ce_time` says, a day at most: otherwise, should a fast clock have led and gone, the partition
would stand still until a new instance had counted all of live time again. Microseconds throughout.
Source: the design, section 3.
"""

from dataclasses import dataclass, field
from typing import Literal

GAP_US_MAX = 10_000_000
SECOND_US = 1_000_000
INSTANCES_MAX = 64
"""More instances than this are never alive at once; the one heard longest ago is forgotten (it is then new again)."""

BACKLOG_US_MAX = 24 * 3600 * SECOND_US

Alarm = Literal["new_instance", "gap", "step_back"]


@dataclass(slots=True)
class Instance:
    """One ingest instance: the `ce_time` of its last record (µs since 1970) and the live time it has seen."""

    last_us: int
    live_us: int


@dataclass(slots=True)
class LiveTime:
    """The clock of one partition; only `advance` moves it."""

    live_us: int = 0
    head_us: int = 0
    instances: dict[str, Instance] = field(default_factory=dict)

    def advance(self, instance: str, at_us: int) -> Alarm | None:
        """Take note of a record of `instance` with this `ce_time`; returns the alarm that it raises, if any."""
        known = self.instances.pop(instance, None)
        alarm: Alarm | None = None
        if known is None:
            alarm = "new_instance"
            behind_us = min(max(0, self.head_us - at_us), BACKLOG_US_MAX)
            known = Instance(at_us, max(0, self.live_us - behind_us))
        elif 0 <= (gap := at_us - known.last_us) <= GAP_US_MAX:
            known.live_us += gap
        else:
            alarm = "step_back" if gap < 0 else "gap"
        if at_us >= self.head_us:
            known.live_us = max(known.live_us, self.live_us)
        known.last_us = at_us
        self.instances[instance] = known  # last in the dictionary: the one heard most recently
        if known.live_us > self.live_us:
            self.live_us, self.head_us = known.live_us, at_us
        if len(self.instances) > INSTANCES_MAX:
            del self.instances[next(iter(self.instances))]
        return alarm
