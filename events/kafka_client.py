"""What aiokafka's client does not do by itself: it is mended here, once for every connection of the process.

All of it is of aiokafka 0.14 and was seen in runs with faults; where there is no public way the private one is taken.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final

import structlog
from aiokafka import conn
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.conn import AIOKafkaConnection, AIOKafkaProtocol, CloseReason
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import (
    CoordinatorNotAvailableError,
    KafkaConnectionError,
    NoError,
    NotCoordinatorForGroupError,
    for_code,
)
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.group import HeartbeatRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest

SILENCE_S: Final = 5.0
AT_ONCE: Final = frozenset(
    request.API_KEY
    for request in (
        FetchRequest,  # within `fetch_max_wait_ms`
        FindCoordinatorRequest,
        HeartbeatRequest,
        MetadataRequest,
        OffsetCommitRequest,  # within the broker's `offsets.commit.timeout.ms`, 5 s
        OffsetFetchRequest,
        OffsetRequest,
    )
)

WHOLE_S: Final = 300.0
"""So long an answer may come in pieces. A fetch has 50 MiB at the most: 170 kB/s are enough."""

log = structlog.get_logger()


def _nobody() -> None:
    """Nobody counts."""


@dataclass(slots=True)
class _Silence:
    """A broker that owes an answer which it gives at once, and says nothing for so long, is connected to anew.

    What the network lost is sent again by the kernels after twice as long each time, half a minute later at last, and
    of the broker's own kernel we cannot ask another pace. A new connection is through with the first packet. Without
    it projections came back up to 58 s after a network of 30 s at 10 kB/s: aiokafka waits 40 s for each answer by
    itself, and a group's join needs some of them. Whoever hears anything, if slowly, stays.
    """

    limit_s: float = SILENCE_S
    count: Callable[[], object] = _nobody


_silence = _Silence()


def limit_silence(limit_s: float) -> None:
    """How long a broker may be silent, of every connection of the process from now on."""
    _silence.limit_s = limit_s


def count_silences(count: Callable[[], object]) -> None:
    """What is called for each connection that is given up, or not made, because a broker is silent."""
    _silence.count = count


def mend() -> None:
    """Of the classes, before the first connection; more than once changes nothing."""
    if conn.AIOKafkaProtocol is _Listening:
        return
    conn.AIOKafkaProtocol = _Listening
    AIOKafkaClient.coordinator_lookup = _or_ask_again(AIOKafkaClient.coordinator_lookup)
    GroupCoordinator._send_req = _or_refused(GroupCoordinator._send_req)  # noqa: SLF001
    AIOKafkaConnection.connect = _soon(AIOKafkaConnection.connect)
    AIOKafkaConnection.send = _unless_silent(_or_break(AIOKafkaConnection.send))
    AIOKafkaConnection._send_sasl_token = _or_break(AIOKafkaConnection._send_sasl_token)  # noqa: SLF001 - while it logs in


class _Listening(AIOKafkaProtocol):  # type: ignore[misc]  # aiokafka ships no types
    """A connection's receiving end, which puts off the limits of those that wait whenever anything comes."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.limits: set[asyncio.Timeout] = set()

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        until_s = asyncio.get_running_loop().time() + _silence.limit_s
        for limit in self.limits:
            if not limit.expired():
                limit.reschedule(until_s)
        super().data_received(data)


def _unless_silent(send: Callable[..., Any]) -> Callable[..., Any]:
    """Sending, whose answer does not come from a broker that is silent: TimeoutError, and the client connects anew.

    Answers come in the order of their requests: behind one that may take its time, as a join does, all may. Of the
    others aiokafka's own limit is for the whole: a fetch that took longer was begun again, for ever.
    """

    @wraps(send)
    def sending(connection: AIOKafkaConnection, request: Any, *arguments: Any, **options: Any) -> Any:
        owed = [request, *(asked for _, asked, _ in connection._requests)]  # noqa: SLF001
        if not all(asked is not None and asked.API_KEY in AT_ONCE for asked in owed):
            return send(connection, request, *arguments, **options)
        usual_s = connection._request_timeout  # noqa: SLF001
        connection._request_timeout = WHOLE_S  # noqa: SLF001 - it is read while this sends
        try:
            return _heard(connection, send(connection, request, *arguments, **options))
        finally:
            connection._request_timeout = usual_s  # noqa: SLF001

    return sending


async def _heard(connection: AIOKafkaConnection, answer: Awaitable[Any]) -> Any:
    protocol: _Listening = connection._protocol  # noqa: SLF001
    try:
        async with asyncio.timeout(_silence.limit_s) as limit:
            protocol.limits.add(limit)
            try:
                return await answer
            finally:
                protocol.limits.discard(limit)
    except TimeoutError:
        if limit.expired() and connection.connected():  # else another that waited has closed it
            _silence.count()
            log.warning(
                "a broker is silent and is connected to anew",
                host=connection.host,
                port=connection.port,
                silent_s=_silence.limit_s,
            )
            # Not everywhere does aiokafka close it: who asks for metadata asked the same one again.
            connection.close(reason=CloseReason.CONNECTION_TIMEOUT)
        raise


def _soon(connect: Callable[..., Any]) -> Callable[..., Any]:
    """Connecting, each step of which has as long: aiokafka connects to one broker at a time, and others wait for it."""

    @wraps(connect)
    async def connecting(connection: AIOKafkaConnection) -> Any:
        usual_s = connection._request_timeout  # noqa: SLF001
        connection._request_timeout = min(usual_s, _silence.limit_s)  # noqa: SLF001
        try:
            return await connect(connection)
        except TimeoutError:
            _silence.count()
            raise
        finally:
            connection._request_timeout = usual_s  # noqa: SLF001

    return connecting


def _or_break(send: Callable[..., Any]) -> Callable[..., Any]:
    """One of aiokafka's ways to send, which raises KafkaConnectionError when the transport was closed a moment before.

    uvloop raises a RuntimeError there, asyncio nothing, and aiokafka takes no account of it: the task that renews a
    client's metadata ended so at one of some twenty kills of a broker, and whoever waited for it, as a group does to
    find its coordinator, waited until the process ended.
    """

    @wraps(send)
    def sending(connection: AIOKafkaConnection, *arguments: Any, **options: Any) -> Any:
        try:
            return send(connection, *arguments, **options)
        except RuntimeError as error:
            connection.close(reason=CloseReason.CONNECTION_BROKEN)
            message = f"Connection at {connection.host}:{connection.port} broken: {error}"
            raise KafkaConnectionError(message) from error

    return sending


def _or_ask_again(lookup: Callable[..., Any]) -> Callable[..., Any]:
    """The search for a coordinator, which raises what its callers try again after while no broker is known.

    A broker that came back, or was frozen, names none until the controller has heard from it. aiokafka asserts that one
    is known: processors ended by it, and a group's coordination. The client's only connection is then the one that it
    began with; when that is gone it begins again.
    """

    @wraps(lookup)
    async def looking_up(client: AIOKafkaClient, *arguments: Any) -> Any:
        if client.get_random_node() is None:
            first = client._conns.get(("bootstrap", ConnectionGroup.DEFAULT))  # noqa: SLF001 - there is no public way
            if first is None or not first.connected():
                await client.bootstrap()
            raise CoordinatorNotAvailableError("no broker is known yet")
        return await lookup(client, *arguments)

    return looking_up


def _or_refused(ask: Callable[..., Any]) -> Callable[..., Any]:
    """Asking a group's coordinator, which raises what it answers in place of offsets: aiokafka tries again after it.

    While a broker loads a group, or has it no more, it says so of all partitions together, and aiokafka 0.14 looks at
    each only: none was named, and so none was taken to have an offset.
    """

    @wraps(ask)
    async def asking(coordinator: GroupCoordinator, request: Any) -> Any:
        answer = await ask(coordinator, request)
        if isinstance(request, OffsetFetchRequest) and (error := for_code(answer.error_code)) is not NoError:
            if error is NotCoordinatorForGroupError:
                coordinator.coordinator_dead()
            raise error
        return answer

    return asking
