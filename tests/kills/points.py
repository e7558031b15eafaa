"""The named moments between the steps of a transaction and of a takeover, marked by wrapping what aiokafka offers.

Only functions that the processors call are wrapped, from outside: the product knows nothing of it.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.producer.sender import EndTxnHandler, InitPIDHandler
from aiokafka.protocol.transaction import EndTxnRequest

from processors.task import Task

TRANSACTION = (
    "before-begin",
    "after-begin",
    "handed-over",  # a batch is in the client's hands, others may follow
    "half-delivered",  # the broker has acknowledged one of them
    "deliveries-awaited",  # all of them; the offsets were not sent
    "offsets-sent",
    "commit-requested",  # the request is on its way, or at the broker, or carried out
    "commit-answered",  # the answer is here and was not looked at
    "committed",
)
TAKEOVER = (
    "fence-answered",  # the previous owner is fenced and its transaction settled; the answer was not looked at
    "producer-started",
    "changelog-read",  # some records of it
    "before-seek",
)
POINTS = (*TRANSACTION, *TAKEOVER)
REQUEST_TRAVELS_S = (0.0, 0.001, 0.002, 0.004)
"""How long after the commit was requested it ends, in turns: before the broker has it, while it works, after."""

Reached = Callable[[str], None]


def mark(reached: Reached) -> None:
    """Have `reached` called at every point, in this process, from now on."""
    _mark_transaction(reached)
    _mark_commit(reached)
    _mark_takeover(reached)


def _mark_transaction(reached: Reached) -> None:
    begin, send_batch = AIOKafkaProducer.begin_transaction, AIOKafkaProducer.send_batch
    send_offsets, commit = AIOKafkaProducer.send_offsets_to_transaction, AIOKafkaProducer.commit_transaction

    async def beginning(self: Any) -> None:
        reached("before-begin")
        await begin(self)
        reached("after-begin")

    async def sending(self: Any, *given: Any, **named: Any) -> Any:
        delivery = await send_batch(self, *given, **named)
        delivery.add_done_callback(lambda _: reached("half-delivered"))
        reached("handed-over")
        return delivery

    async def sending_offsets(self: Any, *given: Any, **named: Any) -> None:
        reached("deliveries-awaited")
        await send_offsets(self, *given, **named)
        reached("offsets-sent")

    async def committing(self: Any) -> None:
        await commit(self)
        reached("committed")

    AIOKafkaProducer.begin_transaction = beginning
    AIOKafkaProducer.send_batch = sending
    AIOKafkaProducer.send_offsets_to_transaction = sending_offsets
    AIOKafkaProducer.commit_transaction = committing


def _mark_commit(reached: Reached) -> None:
    send, answer = AIOKafkaClient.send, EndTxnHandler.handle_response
    count = 0

    async def requesting(self: Any, node_id: Any, request: Any, **named: Any) -> Any:
        if not isinstance(request, EndTxnRequest):
            return await send(self, node_id, request, **named)
        nonlocal count
        count += 1
        sent = asyncio.ensure_future(send(self, node_id, request, **named))
        for _ in range(3):
            await asyncio.sleep(0)  # uvloop writes at the end of a turn of the loop
        await asyncio.sleep(REQUEST_TRAVELS_S[count % len(REQUEST_TRAVELS_S)])
        reached("commit-requested")
        return await sent

    def answering(self: Any, response: Any) -> Any:
        reached("commit-answered")
        return answer(self, response)

    AIOKafkaClient.send = requesting
    EndTxnHandler.handle_response = answering


def _mark_takeover(reached: Reached) -> None:
    fenced, start = InitPIDHandler.handle_response, AIOKafkaProducer.start
    restore_all, seek = Task.restore_all, AIOKafkaConsumer.seek

    def fencing(self: Any, response: Any) -> Any:
        reached("fence-answered")
        return fenced(self, response)

    async def starting(self: Any) -> None:
        await start(self)
        reached("producer-started")

    def restoring(self: Task, records: Iterable[Any]) -> None:
        for record in records:
            restore_all(self, (record,))
            reached("changelog-read")

    def seeking(self: Any, *given: Any) -> None:
        reached("before-seek")
        seek(self, *given)

    InitPIDHandler.handle_response = fencing
    AIOKafkaProducer.start = starting
    Task.restore_all = restoring  # type: ignore[method-assign]  # that is the point
    AIOKafkaConsumer.seek = seeking
