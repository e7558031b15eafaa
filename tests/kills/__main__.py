"""``python -m tests.kills``: SIGKILLs, zombies and third processors by the hundred, and a verdict.

Uses the broker of KAFKA_BOOTSTRAP_SERVERS, else starts one. Exit status 0 when the verdict is green.
"""

import argparse
import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from random import Random

from deploy.local.brokers import running
from tests.kills.plan import Fault, plan
from tests.kills.points import POINTS
from tests.kills.run import Report, Run, settings_for


def say(line: str) -> None:
    """Show progress."""
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


@contextlib.contextmanager
def broker() -> Iterator[str]:
    """The given broker, or one of our own."""
    given = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if given:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="kills-kafka-") as folder, running(Path(folder)) as own:
        yield own.bootstrap_servers


async def run(servers: str, folder: Path, given: argparse.Namespace, faults: list[Fault]) -> Report:
    """One run in a fresh set of topics."""
    settings = settings_for(servers, f"kills-{uuid.uuid4().hex[:8]}")
    one = Run(settings, folder, given.seed, given.rate, say)
    async with one.watching():
        return await one.go(faults, given.workers, given.minutes * 60)


def tell(report: Report, seed: int) -> None:
    """The verdict, with what it rests on."""
    seen = report.verdict
    print(f"seed {seed}; {report.kills} kills, {report.zombies} zombies; faults {report.faults_s:.0f} s")
    print("done:", ", ".join(f"{name} {count}" for name, count in sorted(report.done.items())))
    print("kills at points:", ", ".join(f"{name} {report.at_points[name]}" for name in POINTS))
    print(
        f"compared: {seen.records} records, {seen.session_events} session events, {seen.dead_letters} dead letters,"
        f" {seen.changelog_keys} changelog keys; {report.total_s:.0f} s in all"
    )
    for problem in report.problems:
        print("PROBLEM", problem)
    print("RED" if report.problems else "GREEN: none lost, none twice, none out of order")


def main() -> int:
    """Parse, run, tell; 0 for green."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="SIGKILLs, those at points included")
    parser.add_argument("--points", type=int, default=5, help="SIGKILLs at each named point")
    parser.add_argument("--zombies", type=int, default=50, help="half of them stopped at a named point")
    parser.add_argument("--thirds", type=int, default=10, help="third processors that join and leave")
    parser.add_argument("--workers", type=int, default=2, help="processors, each with one fault after the other")
    parser.add_argument("--rate", type=float, default=120.0, help="records a second")
    parser.add_argument("--minutes", type=float, default=25.0, help="the most that the faults may take")
    parser.add_argument("--seed", type=int, default=Random().randrange(10**6))
    parser.add_argument("--folder", type=Path, help="keep the logs there, green or red")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="kills-"))
    folder.mkdir(parents=True, exist_ok=True)
    faults = plan(given.seed, given.kills, given.points, given.zombies, given.thirds)
    say(f"seed {given.seed}: {len(faults)} faults; logs in {folder}")
    with broker() as servers:
        report = asyncio.run(run(servers, folder, given, faults))
    tell(report, given.seed)
    if report.problems:
        print(f"evidence: {folder}")
        return 1
    if given.folder is None:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
