"""A connection to Kafka whose transport is gone."""

import asyncio
from collections.abc import Callable

import pytest
import uvloop
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.admin import ApiVersionRequest

import events.kafka  # noqa: F401 - as every service does


@pytest.mark.parametrize(
    "send",
    [lambda one: one.send(ApiVersionRequest()), lambda one: one._send_sasl_token(b"")],
    ids=["a request", "what logs in"],
)
def test_what_is_sent_on_a_closed_transport_is_the_error_that_clients_try_again_after(
    send: Callable[[AIOKafkaConnection], object],
) -> None:
    async def closed_beneath() -> None:
        async with await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0) as server:
            host, port = server.sockets[0].getsockname()
            connection = AIOKafkaConnection(host, port)
            connection._reader, connection._writer = await asyncio.open_connection(host, port)
            connection._read_task = connection._create_reader_task()
            connection._writer.transport.abort()
            await asyncio.sleep(0)  # closed, and the reader has not heard of it
            with pytest.raises(KafkaConnectionError, match="broken"):
                send(connection)
            assert not connection.connected()

    uvloop.run(closed_beneath())
