"""The command line: no command runs the service; ``rebuild`` ends by itself.

Exit status of rebuild: 0 done, 1 stopped by a fault (the views are as they were), 2 wrong use or configuration,
130 after Ctrl-C, 143 after SIGTERM.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Final

from events.commands import run_command
from events.serving import run
from projections import app
from projections.rebuilding import StoppedError, Wanted, rebuild
from projections.settings import ProjectionsSettings

STOPPED: Final = 1


def main(arguments: Sequence[str]) -> None:
    """Run what the arguments say; ends the process with its exit status."""
    options = _parser().parse_args(arguments)
    if options.command is None:
        run("projections", ProjectionsSettings, app.main)
    wanted = Wanted(options.back, options.dry_run, options.limit)
    try:
        run_command("projections", options.command, ProjectionsSettings, lambda settings: rebuild(settings, wanted))
    except StoppedError as error:
        sys.stderr.write(f"projections {options.command}: {error}\n")
        sys.exit(STOPPED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m projections",
        description="Folds call sessions into the views and serves them. Without a command: until told to stop.",
        epilog="Kafka, the database and the PBXs are set by environment variables; see the README.",
    )
    commands = parser.add_subparsers(dest="command", metavar="rebuild")
    again = commands.add_parser("rebuild", help="build the views anew, beside the live ones, from the topic")
    again.add_argument("--back", action="store_true", help="to the version that the last exchange replaced")
    again.add_argument("--dry-run", action="store_true", help="tell what differs, and exchange nothing")
    again.add_argument("--limit", type=int, default=20, metavar="N", help="rows shown of each table (20)")
    return parser
