"""The door, opened over a real journal and a real socket; and what a client at the socket sees."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from events.metrics import Metrics
from events.pbx import pbxs_of
from events.serving import listen
from ingest import accepted
from ingest.accepted import Accepted
from ingest.app import limits_of
from ingest.connections import connections
from ingest.forwarder import Forwarder
from ingest.http import Door
from ingest.journal import Journal, open_journal
from ingest.settings import IngestSettings

NOW = datetime(2026, 11, 24, 10, 0, 0, 123456, tzinfo=UTC)


class Rig:
    """The door without Kafka."""

    def __init__(self, client: httpx.AsyncClient, journal: Journal, port: int) -> None:
        self.client = client
        self.journal = journal
        self.port = port

    async def kept(self) -> list[Accepted]:
        """What the journal holds."""
        waiting = await self.journal.read(self.journal.acknowledged, 1000)
        return [one for _, payload in waiting if (one := accepted.decode(payload)) is not None]

    async def talk(self, *pieces: bytes, half_close: bool = False) -> bytes:
        """Send the pieces as they are; everything that comes back until the door closes."""
        return await talked(self.port, *pieces, half_close=half_close)


async def talked(port: int, *pieces: bytes, half_close: bool = False) -> bytes:
    """Send the pieces as they are; everything that comes back until the door closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        with suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            if half_close:
                writer.write_eof()
        return await reader.read()
    finally:
        writer.close()


@asynccontextmanager
async def opened(
    folder: Path, peer: str = "127.0.0.1", tls: ssl.SSLContext | None = None, **settings: Any
) -> AsyncIterator[Rig]:
    """The door with these settings; clients come from the address `peer`."""
    chosen = IngestSettings(data_dir=folder, **settings)
    journal, _ = open_journal(folder / "journal", chosen.ingest_journal_bytes_max, 64 * 1024)
    metrics = Metrics("ingest")
    forwarder = Forwarder(chosen, journal, metrics, lambda: NOW)
    door = Door(chosen, pbxs_of(chosen), journal, forwarder, metrics, lambda: NOW)
    listener = listen("127.0.0.1", 0, "INGEST_PORT")
    port = listener.getsockname()[1]
    committing = asyncio.create_task(journal.run())
    transport = httpx.AsyncHTTPTransport(local_address=peer)
    async with (
        connections(door, limits_of(chosen), listener, tls, 1),
        httpx.AsyncClient(transport=transport, base_url=f"http://127.0.0.1:{port}") as client,
    ):
        yield Rig(client, journal, port)
    committing.cancel()
    await asyncio.wait({committing})
    journal.close()
