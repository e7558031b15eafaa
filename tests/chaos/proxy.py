"""A proxy between the services and a Kafka broker that understands Kafka's frames: what the network can do to them.

A `Way` is how one service reaches the brokers: its faults hold for all its connections. Frames are a length of four
bytes and as many bytes; a request begins with the API's key, its version and a correlation id, an answer with the
correlation id. Source: the Kafka protocol guide.
"""

import asyncio
import contextlib
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from deploy.local.broker import HOST

END_TXN = 26
PIECE_S = 0.1
REQUEST_HEAD = struct.Struct(">hhi")
LENGTH = struct.Struct(">i")


@dataclass
class Way:
    """How one service reaches the brokers.

    `cut`: connections are refused and reset. `stalled`: they stay open and nothing passes. `answers_stalled`: requests
    pass, answers do not. `bytes_per_s`: as much as passes each way (null: all). `requests_take_s`: a request arrives
    that much later. `commit_answers_lost`: of so many commits the answer is lost, with its connection.
    `commits_held_s`: a commit is passed on that much later, whether its sender still waits or not, or when `release`
    is called; `commits_to_hold` counts them down.
    """

    cut: bool = False
    stalled: bool = False
    answers_stalled: bool = False
    bytes_per_s: float | None = None
    requests_take_s: float = 0.0
    commit_answers_lost: int = 0
    commits_held_s: float = 0.0
    commits_to_hold: int = 0
    commits_touched: int = 0
    commits_delivered: int = 0
    """Of those that were held."""
    _open: set[asyncio.StreamWriter] = field(default_factory=set)
    _senders: set[asyncio.StreamWriter] = field(default_factory=set)
    _era: int = 0
    _released: asyncio.Event = field(default_factory=asyncio.Event)

    def release(self) -> None:
        """Pass on the commits that are held."""
        self._released.set()

    def forget(self) -> None:
        """What is connected now hangs for good, as behind a firewall that lost its state; who connects anew is let in.

        So does a connection after a fault below TCP, for as long as the kernels wait before they send again.
        """
        self._era += 1

    def leave(self) -> None:
        """Break the senders' side of every connection, now: what is held on its way to a broker still arrives."""
        for writer in list(self._senders):
            writer.transport.abort()

    def reset(self) -> None:
        """Break every connection, now."""
        for writer in list(self._open):
            writer.transport.abort()

    def heal(self) -> None:
        """No fault any more; connections that hang on one are broken."""
        hung = self.stalled or self.answers_stalled
        self.cut = self.stalled = self.answers_stalled = False
        self.bytes_per_s = None
        self.commit_answers_lost = self.commits_to_hold = 0
        if hung:
            self.reset()

    async def serve(self, port: int, broker_port: int) -> asyncio.Server:
        """Listen on `port` for a broker that listens on `broker_port`."""

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(asyncio.CancelledError):  # the run is over
                await self._connected(reader, writer, broker_port)

        return await asyncio.start_server(connected, HOST, port)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, broker_port: int) -> None:
        if self.cut:
            writer.transport.abort()
            return
        try:
            from_broker, to_broker = await asyncio.open_connection(HOST, broker_port)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, to_broker}
        self._open |= both
        self._senders.add(writer)
        lost: set[int] = set()
        era = self._era
        requests = asyncio.create_task(self._requests(reader, to_broker, lost, era))
        answers = asyncio.create_task(self._answers(from_broker, writer, lost, era))
        try:
            # A held commit is still delivered when its sender has gone: only then the way to the broker is closed.
            await asyncio.wait({requests})
            answers.cancel()
            await asyncio.wait({answers})
        finally:
            self._open -= both
            self._senders.discard(writer)
            for one in both:
                one.transport.abort()

    async def _requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lost: set[int], era: int
    ) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                frame = await _frame(reader)
                await self._unless(lambda: self.stalled or era < self._era)
                key, _, correlation = REQUEST_HEAD.unpack_from(frame, LENGTH.size)
                is_held = False
                if key == END_TXN:
                    if self.commit_answers_lost > 0:
                        self.commit_answers_lost -= 1
                        self.commits_touched += 1
                        lost.add(correlation)
                    if self.commits_to_hold > 0:
                        self.commits_to_hold -= 1
                        self.commits_touched += 1
                        is_held = True
                        with contextlib.suppress(TimeoutError):
                            await asyncio.wait_for(self._released.wait(), self.commits_held_s)
                await asyncio.sleep(self.requests_take_s)
                await self._pass(writer, frame)
                self.commits_delivered += is_held

    async def _answers(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lost: set[int], era: int
    ) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                frame = await _frame(reader)
                await self._unless(lambda: self.stalled or self.answers_stalled or era < self._era)
                if LENGTH.unpack_from(frame, LENGTH.size)[0] in lost:
                    break
                await self._pass(writer, frame)
        writer.transport.abort()

    async def _unless(self, stalled: Callable[[], bool]) -> None:
        while stalled():  # noqa: ASYNC110 - two conditions, set by hand
            await asyncio.sleep(0.05)

    async def _pass(self, writer: asyncio.StreamWriter, frame: bytes) -> None:
        while self.bytes_per_s is not None and frame:
            piece_bytes = max(1, int(self.bytes_per_s * PIECE_S))
            writer.write(frame[:piece_bytes])
            frame = frame[piece_bytes:]
            await asyncio.sleep(PIECE_S)
        writer.write(frame)
        await writer.drain()


async def _frame(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(LENGTH.size)
    return head + await reader.readexactly(LENGTH.unpack(head)[0])
