"""A TCP proxy before the broker that can be a bad neighbour: away, slow, or there without a word (half-open)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from enum import Enum, auto

PIECE_BYTES = 16_384


class Link(Enum):
    """What becomes of a connection."""

    OPEN = auto()
    AWAY = auto()
    """Refused; those that were open are reset."""
    SILENT = auto()
    """Accepted; nothing passes, ever, in either direction, and nobody hangs up: the other end died without a word."""
    SLOW = auto()
    """At most `slow_bytes_s` towards the broker and back, all connections together."""


class Proxy:
    """Between `port` and the broker's port; `become` changes the link for what is open, too."""

    def __init__(self, port: int, broker_port: int, slow_bytes_s: int = 20_000) -> None:
        """Nothing is listened on yet."""
        self.port = port
        self._broker_port = broker_port
        self._slow_bytes_s = slow_bytes_s
        self._link = Link.AWAY
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self._mute: set[asyncio.Task[None]] = set()
        self._slot = asyncio.Lock()

    async def become(self, link: Link) -> None:
        """From now on the link is like this."""
        self._link = link
        if link is Link.AWAY:
            await self._close()
        elif self._server is None:
            self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        if link is Link.SILENT:
            self._mute |= self._open

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        gone = list(self._open)
        for task in gone:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            raise AssertionError
        self._open.add(task)
        try:
            await self._between(task, reader, writer)
        except (asyncio.CancelledError, OSError):
            writer.transport.abort()
        finally:
            self._open.discard(task)
            self._mute.discard(task)

    async def _between(
        self, task: "asyncio.Task[None]", reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if self._link is Link.SILENT:
            self._mute.add(task)
            await asyncio.Event().wait()
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._broker_port)
        try:
            await asyncio.gather(self._pump(task, reader, to_writer), self._pump(task, to_reader, writer))
        finally:
            to_writer.transport.abort()

    async def _pump(
        self, task: "asyncio.Task[None]", reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(PIECE_BYTES if self._link is Link.SLOW else PIECE_BYTES * 16):
            if self._link is Link.SLOW:
                async with self._slot:
                    await asyncio.sleep(len(data) / self._slow_bytes_s)
            if task in self._mute:
                await asyncio.Event().wait()
            writer.write(data)
            await writer.drain()
        writer.transport.abort()

    @contextlib.asynccontextmanager
    async def standing(self, link: Link = Link.OPEN) -> AsyncIterator["Proxy"]:
        """For the length of the block."""
        await self.become(link)
        try:
            yield self
        finally:
            await self.become(Link.AWAY)
