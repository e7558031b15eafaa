"""``python -m tests.chaos``: faults of every kind on a whole system, and a verdict; exit status 0 when it is clean.

A red run keeps its folder (ledger, logs, data) and says how it is run again.
"""

import argparse
import asyncio
import json
import shlex
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

from tests.chaos import disks, network
from tests.chaos.plan import OF_DISKS, OF_NETWORK, WORST, Fault, plan
from tests.chaos.run import Report, Run
from tests.chaos.site import Surroundings
from tests.chaos.soak import seconds_of
from tests.faults.loop import own_mounts

P99 = 0.99
FAULT_EVERY_S = 60.0
TIMES = ("soak", "retention")


def say(line: str) -> None:
    """Show progress."""
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def tell(report: Report) -> None:
    """The faults with their recovery, the answers, the six lines."""
    print(f"\n{'fault':<24} {'how many':>8} {'caught up after, median / max':>32}")
    for kind, times in sorted(report.recovery_s.items()):
        print(f"{kind:<24} {len(times):>8} {statistics.median(times):>20.1f} s / {max(times):.1f} s")
    answers = sorted(report.answers_s)
    if answers:
        print(f"answers: {len(answers):,}; p99 {answers[int(P99 * len(answers))]:.3f} s, slowest {answers[-1]:.3f} s")
    recovered = sorted(one for times in report.recovery_s.values() for one in times)
    if recovered:
        over = sorted(one for times in report.since_over_s.values() for one in times)
        print(
            f"caught up: p99 {recovered[int(P99 * len(recovered))]:.1f} s over {len(recovered)} faults;"
            f" with the start of who was killed {over[int(P99 * len(over))]:.1f} s"
        )
    print("also:", ", ".join(f"{name} {count}" for name, count in sorted(report.done.items())), "\n")
    for line in report.lines:
        print(line)
    for violation in report.violations:
        print("VIOLATION", violation)
    print("RED" if report.violations else "GREEN")


def written(report: Report) -> str:
    """The report as JSON, for `campaign`; times in seconds."""
    counts = {name: count for line in report.lines for name, count in line.counts.items()}
    return json.dumps(
        {
            "recovery_s": _rounded(report.recovery_s),
            "since_over_s": _rounded(report.since_over_s),
            "counts": {"attempts": counts.get("of attempts", 0), "session events": counts.get("session events", 0)},
            "slowest_answer_s": round(max(report.answers_s, default=0.0), 2),
            "violations": report.violations,
        }
    )


def _rounded(times_of: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    return {kind: [round(one, 2) for one in times] for kind, times in times_of.items()}


def surroundings_for(faults: Sequence[Fault], brokers: int, retention_s: float) -> Surroundings:
    """What the faults need, made ready; ends the process when it cannot be had."""
    kinds = {fault.kind for fault in faults}
    disky, networked = bool(kinds & {*OF_DISKS}), bool(kinds & {*OF_NETWORK})
    if (disky and not disks.is_possible()) or (networked and not network.is_possible()):
        sys.exit("faults of disks and of the network below TCP need root, strace and iptables")
    if disky:
        own_mounts()
    if networked:
        network.own_network()
    if disky and retention_s:
        sys.exit("a disk that loses what it was not told to sync, and retention: what is gone could not be told apart")
    return Surroundings(brokers, disky, retention_s)


def again(given: argparse.Namespace) -> str:
    """The command that makes the same run; the folder is another one."""
    words = ["python", "-m", "tests.chaos"]
    for name, value in vars(given).items():
        if name not in {"folder", "report"} and value is not None:
            values = value if isinstance(value, list) else [f"{value:g}s" if name in TIMES else value]
            words += [word for one in values for word in (f"--{name}", str(one))]
    return shlex.join(words)


def main() -> int:
    """Parse, run, tell."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--faults", type=int, default=60, help="how many (60); the first ones are one of each kind")
    parser.add_argument("--brokers", type=int, choices=(1, 3), default=1, help="Kafka nodes; 3: replication 3, min 2")
    parser.add_argument("--rate", type=float, default=200.0, help="webhooks a second (200)")
    parser.add_argument("--rest", type=float, default=2.0, metavar="SECONDS", help="between two faults (2)")
    parser.add_argument("--longest", type=float, default=30.0, metavar="SECONDS", help="of one fault (30)")
    parser.add_argument("--soak", type=seconds_of, metavar="TIME", help="a fault a minute for so long (90s, 10m, 1h)")
    parser.add_argument("--retention", type=seconds_of, metavar="TIME", help="the topics keep so much (everything)")
    parser.add_argument("--only", action="append", metavar="KIND", help="only faults of this kind; can be repeated")
    parser.add_argument("--seed", type=int, default=Random().randrange(10**6))
    parser.add_argument("--folder", type=Path, help="keep everything there, green or red")
    parser.add_argument("--report", type=Path, help="write what it came to there, as JSON")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    if given.soak:
        given.faults = max(1, round(given.soak / FAULT_EVERY_S))
    spared_from = given.faults // 2 if given.soak else None
    faults = plan(
        given.seed,
        given.faults,
        longest_s=given.longest,
        brokers=given.brokers,
        only=given.only,
        spared_from=spared_from,
    )
    say(f"seed {given.seed}: {len(faults)} faults, {given.brokers} broker(s), {given.rate:g} webhooks/s; {folder}")
    surroundings = surroundings_for(faults, given.brokers, given.retention or 0.0)
    run = Run(folder, given.seed, given.rate, surroundings, faults, say)
    try:
        every_s, warm_after = (FAULT_EVERY_S, (spared_from or 0) + len(WORST)) if given.soak else (0.0, 0)
        report = asyncio.run(run.one_by_one(given.rest, every_s, warm_after))
    except BaseException:
        print(f"no verdict; evidence: {folder}\nagain: {again(given)}")
        raise
    run.watch.keep(folder / "processes.csv")
    if given.soak:
        report.problems += run.watch.problems()
        print("", *run.watch.told(), sep="\n")
    tell(report)
    if given.report:
        given.report.write_text(written(report))
    if report.violations:
        print(f"evidence: {folder}\nagain: {again(given)}")
        return 1
    if given.folder is None:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
