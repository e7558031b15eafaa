"""The command line: no command runs the service; ``rebuild``, ``forget`` and ``parity`` end by themselves.

Exit status: 0 done, 1 stopped by a fault (the views are as they were) or a verdict that does not hold, 2 wrong use or
configuration, 130 after Ctrl-C, 143 after SIGTERM.
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from events import times
from events.away import AwayError
from events.commands import run_command
from events.serving import run
from projections import app
from projections.erasing import forget
from projections.parity_told import Asked, parity
from projections.rebuilding import StoppedError, Wanted, rebuild
from projections.settings import ProjectionsSettings

STOPPED: Final = 1


def main(arguments: Sequence[str]) -> None:
    """Run what the arguments say; ends the process with its exit status."""
    options = _parser().parse_args(arguments)
    if options.command is None:
        run("projections", ProjectionsSettings, app.main)
    try:
        run_command("projections", options.command, ProjectionsSettings, lambda settings: _work(settings, options))
    except (StoppedError, AwayError) as error:
        sys.stderr.write(f"projections {options.command}: {error}\n")
        sys.exit(STOPPED)


async def _work(settings: ProjectionsSettings, options: argparse.Namespace) -> int:
    if options.command == "forget":
        return await forget(settings, options.number)
    if options.command == "parity":
        interval = timedelta(seconds=options.interval)
        return await parity(settings, Asked(options.begin, options.end, interval, options.least, options.format))
    return await rebuild(settings, Wanted(options.back, options.dry_run, options.limit))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m projections",
        description="Folds call sessions into the views and serves them. Without a command: until told to stop.",
        epilog="Kafka, the database and the PBXs are set by environment variables; see the README.",
    )
    commands = parser.add_subparsers(dest="command", metavar="rebuild | forget | parity")
    again = commands.add_parser("rebuild", help="build the views anew, beside the live ones, from the topic")
    again.add_argument("--back", action="store_true", help="to the version that the last exchange replaced")
    again.add_argument("--dry-run", action="store_true", help="tell what differs, and exchange nothing")
    again.add_argument("--limit", type=int, default=20, metavar="N", help="rows shown of each table (20)")
    gone = commands.add_parser("forget", help="take a party out of the views; says what the log still holds until when")
    gone.add_argument("number", metavar="NUMBER", help="in any spelling")
    both = commands.add_parser("parity", help="compare polled calls with those that came by webhook; 0: safe")
    both.add_argument("--from", dest="begin", type=_time, required=True, metavar="TIME", help="RFC 3339, with a zone")
    both.add_argument("--to", dest="end", type=_time, required=True, metavar="TIME")
    both.add_argument("--interval", type=float, default=1.0, metavar="SECONDS", help="of the poller (1)")
    both.add_argument(
        "--least", type=float, default=0.999, metavar="SHARE", help="that must have come by webhook (0.999)"
    )
    both.add_argument("--format", choices=("text", "json"), default="text")
    return parser


def _time(text: str) -> datetime:
    try:
        return times.from_text(text)
    except ValueError:
        message = f"{text!r} is not a time; write it like 2026-11-24T09:00:00Z"
        raise argparse.ArgumentTypeError(message) from None
