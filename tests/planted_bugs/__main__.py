"""``python -m tests.planted_bugs``: every bug of the services, one at a time; exit status 0 when each was found.

First each command that is to find bugs runs without one: what is red anyway finds nothing. (That the tests are green
without a bug is what ``make test`` says.)
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from tests.planted_bugs.finding import PAIRING, SERVICES, copy_tree, finder_of, judge_of, outcome_of, run


def say(line: str) -> None:
    """Show progress."""
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def controls(finders: Iterable[str]) -> list[str]:
    """The commands that are red without any bug."""
    red = []
    for finder in sorted({*finders}):
        if not finder.startswith("python "):
            continue
        with tempfile.TemporaryDirectory(prefix="no-bug-") as folder:
            copy_tree(Path(folder))
            outcome = run(finder, Path(folder))
        say(f"without a bug: {finder}: {'green' if outcome.status == 0 else outcome.output}")
        if outcome.status:
            red.append(finder)
    return red


def main() -> int:
    """Plant, run, count."""
    parser = argparse.ArgumentParser(prog="python -m tests.planted_bugs", description=__doc__)
    parser.add_argument("--only", action="append", metavar="WORD", help="bugs with this in their name; can be repeated")
    parser.add_argument("--pairing", action="store_true", help="those of pairing too (make test looks for them)")
    parser.add_argument("--no-control", action="store_true", help="believe that the commands are green without a bug")
    parser.add_argument(
        "--judge", action="store_true", help="those that the verdict of a fault run must show, by that run"
    )
    given = parser.parse_args()
    patches = [*(PAIRING if given.pairing else ()), *SERVICES]
    patches = [one for one in patches if not given.only or any(word in one.stem for word in given.only)]
    finders = {one: judge_of(one) if given.judge else finder_of(one) for one in patches}
    named = {one: finder for one, finder in finders.items() if finder is not None}
    red_anyway = [] if given.no_control else controls(named.values())
    found = 0
    for number, (patch, finder) in enumerate(named.items(), 1):
        began_s = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="planted-bug-") as folder:
            outcome = outcome_of(patch, Path(folder), finder)
        is_found = outcome.is_red and finder not in red_anyway
        found += is_found
        took_s = time.monotonic() - began_s
        word = "found" if is_found else "NOT FOUND"
        say(f"{number}/{len(named)} {patch.stem}: {word} ({took_s:.0f} s) {outcome.why}")
        if not is_found:
            print(f"status {outcome.status}: {outcome.output[-3000:]}", flush=True)
    print(f"{found} of {len(named)} found: {'GREEN' if found == len(named) else 'RED'}")
    return int(found != len(named))


if __name__ == "__main__":
    sys.exit(main())
