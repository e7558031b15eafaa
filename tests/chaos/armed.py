"""``python -m tests.chaos.armed SERVICE POINT NTH``: the real service, until it comes to that point: then SIGKILL."""

import argparse

import ingest.app
import processors.app
import projections.app
from events.serving import run
from ingest.settings import IngestSettings
from processors.settings import ProcessorsSettings
from projections.settings import ProjectionsSettings
from tests.chaos.points import POINTS, arm


def main() -> None:
    """Read the arguments and become the service."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.armed", description=__doc__)
    parser.add_argument("service", choices=POINTS)
    parser.add_argument("point")
    parser.add_argument("nth", type=int)
    given = parser.parse_args()
    arm(given.service, given.point, given.nth)
    match given.service:
        case "ingest":
            run("ingest", IngestSettings, ingest.app.main)
        case "processors":
            run("processors", ProcessorsSettings, processors.app.main)
        case _:
            run("projections", ProjectionsSettings, projections.app.main)


if __name__ == "__main__":
    main()
