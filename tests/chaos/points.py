"""The named moments of ingest and of the projections, marked from outside: the product knows nothing of it.

Those of the processors are `tests.kills.points`.
"""

import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from ingest.disk import RealDisk
from ingest.journal import Journal
from projections.store import Store
from projections.stream import Stream
from tests.kills import points

INGEST: Final = (
    "before-write",  # a group of webhooks, to the journal
    "written",  # and not synced
    "synced",  # and not answered
    "handed-over",  # a batch is in the Kafka client's hands
    "delivered",  # Kafka has acknowledged it; the journal does not know yet
    "before-delete",  # of a segment that Kafka has all of
)
PROJECTIONS: Final = (
    "before-rows",  # the fold is done, the transaction has begun
    "rows-written",  # rows and offsets, not committed
    "committed",  # and nobody was told
    "told",  # the event streams; the group's offset does not say so
    "mirrored",
)
POINTS: Final[Mapping[str, tuple[str, ...]]] = {
    "ingest": INGEST,
    "processors": points.POINTS,
    "projections": PROJECTIONS,
}
Reached = Callable[[str], None]
GROUP: Final = "_write_group"
ACKNOWLEDGED: Final = "_let_go"
"""The journal's steps."""


def arm(service: str, point: str, nth: int) -> None:
    """Have this process, which is to be `service`, kill itself when it comes to the point for the n-th time."""
    count = 0

    def reached(name: str) -> None:
        nonlocal count
        count += name == point
        if name == point and count == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    {"ingest": mark_ingest, "processors": points.mark, "projections": mark_projections}[service](reached)


def mark_ingest(reached: Reached) -> None:
    """Have `reached` called at every point of ingest, in this process, from now on."""
    write, sync, unlink, send_batch = RealDisk.write, RealDisk.sync, RealDisk.unlink, AIOKafkaProducer.send_batch
    doing: list[str] = []  # what else the journal does with its disk is not meant

    def came(step: str, name: str) -> None:
        if step in doing:
            reached(name)

    def writing(self: RealDisk, descriptor: int, data: bytes) -> None:
        came(GROUP, "before-write")
        write(self, descriptor, data)
        came(GROUP, "written")

    def syncing(self: RealDisk, descriptor: int) -> None:
        sync(self, descriptor)
        came(GROUP, "synced")

    def deleting(self: RealDisk, path: Path) -> None:
        came(ACKNOWLEDGED, "before-delete")
        unlink(self, path)

    async def sending(self: Any, *given: Any, **named: Any) -> Any:
        delivery = await send_batch(self, *given, **named)
        delivery.add_done_callback(lambda _: reached("delivered"))
        reached("handed-over")
        return delivery

    for step in (GROUP, ACKNOWLEDGED):
        setattr(Journal, step, _noted(getattr(Journal, step), step, doing))
    RealDisk.write, RealDisk.sync, RealDisk.unlink = writing, syncing, deleting  # type: ignore[method-assign]
    AIOKafkaProducer.send_batch = sending


def _noted(method: Callable[..., None], step: str, doing: list[str]) -> Callable[..., None]:
    """The method, which says in `doing` that it is under way."""

    @wraps(method)
    def noted(*given: Any) -> None:
        doing.append(step)
        try:
            method(*given)
        finally:
            doing.remove(step)

    return noted


def mark_projections(reached: Reached) -> None:
    """Have `reached` called at every point of the projections, in this process, from now on."""
    put, transaction, publish, commit = Store.put, Store.writing, Stream.publish, AIOKafkaConsumer.commit

    async def putting(self: Store, *given: Any, **named: Any) -> None:
        reached("before-rows")
        await put(self, *given, **named)
        reached("rows-written")

    @asynccontextmanager
    async def writing(self: Store) -> AsyncIterator[Any]:
        async with transaction(self) as connection:
            yield connection
        reached("committed")

    def publishing(self: Stream, name: str, data: object) -> None:
        publish(self, name, data)
        if name == "change":
            reached("told")

    async def mirroring(self: Any, *given: Any) -> None:
        await commit(self, *given)
        reached("mirrored")

    Store.put, Store.writing, Stream.publish = putting, writing, publishing  # type: ignore[method-assign]
    AIOKafkaConsumer.commit = mirroring
