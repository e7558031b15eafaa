"""The ledger: what was sent and what was answered, on disk before the next step; the witness that no fault touches."""

import asyncio
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TIMEOUT = "timeout"


@dataclass(slots=True)
class Attempt:
    """One request. `status`: of the answer; null: none came. `id`: the webhook's, when it was accepted."""

    number: int
    pbx: str
    body: bytes
    sent_s: float
    status: int | None = None
    id: str | None = None
    answered_s: float | None = None


class Ledger:
    """Append-only lines of JSON, each on disk when `note` returns; many callers share one sync."""

    def __init__(self, path: Path) -> None:
        """`path`: a new file."""
        self._file = path.open("xb", buffering=0)
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._syncing: asyncio.Task[None] | None = None

    async def note(self, **said: Any) -> None:
        """Write the line and wait until it is on disk."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((json.dumps(said).encode() + b"\n", done))
        if self._syncing is None or self._syncing.done():
            self._syncing = asyncio.create_task(self._sync())
        await done

    async def _sync(self) -> None:
        while self._waiting:
            taken, self._waiting = self._waiting, []
            await asyncio.to_thread(self._write, b"".join(line for line, _ in taken))
            for _, done in taken:
                done.set_result(None)

    def _write(self, lines: bytes) -> None:
        self._file.write(lines)
        os.fdatasync(self._file.fileno())

    def close(self) -> None:
        """After the last note."""
        self._file.close()


def attempts_of(path: Path) -> Iterator[Attempt]:
    """The attempts, read back from the file, in the order in which they were sent."""
    found: dict[int, Attempt] = {}
    for line in path.read_bytes().splitlines():
        said = json.loads(line)
        if "body" in said:
            found[said["n"]] = Attempt(said["n"], said["pbx"], said["body"].encode(), said["at_s"])
        else:
            one = found[said["n"]]
            one.status, one.id, one.answered_s = said["status"], said["id"], said["at_s"]
    yield from found.values()
