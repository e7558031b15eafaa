"""``python -m tests.witness_days --days 1000``: seeded days; exit status 1 when anything is wrong."""

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from functools import partial

from tests.witness_days.judge import judged


def main() -> int:
    """Read the arguments and run."""
    arguments = argparse.ArgumentParser(prog="python -m tests.witness_days", description=__doc__)
    arguments.add_argument("--days", type=int, default=1_000, help="how many days, each a seed")
    arguments.add_argument("--first", type=int, default=0, help="the first seed")
    arguments.add_argument("--hours", type=float, default=8.0, help="how long a day is")
    arguments.add_argument("--processes", type=int, default=1, help="how many processes")
    given = arguments.parse_args()
    began = time.monotonic()
    counts: Counter[str] = Counter()
    wrong = 0
    with multiprocessing.Pool(given.processes) as pool:
        seeds = range(given.first, given.first + given.days)
        for done, found in enumerate(pool.imap_unordered(partial(judged, hours=given.hours), seeds), 1):
            counts += found.counts
            wrong += len(found.wrong)
            for one in found.wrong[:5]:
                print(f"\nseed {found.seed}: {one}")
            print(f"\r{done}/{given.days} days, {time.monotonic() - began:.0f} s ", end="", flush=True)
    print()
    for name, count in sorted(counts.items()):
        print(f"{count:>10,} {name}")
    print(f"{given.days:,} days, {wrong} things wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
