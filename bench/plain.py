"""The peer: ``python -m bench.plain PORT SERVERS TOPIC``, an endpoint that awaits Kafka for each webhook, acks=all.

Written as FastAPI's and aiokafka's documentation do it; with Starlette, which FastAPI is made of and is no slower than.
"""

import asyncio
import sys

import uvloop
from aiokafka import AIOKafkaProducer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from events.serving import listen, serving

CONNECTIONS_MAX = 4_096


async def main(port: int, servers: str, topic: str) -> None:
    """Serve until killed."""
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all")
    await producer.start()

    async def call_event(request: Request) -> JSONResponse:
        await request.json()
        await producer.send_and_wait(topic, await request.body())
        return JSONResponse({"status": "accepted"}, 202)

    app = Starlette(routes=[Route("/webhook/3cx/call-event", call_event, methods=["POST"])])
    async with serving(app, listen("127.0.0.1", port, "PORT"), 1, CONNECTIONS_MAX):
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
