"""The command line: ``produce`` a stream, ``check`` what a service made of it, or ``run`` a command on it.

Exit status: 0 it conforms, 1 it does not, 2 wrong use or configuration. The broker is given as to every service of
Callstream (KAFKA_BOOTSTRAP_SERVERS, KAFKA_SECURITY_…).
"""

import argparse
import asyncio
import sys
from pathlib import Path

from conformance import producing, running
from conformance.judging import Verdict, judged
from conformance.rules import Rule
from conformance.stream import ALL, SESSIONS, Stream, stream
from events.kafka import KafkaSettings
from events.settings import ConfigurationError, exit_with, load


def main() -> None:
    """Do what the arguments say; ends the process with its exit status."""
    options = _parser().parse_args()
    try:
        sys.exit(_work(options))
    except ConfigurationError as error:
        exit_with("conformance", error)


def _work(options: argparse.Namespace) -> int:
    match options.command:
        case "produce":
            given = _stream(options)
            count = asyncio.run(producing.produce(load(KafkaSettings), options.topic, given, options.partitions))
            _say(f"{_told(given)} are in {options.topic} ({count} partitions)")
            return 0
        case "check":
            given = _stream(options)
            text = sys.stdin.read() if options.file == "-" else Path(options.file).read_text("utf-8")
            return _verdict(judged(text.splitlines(), given), _told(given))
        case _:
            command = [word for word in options.words if word != "--"]
            if not command:
                raise ConfigurationError("give the command to run, after --")
            work = running.run(load(KafkaSettings), command, options.seed, options.sessions, options.timeout_s)
            return _verdict(asyncio.run(work), _told(stream(options.seed, options.sessions)))


def _stream(options: argparse.Namespace) -> Stream:
    return stream(options.seed, options.sessions, frozenset(options.rule) if options.rule else ALL)


def _told(given: Stream) -> str:
    records = sum(len(one.records) for one in given.transactions)
    aborted = sum(not one.committed for one in given.transactions)
    return (
        f"{records} records (seed {given.seed}: {len(given.expected)} sessions, {len(given.transactions)} transactions,"
        f" {aborted} of them aborted)"
    )


def _verdict(verdict: Verdict, told: str) -> int:
    _say(told)
    for line in verdict.lines():
        _say(line)
    _say("it conforms" if verdict.passed else "it does NOT conform")
    return 0 if verdict.passed else 1


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m conformance", description="Does a consumer of call sessions hold?")
    commands = parser.add_subparsers(dest="command", required=True, metavar="produce | check | run")
    produce = commands.add_parser("produce", help="write a stream with faults into a topic of yours")
    produce.add_argument("--topic", required=True, help="new, or empty")
    produce.add_argument("--partitions", type=int, default=3, help="if the topic is not there yet (3)")
    check = commands.add_parser("check", help="judge what came out: one JSON object a line")
    check.add_argument("file", help="- for the standard input")
    run = commands.add_parser("run", help="produce into a topic of its own, run a command, judge its standard output")
    run.add_argument("--timeout-s", type=float, default=120, help="for the command to end by itself (120)")
    run.add_argument("words", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="with {servers} and {topic} in it")
    for one in (produce, check, run):
        one.add_argument("--seed", type=int, default=1, help="the same seed is the same stream (1)")
        one.add_argument("--sessions", type=int, default=SESSIONS, help=f"({SESSIONS})")
    for one in (produce, check):
        one.add_argument("--rule", action="append", type=Rule, choices=list(Rule), help="only its faults; repeatable")
    return parser


if __name__ == "__main__":
    main()
