"""Which faults, in which order: a list made from a seed. Pure."""

from dataclasses import dataclass
from itertools import cycle, islice
from random import Random
from typing import Literal

from tests.kills.points import POINTS, TAKEOVER

Kind = Literal["kill", "kill at", "zombie", "zombie at", "third"]


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done to a processor; `point` only with "at". The times are seconds.

    `after_s` at random after the processor has partitions; `away_s` then until another takes its place.
    """

    kind: Kind
    point: str
    nth: int
    after_s: float
    away_s: float

    def __str__(self) -> str:
        """As the progress shows it."""
        return f"{self.kind} {self.point} ({self.nth}.)" if self.point else self.kind


def plan(seed: int, kills: int, each_point: int, zombies: int, thirds: int) -> list[Fault]:
    """The faults of a run: of `kills` the named points have `each_point` each, of `zombies` every second is at one."""
    random = Random(seed)
    at_points = [point for point in POINTS for _ in range(each_point)]
    asleep_at = list(islice(cycle(random.sample(POINTS, len(POINTS))), zombies // 2))
    faults = [
        *(_fault(random, "kill at", point) for point in at_points),
        *(_fault(random, "kill") for _ in range(kills - len(at_points))),
        *(_fault(random, "zombie at", point) for point in asleep_at),
        *(_fault(random, "zombie") for _ in range(zombies - len(asleep_at))),
        *(_fault(random, "third") for _ in range(thirds)),
    ]
    random.shuffle(faults)
    return faults


def _fault(random: Random, kind: Kind, point: str = "") -> Fault:
    if point == "changelog-read":
        nth = random.randint(1, 60)
    elif point in TAKEOVER:
        nth = random.randint(1, 3)
    else:
        nth = random.randint(1, 40)
    return Fault(kind, point, nth if point else 0, random.uniform(0, 1.0), random.choice((0.0, 0.0, 0.5, 2.5)))
