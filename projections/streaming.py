"""Answers that are sent piece by piece: with a limit on how long a client may take to read one piece."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

SEND_S: Final = 30
"""A client that takes nothing for so long is left."""


class Streamed(Response):
    """A body of pieces. Who takes no piece for `SEND_S`, or hangs up, ends it, and what it holds is let go of."""

    def __init__(self, parts: AsyncGenerator[bytes, None], media_type: str, headers: dict[str, str]) -> None:
        """`parts` is closed in any case."""
        super().__init__(None, headers=headers, media_type=media_type)
        del self.headers["content-length"]
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; what is not complete ends without its last chunk, so the client knows."""
        sending = asyncio.ensure_future(self._send(send, head_only=scope["method"] == "HEAD"))
        leaving = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.wait({sending, leaving})
            await self._parts.aclose()
        if not sending.cancelled() and (error := sending.exception()) is not None and not isinstance(error, OSError):
            raise error

    async def _send(self, send: Send, *, head_only: bool) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if not head_only:
            async for part in self._parts:
                async with asyncio.timeout(SEND_S):
                    await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def leave_who_reads_nothing(listener: socket.socket) -> None:
    """Have the kernel end connections that took nothing for `SEND_S` (Linux; elsewhere they stay until they end)."""
    with contextlib.suppress(AttributeError, OSError):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SEND_S * 1_000)
