"""``python -m tests.kills.processor --point NAME --nth N``: the processors, until they come to a point.

There the process kills itself with SIGKILL, or stops itself with SIGSTOP (``--signal STOP``) to be woken as a zombie.
"""

import argparse
import os
import signal

from events.serving import run
from processors.app import main
from processors.settings import ProcessorsSettings
from tests.kills.points import POINTS, mark

SIGNALS = {"KILL": signal.SIGKILL, "STOP": signal.SIGSTOP}


def arm(point: str, nth: int, number: signal.Signals) -> None:
    """Send this process the signal when it comes to the point for the n-th time."""
    count = 0

    def reached(name: str) -> None:
        nonlocal count
        count += name == point
        if name == point and count == nth:
            os.write(2, f'{{"event": "point reached", "point": "{point}", "nth": {nth}}}\n'.encode())
            os.kill(os.getpid(), number)

    mark(reached)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.kills.processor", description=__doc__)
    parser.add_argument("--point", choices=POINTS, required=True)
    parser.add_argument("--nth", type=int, default=1)
    parser.add_argument("--signal", choices=list(SIGNALS), default="KILL")
    given = parser.parse_args()
    arm(given.point, given.nth, SIGNALS[given.signal])
    run("processors", ProcessorsSettings, main)
