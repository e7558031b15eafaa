"""The peer: ``python -m bench.plain PORT SERVERS TOPIC``, an endpoint that awaits Kafka for each webhook, acks=all.

Written as the documentation of FastAPI and aiokafka does it, and served by the same server as the bare 204.
"""

import asyncio
import sys

import uvloop
from aiokafka import AIOKafkaProducer
from fastapi import FastAPI
from pydantic import BaseModel

from events.serving import listen, serving

CONNECTIONS_MAX = 4_096


class CallEvent(BaseModel):
    """The fields of the seed's samples."""

    callId: str | None = None  # noqa: N815 - the seed's names
    caller: str | None = None
    callee: str | None = None
    agentExt: str | None = None  # noqa: N815
    agentMail: str | None = None  # noqa: N815
    direction: str | None = None
    startTime: str | None = None  # noqa: N815
    endUtc: str | None = None  # noqa: N815
    duration: str | None = None
    wav: str | None = None


async def main(port: int, servers: str, topic: str) -> None:
    """Serve until killed."""
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all")
    await producer.start()
    app = FastAPI()

    @app.post("/webhook/3cx/call-event", status_code=202)
    async def call_event(event: CallEvent) -> dict[str, str]:
        await producer.send_and_wait(topic, event.model_dump_json().encode())
        return {"status": "accepted"}

    async with serving(app, listen("127.0.0.1", port, "PORT"), 1, CONNECTIONS_MAX):
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
