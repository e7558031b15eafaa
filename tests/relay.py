"""A line between a browser and a service that can be cut, or go silent while it stays open."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

CHUNK_BYTES = 65_536


class Relay:
    """Bytes from `port` of 127.0.0.1 to `target`'s and back."""

    def __init__(self, target: int) -> None:
        """Nothing listens before `relaying`."""
        self.port = 0
        self._target = target
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._cut = False
        self._writers: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """End every connection, and every new one at once, until `mend`."""
        self._cut = True
        for writer in self._writers:
            writer.transport.abort()

    def silence(self) -> None:
        """Keep every connection open and let nothing through, until `mend`."""
        self._flowing.clear()

    def mend(self) -> None:
        """As if nothing had been."""
        self._cut = False
        self._flowing.set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either side ends it."""
        if self._cut:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers |= {writer, back}
        await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        self._writers -= {writer, back}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def relaying(url: str) -> AsyncIterator[tuple[Relay, str]]:
    """A relay to the service at `url`, and its own URL."""
    relay = Relay(int(url.rpartition(":")[2]))
    server = await asyncio.start_server(relay.accept, "127.0.0.1", 0)
    relay.port = server.sockets[0].getsockname()[1]
    try:
        yield relay, f"http://127.0.0.1:{relay.port}"
    finally:
        relay.cut()
        server.close()
