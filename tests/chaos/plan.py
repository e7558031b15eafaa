"""The plan of a run: which faults, in which order, how long; from a seed, the same always."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from tests.chaos import network
from tests.chaos.points import POINTS

PARTITIONS = 12
SERVICES = ("ingest", "processors-1", "processors-2", "projections-sqlite", "projections-postgres")


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: what is done, to whom, for how many seconds (0: at once)."""

    kind: str
    target: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        """For the log."""
        return f"{self.kind} {self.target} {self.seconds:g} s".replace("  ", " ")


KINDS = (
    "kill", "kill", "kill", "freeze", "kill broker", "freeze broker", "kill database", "cut", "reset", "stall",
    "stall answers", "slow", "lose commit answers", "hold commits", "clock", "steal transactional ids", "scale",
    "rolling restart", "double",
)  # fmt: skip
"""Every kind; SIGKILL of a service, the most usual one, three times as often."""
OF_THREE = ("kill leaders", "kill coordinator", "kill all brokers", "reassign")
"""With three brokers: the node that leads most partitions, the one that decides on transactions, all at once; or a
partition of each topic moves."""
TOGETHER = ("kill three", "freeze three")
"""Ingest, one of the processors and one of the projections, at once."""
CHOSEN = ("database away", "kill at", *TOGETHER)
"""Only when chosen: PostgreSQL is away for `--longest` seconds; SIGKILL at named points, each in turn, of three
services at once; what befalls three of them."""

OF_DISKS = ("power cut", "blackout", "disk full", "slow disk", "failing sync")
"""A blackout is a power cut of all disks at once."""
OF_NETWORK = network.KINDS
"""Root only, and only when chosen."""
OF_SERVICES = frozenset({"kill", "kill at", "freeze", *TOGETHER, "scale", "rolling restart", "double"})
"""What is done to a service's process: two of these at once would be done to one that is not there."""
ENDING = frozenset({"kill", "kill at", "kill three", "scale", "rolling restart", "power cut", "blackout"})
"""Some process of ours is another one afterwards."""
CLOSING = frozenset({"kill", "kill at", "freeze", *TOGETHER, "power cut", "blackout"})
"""While this befalls ingest no webhook can be answered."""
WORST = (("kill broker", "kafka-1"), ("freeze broker", "kafka-1"), ("stall", "processors"))
"""After which most has to be caught up with at once."""
AND = " + "
"""Between the targets of one fault."""


def lanes_of(faults: Sequence[Fault]) -> list[list[Fault]]:
    """What may happen side by side: faults of the services' processes, and all the others."""
    mine = [fault for fault in faults if fault.kind in OF_SERVICES]
    return [mine, [fault for fault in faults if fault.kind not in OF_SERVICES]]


def closes_the_door(fault: Fault) -> bool:
    """Whether no webhook can be answered meanwhile."""
    killed = fault.target.split(" ")[0] == "ingest" and fault.kind in CLOSING
    return killed or fault.target == "sender-ingest" or fault.kind == "rolling restart"


def may_refuse(fault: Fault) -> bool:
    """Whether ingest may answer 503: it cannot keep what comes."""
    return fault.target == "ingest" and fault.kind in OF_DISKS


def plan(
    seed: int,
    faults: int,
    *,
    longest_s: float,
    brokers: int,
    only: Sequence[str] | None = None,
    spared_from: int | None = None,
) -> list[Fault]:
    """So many faults; the first ones are one of each kind in random order, the rest by chance.

    `spared_from`: from that one on none ends a process of ours, so that a leak has time to show. Those begin with the
    worst, at their longest: what a process takes for them it keeps, and is no leak.
    """
    random = Random(seed)
    possible = tuple(only or (KINDS if brokers == 1 else (*KINDS, *OF_THREE)))
    kinds = sorted(set(possible))
    random.shuffle(kinds)
    lasting = [kind for kind in possible if kind not in ENDING]
    while len(kinds) < faults:
        kinds.append(random.choice(possible if spared_from is None or len(kinds) < spared_from else lasting))
    points = [random.sample(lane, len(lane)) for lane in POINT_LANES]
    made = [
        _fault(random, kind, longest_s, brokers, [lane[number % len(lane)] for lane in points])
        for number, kind in enumerate(kinds[:faults])
    ]
    if spared_from is not None:
        worst = [Fault(kind, target, longest_s) for kind, target in WORST]
        made[spared_from:] = (worst + made[spared_from + len(worst) :])[: faults - spared_from]
    return made


SPELLS_S = (0.1, 0.5, 1.0, 2.0, 5.0, 12.0, 30.0, 60.0)
WAYS = ("ingest", "processors", "projections")
PAIRS = (
    "ingest-brokers",
    "processors-brokers",
    "projections-brokers",
    "projections-postgres",
    "sender-ingest",
    "follower-projections",
)
LANES = (("ingest",), ("processors-1", "processors-2"), ("projections-sqlite", "projections-postgres"))
STORES_ON_DISKS = ("ingest", "kafka-1", "postgres", "projections-sqlite")
POINT_LANES = tuple(
    tuple(f"{service} {point}" for service in lane for point in POINTS[service.split("-")[0]])
    for lane in (("ingest", "projections-sqlite", "projections-postgres"), ("processors-1",), ("processors-2",))
)
"""A fault has one of each, all at once: so many of them meet every point."""
NTH_MAX = 4
JUMPS_S = (-7.0, 3.0, 30.0, -90.0, 3600.0, -86_400.0, 86_400.0 * 365 * 3, -86_400.0 * 365 * 3)


def _fault(random: Random, kind: str, longest_s: float, brokers: int, points: Sequence[str]) -> Fault:
    node = f"kafka-{random.randrange(brokers) + 1}"
    spell_s = min(longest_s, random.choice(SPELLS_S))
    if kind in TOGETHER:
        return Fault(kind, AND.join(random.choice(lane) for lane in LANES), spell_s)
    if kind == "blackout":
        return Fault(kind, AND.join(STORES_ON_DISKS), spell_s)
    pairs = PAIRS if brokers == 1 else (*PAIRS, "brokers")
    targets: dict[str, tuple[str, float]] = {
        **dict.fromkeys(("kill", "freeze"), (random.choice(SERVICES), spell_s)),
        **dict.fromkeys(("kill broker", "freeze broker"), (node, spell_s)),
        **dict.fromkeys(("cut", "stall", "stall answers", "slow"), (random.choice(WAYS), spell_s)),
        **dict.fromkeys(OF_THREE, ("", spell_s)),
        **dict.fromkeys(OF_DISKS, (random.choice(("ingest", node, "postgres", "projections-sqlite")), spell_s)),
        **dict.fromkeys(OF_NETWORK, (random.choice(pairs), spell_s)),
        "kill database": ("postgres", spell_s),
        "database away": ("postgres", longest_s),
        "kill at": (AND.join(f"{point} {random.randint(1, NTH_MAX)}" for point in points), 0.0),
        "reassign": (str(random.randrange(PARTITIONS)), 0.0),
        "reset": (random.choice(WAYS), 0.0),
        "lose commit answers": ("processors", 0.0),
        "hold commits": ("processors", random.choice((1.0, 4.0, 8.0))),
        "clock": ("ingest", random.choice(JUMPS_S)),
        "double": (random.choice(LANES[-1]), 0.0),
    }
    return Fault(kind, *targets.get(kind, ()))
