"""``python -m bench.sizing``: what a site needs, by a simulation of its traffic with costs that were measured.

Agents belong to PBXs of uneven size (lognormal); a PBX is a key, and keys go to partitions as Kafka's own partitioner
puts them. Webhooks of each PBX arrive at random (Poisson). A process takes what waits, at most a batch, and needs the
measured time for a transaction and for each event; so for the processors, and after them for the projections. Seeded:
the same options give the same figures. What is not simulated: the broker, the network, a process that dies.
"""

import argparse
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aiokafka.partitioner import murmur2

PAIRED_EVENT_S: Final = 1 / 3_221
"""README, "Measured": paired events a second, exactly once, with broker and load on the same two cores."""
TRANSACTION_S: Final = 0.0077
"""README: transactions in a row, p50."""
PROJECTED_EVENT_S: Final = 1 / 4_845
ACCEPTED_S: Final = 1 / 5_674
OPEN_CALL_BYTES: Final = 971
RESTORED_PER_S: Final = 91_883
WEBHOOK_BYTES: Final = 700
"""A body with its headers, in the journal and in the topic; the seed's end sample has 300."""
BATCH_RECORDS_MAX: Final = 2_000
PARTITION_MASK: Final = 0x7FFFFFFF
HEADROOM: Final = 0.6
"""Of a process's time at the most: the rest takes over when one of the others dies."""


@dataclass(frozen=True)
class Site:
    """What is asked for."""

    agents: int
    webhooks_per_s: float
    agents_per_pbx: int
    partitions: int
    processors: int
    seconds: int
    seed: int


def loads(site: Site) -> list[float]:
    """Webhooks a second of each partition."""
    chance = random.Random(site.seed)
    count = max(1, site.agents // site.agents_per_pbx)
    sizes = [chance.lognormvariate(0, 1) for _ in range(count)]
    per_partition = [0.0] * site.partitions
    for number, size in enumerate(sizes):
        partition = (murmur2(f"pbx-{number}".encode()) & PARTITION_MASK) % site.partitions
        per_partition[partition] += site.webhooks_per_s * size / sum(sizes)
    return per_partition


def assigned(per_partition: Sequence[float], processes: int) -> list[float]:
    """Webhooks a second of each process: partitions go round, as the assignor deals them."""
    return [sum(per_partition[number::processes]) for number in range(processes)]


def waits(rate: float, event_s: float, batch_s: float, site: Site) -> list[float]:
    """Seconds from arrival to the end of the batch, for each event of the simulated time."""
    chance = random.Random(f"{site.seed}/{rate}")
    arrivals: list[float] = []
    at = chance.expovariate(rate) if rate else math.inf
    while at < site.seconds:
        arrivals.append(at)
        at += chance.expovariate(rate)
    found: list[float] = []
    free = 0.0
    while len(found) < len(arrivals):
        begin = max(free, arrivals[len(found)])
        last = len(found)
        while last < len(arrivals) and arrivals[last] <= begin and last - len(found) < BATCH_RECORDS_MAX:
            last += 1
        free = begin + batch_s + (last - len(found)) * event_s
        found.extend(free - one for one in arrivals[len(found) : last])
    return found


def percentile(values: Sequence[float], share: float) -> float:
    """Of a non-empty list."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def report(site: Site) -> list[tuple[str, str]]:
    """What is needed, and what comes out of it."""
    per_partition = loads(site)
    per_process = assigned(per_partition, site.processors)
    busiest = max(per_process)
    delays = waits(busiest, PAIRED_EVENT_S, TRANSACTION_S, site)
    needed = math.ceil(site.webhooks_per_s * PAIRED_EVENT_S / HEADROOM)
    open_calls = site.agents // 2
    per_day = site.webhooks_per_s * WEBHOOK_BYTES * 86_400 / 1e9
    return [
        ("PBXs, partitions", f"{max(1, site.agents // site.agents_per_pbx):,}, {site.partitions}"),
        (
            "busiest partition",
            f"{max(per_partition):,.0f} webhooks/s (mean {site.webhooks_per_s / site.partitions:,.0f})",
        ),
        ("processors needed", f"{needed} at {HEADROOM:.0%} of a core each; simulated with {site.processors}"),
        ("busiest processor", f"{busiest:,.0f} webhooks/s, {busiest * PAIRED_EVENT_S:.0%} of a core"),
        (
            "receipt to session",
            f"p50 {percentile(delays, 0.5) * 1e3:.0f} ms, p99 {percentile(delays, 0.99) * 1e3:.0f} ms",
        ),
        ("ingest needed", f"{math.ceil(site.webhooks_per_s * ACCEPTED_S / HEADROOM)} instances"),
        ("projecting needed", f"{site.webhooks_per_s * PROJECTED_EVENT_S:.1f} cores (all views in one database)"),
        (
            "open calls",
            f"{open_calls:,} (half the agents): {open_calls * OPEN_CALL_BYTES / 1e6:,.0f} MB over all processors",
        ),
        ("restore", f"{open_calls / site.processors / RESTORED_PER_S:.1f} s after a processor died"),
        ("journal", f"{site.webhooks_per_s * WEBHOOK_BYTES * 3_600 / 1e9:,.1f} GB for each hour that Kafka is away"),
        ("webhooks in Kafka", f"{per_day:,.0f} GB a day and copy; {per_day * 400 / 1e3:,.0f} TB in 400 days"),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.sizing", description="What a site needs, simulated.")
    parser.add_argument("--agents", type=int, default=100_000)
    parser.add_argument("--webhooks-per-s", type=float, default=10_000)
    parser.add_argument("--agents-per-pbx", type=int, default=500, help="mean; sizes are uneven (lognormal)")
    parser.add_argument("--partitions", type=int, default=48)
    parser.add_argument("--processors", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=60, help="of simulated time")
    parser.add_argument("--seed", type=int, default=1)
    site = Site(**vars(parser.parse_args(arguments)))
    for name, value in report(site):
        print(f"{name:<20} {value}")


if __name__ == "__main__":
    main()
