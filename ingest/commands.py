"""The command line: without a command the service; ``poll`` is another one, ``journal …`` and ``template`` end.

Exit status: 0 done, and nothing wrong; 1 damage or records that cannot be decoded were found (verify, export), or Kafka
did not take everything (resend); 2 wrong use, configuration, or no journal; 130 after Ctrl-C.
"""

import argparse
import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TextIO

import uvloop

from events import logs
from events.progress import Progress
from events.serving import run
from events.settings import ConfigurationError, exit_with, load
from ingest import app, contents, resending, template_files
from ingest.contents import Contents, File
from ingest.opening import lock_of
from ingest.polling import app as polling
from ingest.polling.settings import PollSettings
from ingest.resending import Resending
from ingest.settings import IngestSettings

WRONG: Final = 1
INTERRUPTED: Final = 130
_COLUMNS: Final = ("file", "first", "last", "records", "bytes", "damaged_bytes", "torn_bytes", "oldest", "newest")
_CONTENT: Final = ("body", "payload", "damaged", "key", "content_type")
"""What of an export is not shown: bodies, and the keys, which can hold an extension."""


def main(arguments: Sequence[str]) -> None:
    """Run what the arguments say; ends the process with its exit status."""
    options = _parser().parse_args(arguments)
    if options.command is None:
        run("ingest", IngestSettings, app.main)
    if options.command == "poll":
        run("ingest poll", PollSettings, polling.main)
    if options.command == "template":
        sys.exit(template_files.main(options))
    try:
        settings = load(IngestSettings)
        logs.configure("ingest", settings)
        folder = options.folder or settings.data_dir / "journal"
        sys.exit(uvloop.run(_work(settings, folder, options)))
    except ConfigurationError as error:
        exit_with(f"ingest journal {options.journal}", error)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read us has seen enough
        sys.exit(WRONG)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


async def _work(settings: IngestSettings, folder: Path, options: argparse.Namespace) -> int:
    match options.journal:
        case "list":
            return await _list(Contents(folder), options.form)
        case "verify":
            return await _verify(Contents(folder))
        case "export":
            return await _export(Contents(folder), options.output)
        case _:
            return await _resend(settings, folder, options.export)


async def _list(found: Contents, form: str) -> int:
    """The files as a table or as JSON lines, or every record: ids and positions, never what is in a body."""
    rows: list[dict[str, Any]] = []
    async for file in _files(found, "list"):
        if form == "records":
            sys.stdout.writelines(json.dumps(_told(line)) + "\n" for line in contents.exported(file))
        else:
            rows.append(contents.summary(file))
    if form == "json":
        sys.stdout.writelines(json.dumps(row) + "\n" for row in rows)
    elif form == "table":
        _tell(found, rows)
    return 0


def _told(line: dict[str, Any]) -> dict[str, Any]:
    """A line of an export without what a caller or an agent could be told by."""
    kept = {name: value for name, value in line.items() if name not in _CONTENT}
    return kept | {"bytes": next((_length(str(line[name])) for name in _CONTENT if line.get(name)), 0)}


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _length(text: str) -> int:
    """Bytes in a base64 text."""
    return len(text) * 3 // 4 - text.count("=")


def _tell(found: Contents, rows: list[dict[str, Any]]) -> None:
    records = sum(row["records"] for row in rows)
    size = sum(row["bytes"] for row in rows)
    _say(f"instance {found.instance or '(none yet)'}: {len(rows)} files, {records:,} records, {size:,} bytes")
    table = [_COLUMNS, *(tuple("-" if row[name] is None else str(row[name]) for name in _COLUMNS) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table if rows else ():
        _say("  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip())


async def _verify(found: Contents) -> int:
    """Every checksum; a line per finding, and the verdict."""
    records = damaged = undecodable = torn = 0
    async for file in _files(found, "verify"):
        told = contents.summary(file)
        records += told["records"]
        torn += told["torn_bytes"]
        undecodable += told["undecodable"]
        damaged += told["damaged_bytes"]
        for one in file.inspected.damaged:
            _say(f"{file.path.name}: bytes {one.begin} to {one.end} are damaged")
        if told["undecodable"]:
            _say(f"{file.path.name}: {told['undecodable']} records cannot be decoded; they go to the dead letters")
        if told["torn_bytes"]:
            _say(f"{file.path.name}: a torn tail of {told['torn_bytes']} bytes: being written, or never answered 202")
    _say(f"{records:,} records check; {damaged:,} bytes are damaged, {undecodable:,} records cannot be decoded")
    return WRONG if damaged or undecodable else 0


async def _export(found: Contents, output: Path | None) -> int:
    """Everything as JSON lines; to a file that is new."""
    wrong = False
    with _opened(output) as stream:
        async for file in _files(found, "export"):
            stream.writelines(json.dumps(line) + "\n" for line in contents.exported(file))
            wrong = wrong or bool(file.inspected.damaged)
    return WRONG if wrong else 0


@contextlib.contextmanager
def _opened(output: Path | None) -> Iterator[TextIO]:
    """The file when all of it was written; nothing of it before."""
    if output is None:
        yield sys.stdout
        return
    partial = output.with_name(f"{output.name}.partial")
    try:
        if output.exists():
            raise ConfigurationError(f"{output} is there already; name a new file")
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        partial.rename(output)
    except OSError as error:
        raise ConfigurationError(f"{output} cannot be written ({error.strerror}); name another file") from None


async def _files(found: Contents, command: str) -> AsyncIterator[File]:
    """The files of a folder, with the bytes that were read as progress."""
    progress = Progress(command, unit="bytes")
    progress.total = found.bytes
    async with progress.shown():
        for file in found.files():
            yield file
            progress.done += len(file.data)
            await asyncio.sleep(0)


async def _resend(settings: IngestSettings, folder: Path, export: Path | None) -> int:
    """To Kafka, once more: a folder that no ingest has, or an export."""
    if export is not None:
        total = resending.count(resending.of_export(export))
        return await _sent(settings, Resending(resending.new_instance(), resending.of_export(export)), total)
    found = Contents(folder)
    lock = lock_of(folder)
    try:
        total = resending.count(resending.of_folder(found))
        return await _sent(settings, Resending(found.instance, resending.of_folder(found)), total)
    finally:
        os.close(lock)


async def _sent(settings: IngestSettings, records: Resending, total: int) -> int:
    if await resending.resend(settings, records, total, app.now):
        _say(f"Kafka acknowledged {records.sent:,} records")
        return 0
    message = f"Kafka took nothing for {resending.PATIENCE_S:.0f} s; {records.sent:,} of {total:,} records are sent"
    sys.stderr.write(f"ingest journal resend: {message}; bring Kafka back and run it again\n")
    return WRONG


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ingest",
        description="Accepts webhooks. Without a command: the service, until told to stop.",
        epilog="Everything is set by environment variables; see the README.",
    )
    parts = parser.add_subparsers(dest="command", metavar="journal | poll | template")
    template_files.add_arguments(parts.add_parser("template", help="write the files for import into 3CX"))
    parts.add_parser(
        "poll", help="ask PBXs for their active calls until told to stop; off by default (docs/polling.md)"
    )
    journal = parts.add_parser(
        "journal", help="look at what Kafka has not acknowledged yet, or send it", description=__doc__
    )
    journal.add_argument("--folder", type=Path, metavar="FOLDER", help="another journal than the one in DATA_DIR")
    commands = journal.add_subparsers(dest="journal", metavar="list | verify | export | resend", required=True)
    listing = commands.add_parser("list", help="the files and what is in them; beside a running ingest, too")
    forms = listing.add_mutually_exclusive_group()
    forms.add_argument("--json", dest="form", action="store_const", const="json", help="a JSON line per file")
    forms.add_argument(
        "--records", dest="form", action="store_const", const="records", help="one per record, no bodies"
    )
    listing.set_defaults(form="table")
    commands.add_parser("verify", help="check every record; beside a running ingest, too")
    export = commands.add_parser("export", help="everything as JSON lines, damage too; beside a running ingest, too")
    export.add_argument("--output", type=Path, metavar="FILE", help="a new file (standard output)")
    again = commands.add_parser("resend", help="send the records to Kafka; refuses while ingest has the journal")
    again.add_argument("--export", type=Path, metavar="FILE", help="of this export, under a new instance; any time")
    return parser
