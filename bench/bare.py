"""What the product is measured against: ``python -m bench.bare PORT`` answers 204 on the same server settings."""

import asyncio
import sys

import uvloop
from starlette.types import Receive, Scope, Send

from events.serving import listen, serving

CONNECTIONS_MAX = 4_096


async def no_content(scope: Scope, receive: Receive, send: Send) -> None:
    """Read the body, answer 204."""
    if scope["type"] == "http":
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


async def main(port: int) -> None:
    """Serve until killed."""
    async with serving(no_content, listen("127.0.0.1", port, "PORT"), 1, CONNECTIONS_MAX):
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
