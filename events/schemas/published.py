"""The versions in their folders: read, compared with the shapes of now, and written."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from events.schemas import asyncapi, compatibility, shapes

Document = dict[str, Any]

VERSIONS: Final = Path(__file__).with_name("versions")
ASYNCAPI: Final = "asyncapi"
TOLD_ONLY: Final = ("description", "examples", "x-extensible-enum")


class IncompatibleError(Exception):
    """The shapes of now would break somebody; the message says where."""


def numbers(folder: Path = VERSIONS) -> list[int]:
    """The published versions, oldest first."""
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal()) if folder.is_dir() else []


def read(number: int, folder: Path = VERSIONS) -> dict[str, Document]:
    """Every document of a version by its name."""
    return {path.stem: json.loads(path.read_text("utf-8")) for path in sorted((folder / str(number)).glob("*.json"))}


def current(number: int) -> dict[str, Document]:
    """The documents of the shapes of now, as version `number`."""
    return {**shapes.schemas(), ASYNCAPI: asyncapi.document(number)}


def breaks(later: Mapping[str, Document], folder: Path = VERSIONS) -> list[str]:
    """What in `later` is not compatible with some published version."""
    return [
        f"version {number}: {one}"
        for number in numbers(folder)
        for one in compatibility.breaks(_schemas(read(number, folder)), _schemas(later))
    ]


def publish(folder: Path = VERSIONS) -> int:
    """Write the shapes of now: a new version if more than descriptions changed, else the last one; its number.

    Raises IncompatibleError, and writes nothing, when they would break a message or a reader of any version.
    """
    earlier = numbers(folder)
    number = earlier[-1] if earlier else 1
    found = current(number)
    broken = breaks(found, folder)
    if broken:
        raise IncompatibleError("\n".join(broken))
    if earlier and _rules(_schemas(found)) != _rules(_schemas(read(number, folder))):
        number += 1
        found = current(number)
    target = folder / str(number)
    target.mkdir(parents=True, exist_ok=True)
    for name, document in found.items():
        text = json.dumps(document, indent=2, ensure_ascii=False)
        (target / f"{name}.json").write_text(f"{text}\n", "utf-8")
    return number


def _schemas(documents: Mapping[str, Document]) -> dict[str, Document]:
    return {name: document for name, document in documents.items() if name != ASYNCAPI}


def _rules(part: Any) -> Any:
    """The schema without what only tells."""
    if isinstance(part, dict):
        return {name: _rules(one) for name, one in part.items() if name not in TOLD_ONLY or not _tells(one)}
    return [_rules(one) for one in part] if isinstance(part, list) else part


def _tells(value: Any) -> bool:
    # A field of that name is a schema, and not a text or a list of values.
    return not isinstance(value, dict)
