"""One partition's transactional producer: everything that a batch leads to, or nothing.

aiokafka 0.14 commits a transaction whose record the broker refused, if that record's future was not awaited, and has
no deadline anywhere in a transaction. So the order here is the point:

1. begin;
2. hand all records over, in batches, to the input's partition;
3. await every delivery: a refused record raises here, before anything is decided;
4. add the input offset to the transaction;
5. commit, within a deadline that is shorter than the client's request timeout.

After any error, or when a deadline passes, the outcome is unknown: the producer is thrown away, a new one with the
same id settles the old transaction, and the owner reads the offset and the state again. So, too, when a connection
broke since the last transaction began and its markers are not all there: a broker that comes back may leave them out
(see `hanging`), and the next transaction would decide what hangs. And when one broke while a transaction was ended:
its end may be sent twice.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.client import ConnectionGroup
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import IllegalOperation, KafkaError, ProducerFenced
from aiokafka.producer import sender

from events.kafka import discard, transactional_producer
from processors.markers import undecided
from processors.settings import ProcessorsSettings
from processors.task import Batch

CONCURRENT_TRANSACTIONS_BACKOFF_S: Final = 0.002
"""How long aiokafka waits when the broker still writes the last transaction's markers. Its own 20 ms set the floor of
latency: measured on Kafka 4.3.1, transactions in a row took p50 29 ms with 20 ms, 11 ms with 5 ms, 7.7 ms with 2 ms."""

MARGIN_MS: Final = 1_000
"""By how much the client waits longer for an answer than we do for the whole transaction."""

WRONG_STATE: Final = (IllegalOperation, AssertionError)
"""aiokafka's answers to whatever is asked of a producer whose own task has ended, say because it was fenced."""

KeyValueHeaders = tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes]]]


class TransactionFailed(Exception):  # noqa: N818 - what happened, in the past tense
    """The batch may or may not be committed; the producer must be thrown away and the offset read again."""


class Fenced(TransactionFailed):
    """Another process has this partition now; nothing of the batch is visible."""


class Transactions:
    """The producer of one input partition. Use: `start`, then `commit` batch by batch; after an error `discard`."""

    def __init__(self, settings: ProcessorsSettings, partition: int) -> None:
        """Nothing is connected yet."""
        sender.BACKOFF_OVERRIDE = CONCURRENT_TRANSACTIONS_BACKOFF_S
        self._settings = settings
        self.partition = partition
        self._connections: dict[object, AIOKafkaConnection] = {}
        self._deadline_s = settings.transaction_timeout_s
        options = transactional_producer(settings, settings.transactional_id(partition))
        options["transaction_timeout_ms"] = int(self._deadline_s * 1000)
        # Above the deadline, at which the producer is thrown away: aiokafka would send a transaction's end again, and
        # the first one, delayed, could end the next transaction.
        options["request_timeout_ms"] = max(options["request_timeout_ms"], int(self._deadline_s * 1000) + MARGIN_MS)
        self._producer = AIOKafkaProducer(**options)

    async def start(self) -> None:
        """Fence the previous owner and settle its transaction; raises TransactionFailed."""
        try:
            async with asyncio.timeout(self._deadline_s * 2):
                await self._producer.start()
        except (KafkaError, OSError, TimeoutError) as error:
            raise TransactionFailed(f"the transactional producer did not start: {error!r}") from error

    async def commit(self, batch: Batch) -> None:
        """Write what the batch says and its next offset, all or nothing; raises TransactionFailed or Fenced."""
        try:
            async with asyncio.timeout(self._deadline_s):
                if self._was_disturbed() and (hanging := await undecided(self._settings, self.partition)):
                    raise TransactionFailed(f"markers of the last transaction are missing in {', '.join(hanging)}")
                await self._commit(batch)
        except ProducerFenced as error:
            raise Fenced("another process owns this partition") from error
        except (KafkaError, OSError, TimeoutError) as error:
            raise TransactionFailed(f"the transaction's outcome is unknown: {error!r}") from error
        except WRONG_STATE as error:
            ended = self._ended_by()
            if isinstance(ended, ProducerFenced):
                raise Fenced("another process owns this partition") from ended
            raise TransactionFailed(f"the transaction's outcome is unknown: {ended!r}, then {error!r}") from error

    async def settle(self, topics: Sequence[str], next_offset: int, *, is_commit: bool) -> None:
        """End what hangs in our partition of these topics, and of the group's offsets; raises TransactionFailed."""
        try:
            async with asyncio.timeout(self._deadline_s):
                await self._producer.begin_transaction()
                for topic in topics:  # a transaction without a record in them: its markers are all that is wanted
                    self._producer._txn_manager.maybe_add_partition_to_txn(TopicPartition(topic, self.partition))  # noqa: SLF001
                await self._send_offset(next_offset)
                await self._end(is_commit=is_commit)
        except (KafkaError, OSError, TimeoutError, *WRONG_STATE) as error:
            raise TransactionFailed(f"what hangs was not settled: {error!r}") from error

    def _ended_by(self) -> BaseException | None:
        """What ended the producer's own task, if it has ended."""
        task: asyncio.Task[None] | None = self._producer._sender.sender_task  # noqa: SLF001 - there is no public way
        return task.exception() if task is not None and task.done() and not task.cancelled() else None

    def _was_disturbed(self) -> bool:
        """Whether a connection to a broker broke since this was last asked, which is before each transaction."""
        now = dict(self._producer.client._conns)  # noqa: SLF001 - there is no public way
        before, self._connections = self._connections, now
        return _has_broken(before, now)

    async def _commit(self, batch: Batch) -> None:
        topics = self._settings.topic_set
        await self._producer.begin_transaction()
        deliveries = [
            *await self._send(topics.call_sessions, batch.session_events),
            *await self._send(topics.changelog, ((key, value, []) for key, value in batch.changelog.items())),
            *await self._send(topics.dead_letters, batch.dead_letters),
        ]
        for outcome in await asyncio.gather(*deliveries, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
        await self._send_offset(batch.next_offset)
        await self._end(is_commit=True)

    async def _end(self, *, is_commit: bool) -> None:
        """End the transaction; raises TransactionFailed when its end may have been sent twice.

        aiokafka sends it again when its connection broke. The first one, delayed on its way, would end whatever
        transaction of the same epoch it then meets (KAFKA-17754): who may have sent two begins with another epoch.
        """
        ways = self._ways_to_coordinators()
        await (self._producer.commit_transaction() if is_commit else self._producer.abort_transaction())
        if _has_broken(ways, self._ways_to_coordinators()):
            raise TransactionFailed("a connection broke while the transaction was ended")

    def _ways_to_coordinators(self) -> dict[object, AIOKafkaConnection]:
        conns = self._producer.client._conns  # noqa: SLF001 - there is no public way
        return {name: one for name, one in conns.items() if name[1] == ConnectionGroup.COORDINATION}

    async def _send_offset(self, next_offset: int) -> None:
        offsets = {TopicPartition(self._settings.topic_set.webhooks, self.partition): next_offset}
        await self._producer.send_offsets_to_transaction(offsets, self._settings.processors_application)

    async def _send(self, topic: str, records: Iterable[KeyValueHeaders]) -> list["asyncio.Future[object]"]:
        """Hand the records over in as few batches as fit; returns the deliveries to await."""
        deliveries: list[asyncio.Future[object]] = []
        builder = self._producer.create_batch()
        for key, value, headers in records:
            if builder.append(key=key, value=value, timestamp=None, headers=list(headers)) is None:  # it is full
                deliveries.append(await self._producer.send_batch(builder, topic, partition=self.partition))
                builder = self._producer.create_batch()
                # An empty batch takes any record, and the broker decides on its size.
                builder.append(key=key, value=value, timestamp=None, headers=list(headers))
        if builder.record_count():
            deliveries.append(await self._producer.send_batch(builder, topic, partition=self.partition))
        return deliveries

    async def discard(self) -> None:
        """Let go of the producer, whatever state it is in; never hangs and never raises an operating fault."""
        await discard(self._producer)


def _has_broken(before: Mapping[object, AIOKafkaConnection], now: Mapping[object, AIOKafkaConnection]) -> bool:
    """Whether any of the connections is not the one that it was, or is closed."""
    return any(not one.connected() or now.get(name) is not one for name, one in before.items())
