"""``python -m tests.chaos.campaign``: as many faults of each kind as are wanted, in runs of some minutes, and a table.

What each run came to is a line of the results' file, and what stands there is not made again: a campaign may be stopped
at any time and goes on where it was. Exit status 0 when every run that was made is green.
"""

import argparse
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.chaos.plan import OF_NETWORK

ROOT: Final = Path(__file__).parents[2]
RESULTS: Final = ROOT / "docs/chaos/results.jsonl"
P99: Final = 0.99
LOST: Final = ("lost", "stale", "gap")
DOUBLED: Final = ("duplicate",)
Result = dict[str, Any]
ANEW: Final = "python -m tests.chaos.campaign --results mine.jsonl --minutes 400"
NO_VERDICT: Final[Result] = {
    "recovery_s": {},
    "counts": {"attempts": 0, "session events": 0},
    "slowest_answer_s": 0.0,
    "violations": ["it came to no verdict"],
}


@dataclass(frozen=True, slots=True)
class Row:
    """Faults of these kinds: how many are wanted, how many of them a run makes, and how the run is made."""

    name: str
    kinds: Sequence[str]
    wanted: int
    a_run: int
    options: str = "--rate 60 --rest 0.2 --longest 1"

    def command(self, faults: int, seed: int) -> list[str]:
        """Of a run, after ``python``."""
        kinds = [word for kind in self.kinds for word in ("--only", kind)]
        return ["-m", "tests.chaos", *kinds, "--faults", str(faults), *self.options.split(), "--seed", str(seed)]


_THREE: Final = "--brokers 3 --rate 20 --rest 0.2 --longest 2"
_BUSY: Final = "--rate 200 --rest 0.2 --longest 1"
ROWS: Final = (
    Row("SIGKILL of a service", ("kill",), 30, 30, _BUSY),
    Row("SIGKILL of three services at once", ("kill three",), 90, 15, _BUSY),
    Row("SIGKILL of three services, each at a named point, all ten times", ("kill at",), 160, 16, _BUSY),
    Row("SIGSTOP of three services, up to 60 s", ("freeze three",), 34, 17, "--rate 60 --rest 0.2 --longest 60"),
    Row("transactional ids stolen", ("steal transactional ids",), 30, 15),
    Row("two projections on one database", ("double",), 30, 15),
    Row("SIGKILL of a single broker", ("kill broker",), 100, 25),
    Row("SIGKILL of leaders, of the coordinator", ("kill leaders", "kill coordinator"), 60, 15, _THREE),
    Row("SIGKILL of all three brokers", ("kill all brokers",), 20, 10, _THREE),
    Row("commits held back, answers lost", ("hold commits", "lose commit answers"), 60, 30),
    Row("the network: cut, reset, loss, narrow", OF_NETWORK, 60, 15, "--brokers 3 --rate 20 --rest 0.2 --longest 30"),
    Row("power cut of all disks", ("blackout",), 40, 10, "--rate 20 --rest 0.2 --longest 1"),
    Row("disk full, slow, failing sync", ("disk full", "slow disk", "failing sync"), 50, 10, "--rate 20 --longest 1"),
    Row("ingest's clock jumps, seconds to years", ("clock",), 20, 20),
    Row("1, 3, 1 processors; rolling restart", ("scale", "rolling restart"), 40, 10),
    Row("a partition is reassigned", ("reassign",), 10, 10, _THREE),
    Row("PostgreSQL killed", ("kill database",), 40, 20),
    Row("PostgreSQL away for 10 minutes", ("database away",), 5, 1, "--rate 60 --rest 0.2 --longest 600"),
)


def results_in(path: Path) -> list[Result]:
    """What the runs came to, in the order in which they were made."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def due(rows: Sequence[Row], results: Iterable[Result]) -> tuple[Row, int, int] | None:
    """The row that is furthest behind, the faults and the number of its next run; null: all are made."""
    done = {row.name: 0 for row in rows}
    runs = dict(done)
    for result in results:
        if result["row"] in done:
            runs[result["row"]] += 1
            done[result["row"]] += sum(map(len, result["recovery_s"].values()))
    behind = [row for row in rows if done[row.name] < row.wanted]
    if not behind:
        return None
    # By runs, not by what they made: a row whose runs come to nothing does not keep the others waiting.
    row = min(behind, key=lambda one: runs[one.name] * one.a_run / one.wanted)
    return row, min(row.a_run, row.wanted - done[row.name]), runs[row.name]


def made(row: Row, faults: int, seed: int) -> Result:
    """The result of one run; one that came to no verdict made no fault that counts, and is red."""
    command = row.command(faults, seed)
    print(f"{time.strftime('%H:%M:%S')} python {shlex.join(command)}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        began = time.monotonic()
        subprocess.run([sys.executable, *command, "--report", str(report)], cwd=ROOT, check=False)
        came_to = json.loads(report.read_text()) if report.exists() else NO_VERDICT
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout.strip()
        return {
            "row": row.name,
            "day": time.strftime("%Y-%m-%d"),
            "commit": commit,
            "command": shlex.join(["python", *command]),
            "took_s": round(time.monotonic() - began),
            "load": round(os.getloadavg()[2], 1),
            **came_to,
        }


def table(rows: Sequence[Row], results: Sequence[Result]) -> list[str]:
    """All that was made, as Markdown."""
    head = (
        "fault",
        "made, of wanted",
        "lost, doubled, wrong",
        "caught up: median, p99, most",
        "including restart time",
        "slowest answer",
        "the last run",
    )
    made_of = {row: found for row in rows if (found := [one for one in results if one["row"] == row.name])}
    lines = [_line(row.name, row.wanted, found, f"`{found[-1]['command']}`") for row, found in made_of.items()]
    if len(made_of) > 1:
        every = [one for found in made_of.values() for one in found]
        lines.append(_line("all of these", sum(row.wanted for row in made_of), every, f"`{ANEW}`"))
    return [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *lines]


def _line(name: str, wanted: int, results: Sequence[Result], command: str) -> str:
    caught_up = sorted(one for result in results for times in result["recovery_s"].values() for one in times)
    judged = [result for result in results if result["violations"] != NO_VERDICT["violations"]]
    wrong = [violation.split(": ", 1)[-1] for result in judged for violation in result["violations"]]
    lost = sum(_how_many(one) for one in wrong if any(word in one for word in LOST))
    doubled = sum(_how_many(one) for one in wrong if any(word in one for word in DOUBLED))
    other = sum(_how_many(one) for one in wrong) - lost - doubled
    counts = [result["counts"] for result in results]
    requests, events = (sum(one[name] for one in counts) for name in ("attempts", "session events"))
    with_start = sorted(one for result in results for times in result.get("since_over_s", {}).values() for one in times)
    red, unjudged = sum(bool(result["violations"]) for result in judged), len(results) - len(judged)
    slowest_s = max(result["slowest_answer_s"] for result in results)
    return (
        f"| {name} | {len(caught_up)}, {wanted} | {lost}, {doubled}, {other}"
        f" of {requests:,} requests, {events:,} session events"
        + (f" ({red} of {len(judged)} runs red)" if red else "")
        + (f" ({unjudged} more runs came to no verdict)" if unjudged else "")
        + f" | {_spread(caught_up)} | {_spread(with_start)} | {slowest_s:.1f} s | {command} |"
    )


def _how_many(violation: str) -> int:
    """Of "lost-write (2): a; b" two; what has no number is one."""
    found = re.search(r"\((\d+)\)", violation)
    return int(found[1]) if found else 1


def _spread(times: Sequence[float]) -> str:
    """Of sorted times."""
    if not times:
        return "-"
    return (
        " / ".join(f"{one:.1f}" for one in (statistics.median(times), times[int(P99 * len(times))], times[-1])) + " s"
    )


def main() -> int:
    """Parse, run what is due, tell."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.campaign", description=__doc__)
    parser.add_argument("--minutes", type=float, default=0.0, help="begin no run after so long (0: only the table)")
    parser.add_argument("--row", action="append", choices=[row.name for row in ROWS], help="only this; can be repeated")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    rows = [row for row in ROWS if given.row is None or row.name in given.row]
    until = time.monotonic() + given.minutes * 60
    given.results.parent.mkdir(parents=True, exist_ok=True)
    while time.monotonic() < until and (next_one := due(rows, results_in(given.results))) is not None:
        row, faults, number = next_one
        result = made(row, faults, 1000 * ROWS.index(row) + number)
        with given.results.open("a") as file:
            file.write(json.dumps(result) + "\n")
    results = [one for one in results_in(given.results) if one["row"] in {row.name for row in rows}]
    print(*table(rows, results), sep="\n")
    return 1 if any(one["violations"] for one in results) else 0


if __name__ == "__main__":
    sys.exit(main())
