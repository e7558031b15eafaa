"""What a journal's folder holds, read without touching it: safe beside the ingest that has it.

A file that ingest deletes meanwhile is passed over, and a record that is being written is a torn tail. Nothing is
locked, cut, renamed or written.
"""

import base64
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from events import times
from events.settings import ConfigurationError
from ingest import accepted, recovery, segments
from ingest.disk import read_whole
from ingest.opening import SET_ASIDE, SUFFIX, find_instance, paths_in
from ingest.recovery import Inspected
from ingest.segments import Found

RACES_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class File:
    """One file: its bytes, and what they mean."""

    path: Path
    data: bytes
    inspected: Inspected
    instance: str
    following: int | None

    @property
    def damaged_bytes(self) -> int:
        """How many bytes are no record, the torn tail not counted."""
        return sum(one.end - one.begin for one in self.inspected.damaged)

    @property
    def torn_bytes(self) -> int:
        """How long the torn tail is."""
        torn = self.inspected.torn
        return 0 if torn is None else torn.end - torn.begin

    def records(self) -> Iterator[Found]:
        """The records, in order; also those that were written again to the next file (from `following` on)."""
        for one in segments.scan(self.data, segments.salt_of(self.instance, self.inspected.first)):
            if isinstance(one, Found):
                yield one


class Contents:
    """A folder as it is now; raises ConfigurationError when there is no journal in it, or it cannot be read."""

    def __init__(self, folder: Path) -> None:
        """Read who it belongs to and which files there are; the files themselves are read one by one."""
        self.folder = folder
        try:
            instance = _instance_of(folder)
            self.paths = paths_in(folder, SUFFIX, SET_ASIDE) if instance else []
            self.bytes = sum(path.stat().st_size for path in self.paths if path.exists())
        except OSError as error:
            raise _unreadable(folder, error) from None
        self.instance = instance or ""

    def files(self) -> Iterator[File]:
        """One file after the other, oldest first; raises ConfigurationError when one cannot be read."""
        for path, next_path in itertools.zip_longest(self.paths, self.paths[1:]):
            try:
                data = read_whole(path)
            except FileNotFoundError:
                continue  # Kafka has acknowledged it meanwhile
            except OSError as error:
                raise _unreadable(path, error) from None
            first = recovery.first_of(path.name) or 0
            following = None if next_path is None else recovery.first_of(next_path.name)
            yield File(path, data, recovery.inspect(data, first, self.instance), self.instance, following)


def _instance_of(folder: Path) -> str | None:
    for _ in range(RACES_MAX):
        try:
            return find_instance(folder)
        except FileNotFoundError:
            if not folder.is_dir():
                break  # else a file went in between: look again
    message = f"there is no journal in {folder}; set DATA_DIR, or name the folder with --folder"
    raise ConfigurationError(message)


def _unreadable(path: Path, error: OSError) -> ConfigurationError:
    hint = "; run this as the user that ingest runs as" if isinstance(error, PermissionError) else ""
    return ConfigurationError(f"{path} cannot be read ({error.strerror}){hint}")


def summary(file: File) -> dict[str, Any]:
    """A file in a few words, for a table or JSON."""
    payloads = [one.payload for one in file.records()]
    webhooks = [one for one in map(accepted.decode, payloads) if one is not None]
    received = sorted(one.received_at for one in webhooks)
    return {
        "file": file.path.name,
        "first": file.inspected.runs[0][0] if file.inspected.runs else None,
        "last": file.inspected.last if file.inspected.runs else None,
        "records": file.inspected.records,
        "bytes": len(file.data),
        "damaged_bytes": file.damaged_bytes,
        "torn_bytes": file.torn_bytes,
        "undecodable": len(payloads) - len(webhooks),
        "oldest": times.to_text(received[0]) if received else None,
        "newest": times.to_text(received[-1]) if received else None,
    }


def exported(file: File) -> Iterator[dict[str, Any]]:
    """Everything in a file, nothing left out: records (bodies in base64), what cannot be decoded, and damage."""
    where = {"instance": file.instance, "file": file.path.name}
    salt = segments.salt_of(file.instance, file.inspected.first)
    for one in segments.scan(file.data, salt):
        if isinstance(one, Found):
            yield where | {"sequence": one.sequence, **_told(one.payload)}
        else:
            damaged = base64.b64encode(file.data[one.begin : one.end]).decode()
            yield where | {"begin": one.begin, "end": one.end, "damaged": damaged}


def _told(payload: bytes) -> dict[str, Any]:
    one = accepted.decode(payload)
    if one is None:
        return {"payload": base64.b64encode(payload).decode()}
    return {
        "id": one.id,
        "pbx": one.pbx,
        "key": one.key,
        "received_at": times.to_text(one.received_at),
        "content_type": one.content_type,
        "refused": one.refused,
        "body": base64.b64encode(one.body).decode(),
    }


def payload_of(line: Any) -> bytes | None:
    """The journal's payload in a line of an export, as it was; null for damage. Raises ValueError for another line."""
    try:
        if "damaged" in line:
            return None
        if "payload" in line:
            return base64.b64decode(line["payload"], validate=True)
        body = base64.b64decode(line["body"], validate=True)
        at = times.from_text(line["received_at"])
        one = accepted.Accepted(
            line["id"], line["pbx"], line["key"], at, line["content_type"], body, line.get("refused")
        )
        return accepted.encode(one)
    except (KeyError, TypeError, AttributeError):
        raise ValueError("it is no record of an export") from None
