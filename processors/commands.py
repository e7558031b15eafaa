"""The command line: no command runs the service; ``replay``, ``diff`` and ``dead-letters`` end by themselves.

Exit status of replay: 0 done, 1 stopped by a fault (go on with --resume), 2 wrong use or configuration. Of diff: 0
equal, 1 different, 2 cannot tell. Of dead-letters: 0 done, 1 some are no webhooks and stay, 2
wrong use. Of all: 130 after Ctrl-C, 143 after SIGTERM, the transaction at hand finished.
"""

import argparse
import asyncio
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from events.commands import run_command
from events.serving import run
from events.settings import ConfigurationError, exit_with
from processors import app, letters
from processors.changelog import ChangelogError
from processors.diff import diff
from processors.replay import StoppedError, replay
from processors.settings import ProcessorsSettings

STOPPED: Final = 1


def main(arguments: Sequence[str]) -> None:
    """Run what the arguments say; ends the process with its exit status."""
    options = _parser().parse_args(arguments)
    try:
        if options.command is None:
            run("processors", ProcessorsSettings, app.main)
        run_command("processors", options.command, ProcessorsSettings, lambda settings: _work(settings, options))
    except StoppedError as error:
        sys.stderr.write(f"processors {options.command}: {error}\n")
        sys.exit(STOPPED)
    except ChangelogError as error:
        exit_with("processors", ConfigurationError(str(error)))


async def _work(settings: ProcessorsSettings, options: argparse.Namespace) -> int:
    if options.command == "diff":
        told = {"told_as": options.format, "limit": options.limit, "common": options.common}
        return await diff(settings, options.prefix_a, options.prefix_b, **told)
    if options.command == "dead-letters":
        return await _dead_letters(settings, options)
    await replay(settings, options.to_prefix, options.partitions, resume=options.resume)
    return 0


async def _dead_letters(settings: ProcessorsSettings, options: argparse.Namespace) -> int:
    match options.what:
        case "list":
            return await letters.list_letters(settings, options.range, options.reason)
        case "show":
            return await letters.show_letter(settings, options.place)
        case "fix":
            return await letters.fix_letter(settings, options.place, await _fixed(settings, options))
        case _:
            return await letters.resend_letters(settings, options.range, options.reason)


async def _fixed(settings: ProcessorsSettings, options: argparse.Namespace) -> bytes:
    """The new body: of a file, of stdin (``-``), or as the person leaves it in the editor."""
    if options.body == "-":
        return sys.stdin.buffer.read()
    if options.body is not None:
        return _read(options.body)
    old = await letters.body_of(settings, options.place)
    with tempfile.NamedTemporaryFile(prefix="dead-letter-") as file:
        file.write(old)
        file.flush()
        editor = await asyncio.create_subprocess_exec(*shlex.split(os.environ.get("EDITOR", "vi")), file.name)
        if await editor.wait() or (new := _read(file.name)) == old:
            raise ConfigurationError("the body was left as it was: nothing is sent; dead-letters resend does that")
        return new


def _read(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"--body: {name} cannot be read ({error.strerror})") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m processors",
        description="Pairs webhooks into call sessions. Without a command: the service, until told to stop.",
        epilog="Kafka, topics and rules are set by environment variables; see the README.",
    )
    commands = parser.add_subparsers(dest="command", metavar="replay | diff | dead-letters")
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
    _add_dead_letters(commands.add_parser("dead-letters", help="list, show, fix and send again what could not be read"))
    return parser


def _add_dead_letters(parser: argparse.ArgumentParser) -> None:
    what = parser.add_subparsers(dest="what", required=True, metavar="list | show | fix | resend")
    listing = what.add_parser("list", help="one line for each, without its content")
    resending = what.add_parser("resend", help="send a range to the webhooks again, as it is")
    for one, least in ((listing, "*"), (resending, "+")):
        one.add_argument(
            "range", type=_range, nargs=least, metavar="PARTITION[:FIRST[-[LAST]]]", help="such as 3:10-20"
        )
        one.add_argument("--reason", metavar="TEXT", help="only those whose reason holds TEXT")
    showing = what.add_parser("show", help="headers and body of one, as they are: personal data")
    fixing = what.add_parser("fix", help="send one again with another body; without --body in $EDITOR")
    for one in (showing, fixing):
        one.add_argument("place", type=_range, metavar="PARTITION:OFFSET", help="such as 3:17")
    fixing.add_argument("--body", metavar="FILE", help="the new body; - for stdin")


def _range(text: str) -> letters.Range:
    """``3``, ``3:17``, ``3:10-20`` or ``3:10-``; raises argparse's error for anything else."""
    match = re.fullmatch(r"(\d{1,5})(?::(\d{1,18})(-(\d{1,18})?)?)?", text, re.ASCII)
    if match is None:
        message = f"{text!r} is no range of dead letters; write it like 3, 3:17, 3:10-20 or 3:10-"
        raise argparse.ArgumentTypeError(message)
    partition, first, rest, last = match.groups()
    if first is None:
        return letters.Range(int(partition))
    end = int(last) if last else None if rest else int(first)
    return letters.Range(int(partition), int(first), end)


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
