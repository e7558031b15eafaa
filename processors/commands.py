"""The command line: no command runs the service; ``replay`` and ``diff`` end by themselves.

Exit status of replay: 0 done, 1 stopped by a fault (go on with --resume), 2 wrong use or configuration. Of diff: 0
equal, 1 different, 2 cannot tell. Of both: 130 after Ctrl-C, 143 after SIGTERM, the transaction at hand finished.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from typing import Final

from events.commands import run_command
from events.serving import run
from processors import app
from processors.diff import diff
from processors.replay import StoppedError, replay
from processors.settings import ProcessorsSettings

STOPPED: Final = 1


def main(arguments: Sequence[str]) -> None:
    """Run what the arguments say; ends the process with its exit status."""
    options = _parser().parse_args(arguments)
    if options.command is None:
        run("processors", ProcessorsSettings, app.main)
    try:
        run_command("processors", options.command, ProcessorsSettings, lambda settings: _work(settings, options))
    except StoppedError as error:
        sys.stderr.write(f"processors {options.command}: {error}\n")
        sys.exit(STOPPED)


async def _work(settings: ProcessorsSettings, options: argparse.Namespace) -> int:
    if options.command == "diff":
        told = {"told_as": options.format, "limit": options.limit, "common": options.common}
        return await diff(settings, options.prefix_a, options.prefix_b, **told)
    await replay(settings, options.to_prefix, options.partitions, resume=options.resume)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m processors",
        description="Pairs webhooks into call sessions. Without a command: the service, until told to stop.",
        epilog="Kafka, topics and rules are set by environment variables; see the README.",
    )
    commands = parser.add_subparsers(dest="command", metavar="replay | diff")
    again = commands.add_parser("replay", help="replay the webhooks from their start into a new set of output topics")
    again.add_argument("--to-prefix", required=True, metavar="PREFIX", help="of the new set: PREFIX.call-sessions, …")
    again.add_argument("--partitions", type=_partitions, metavar="0-3,7", help="only these; others share the work")
    again.add_argument("--resume", action="store_true", help="go on with a replay that was interrupted")
    differing = commands.add_parser("diff", help="compare the call sessions of two topic sets; exit status as diff(1)")
    differing.add_argument("prefix_a", metavar="PREFIX_A", help="such as threecx")
    differing.add_argument("prefix_b", metavar="PREFIX_B", help="such as threecx-2")
    differing.add_argument("--format", choices=("text", "json"), default="text")
    differing.add_argument("--limit", type=_limit, default=20, metavar="N", help="rows shown of each kind (20)")
    differing.add_argument("--common", action="store_true", help="only as far as both have come (one is still fed)")
    return parser


def _partitions(text: str) -> frozenset[int]:
    """``0-3,7``; raises argparse's error for anything else."""
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", part, re.ASCII)
        numbers = range(int(match[1]), int(match[2] or match[1]) + 1) if match else ()
        if not numbers:
            message = f"{text!r} is not a list of partitions; write it like 0-3,7"
            raise argparse.ArgumentTypeError(message)
        found.update(numbers)
    return frozenset(found)


def _limit(text: str) -> int:
    if not text.isdecimal():
        message = f"{text!r} is not a count; write 0 or more"
        raise argparse.ArgumentTypeError(message)
    return int(text)
