"""``python -m tests.simulation --seeds 50000``: the real core against the model; exit code 1 on a difference."""

import argparse
import sys

from tests.simulation.run import run


def main() -> int:
    """Read the arguments and run."""
    arguments = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    arguments.add_argument("--seeds", type=int, default=1000, help="how many seeds")
    arguments.add_argument("--first", type=int, default=0, help="the first seed")
    arguments.add_argument("--processes", type=int, default=2, help="how many processes")
    arguments.add_argument("--keep-going", action="store_true", help="name every seed that differs, show none")
    given = arguments.parse_args()
    return run(given.first, given.seeds, given.processes, keep_going=given.keep_going)


if __name__ == "__main__":
    sys.exit(main())
