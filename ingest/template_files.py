"""``python -m ingest template``: write the files for the 3CX side. Exit status: 0 written, 2 wrong use."""

import argparse
import sys
from pathlib import Path

from events.settings import ConfigurationError, exit_with
from ingest.template import crm_template, endpoint, json_body


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``template`` takes."""
    parser.add_argument("--url", required=True, metavar="URL", help="such as https://calls.example.com")
    parser.add_argument("--pbx", metavar="NAME", help="of one of several PBXs (PBX_CONFIG)")
    parser.add_argument("--to", type=Path, default=Path(), metavar="FOLDER", help="where to write (here)")


def main(options: argparse.Namespace) -> int:
    """Write both files and say where they post to; a mistake ends the process with one sentence."""
    try:
        _write(options.url, options.pbx, options.to)
    except ConfigurationError as error:
        exit_with("ingest template", error)
    except OSError as error:
        exit_with("ingest template", ConfigurationError(f"--to: {options.to} cannot be written ({error.strerror})"))
    return 0


def _write(url: str, pbx: str | None, folder: Path) -> None:
    where = endpoint(url, pbx)
    suffix = "" if pbx is None else f"-{pbx}"
    files = {f"callstream-crm{suffix}.xml": crm_template(url, pbx), f"callstream-body{suffix}.json": json_body()}
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, "utf-8")
        sys.stdout.write(f"{folder / name}\n")
    sys.stdout.write(f"both post to {where}; the way on: docs/3cx.md\n")
    if where.startswith("http:"):
        sys.stderr.write("warning: plain HTTP shows secret and calls to everybody on the way; 3CX asks for https\n")
