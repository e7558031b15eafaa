"""Every connection to the door: one listening socket, one look at all deadlines ten times a second, an orderly end."""

import asyncio
import contextlib
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Final

from ingest.connection import Connection
from ingest.heads import Heads
from ingest.requests import Limits, Service

LOOK_S: Final = 0.1
FILES_BESIDE: Final = 256
"""Open files that are no connection: the journal, Kafka, logs."""
LISTEN_BACKLOG: Final = 2_048


@contextlib.asynccontextmanager
async def connections(
    service: Service,
    limits: Limits,
    listener: socket.socket,
    tls: ssl.SSLContext | None,
    grace_s: float,
    observe: Callable[[int], None] = lambda _open: None,
) -> AsyncIterator[None]:
    """Serve for the length of the block; then answer what is in flight, for at most `grace_s`.

    `observe` is told how many connections are open.
    """
    _allow_files(limits.connections_max)
    loop = asyncio.get_running_loop()
    current: set[Connection] = set()
    heads = Heads()
    server = await loop.create_server(
        lambda: Connection(service, limits, current, heads),
        sock=listener,
        backlog=LISTEN_BACKLOG,
        ssl=tls,
        ssl_handshake_timeout=limits.head_timeout_s if tls is not None else None,
    )
    looking = asyncio.create_task(_look(current, limits.is_crowded_at, observe))
    try:
        yield
    finally:
        server.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                while current:
                    for one in list(current):
                        one.close()
                    await asyncio.sleep(LOOK_S / 4)
        looking.cancel()


async def _look(current: set[Connection], crowded_at: int, observe: Callable[[int], None]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(LOOK_S)
        now = loop.time()
        observe(len(current))
        is_crowded = len(current) > crowded_at
        for one in list(current):
            one.overdue(now, is_crowded=is_crowded)


def _allow_files(connections_max: int) -> None:
    """Raise this process's own limit of open files as far as it may: at the limit, accepting would fail silently.

    Sixteen times the connections, since those that never finish their TLS handshake are not counted among them, and
    the journal must always be able to begin a file.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 16 * connections_max + FILES_BESIDE
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
