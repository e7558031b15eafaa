"""The bytes that one log leads to, as a digest; run as a program it is a process of its own, whatever its surroundings.

``python -m tests.replaying YEARS``: with the wall clock wrong by so many years.
"""

import hashlib
import sys
import time
from collections.abc import Iterable

from processors.task import Batch
from tests.builders import cut, new_task
from tests.chaotic_feed import RULES, chaotic_feed

RECORDS = chaotic_feed(7, webhooks=300)
YEAR_S = 365 * 86_400


def digest(batches: Iterable[Batch]) -> str:
    """Of each session event's key, value and headers, in order."""
    found = hashlib.sha256()
    for batch in batches:
        for one in batch.session_events:
            found.update(repr((one.key, one.value, tuple(one.headers))).encode())
    return found.hexdigest()


def replayed(batch_size: int = 100) -> str:
    """The log through an empty task."""
    task = new_task(RULES)
    return digest(task.process(part) for part in cut(RECORDS, batch_size))


def main(years: int) -> None:
    """Replay under a wrong clock, and print the digest."""
    real = time.time
    time.time = lambda: real() + years * YEAR_S
    time.time_ns = lambda: int(time.time() * 1e9)
    sys.stdout.write(replayed())


if __name__ == "__main__":
    main(int(sys.argv[1]))
