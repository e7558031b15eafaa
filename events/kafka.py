"""How the services talk to Kafka: settings, one profile of options per use (each non-default with its reason), topics.

Options are those of aiokafka 0.14. What they rest on was measured: see the README, "Decisions".
"""

import asyncio
import contextlib
import ssl
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    NoError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.group import HeartbeatRequest
from pydantic import Field, SecretStr

from events import kafka_client, topics
from events.settings import ConfigurationError, Settings
from events.topics import TopicSet

SESSION_TIMEOUT_S: Final = 15
HEARTBEAT_MS_MAX: Final = 3_000
JOIN_MARGIN_MS: Final = 5_000
Options = dict[str, Any]

DISCARD_TIMEOUT_S = 2.0
ADMIN_TIMEOUT_MS = 10_000
SAFE_COPIES_MIN = 3

log = structlog.get_logger()
kafka_client.mend()


class SecurityProtocol(StrEnum):
    """Kafka's own names."""

    PLAINTEXT = "PLAINTEXT"
    SSL = "SSL"
    SASL_PLAINTEXT = "SASL_PLAINTEXT"
    SASL_SSL = "SASL_SSL"


class KafkaSettings(Settings):
    """The variables about the broker and the topics."""

    kafka_bootstrap_servers: str = Field(default="127.0.0.1:9092", description="host:port, comma-separated.")
    kafka_security_protocol: SecurityProtocol = Field(default=SecurityProtocol.PLAINTEXT, description="Kafka's name.")
    kafka_security_sasl_mechanism: str = Field(
        default="SCRAM-SHA-512", pattern="^(PLAIN|SCRAM-SHA-256|SCRAM-SHA-512)$", description="With SASL_*."
    )
    kafka_security_sasl_username: str | None = Field(default=None, description="With SASL_*.")
    kafka_security_sasl_password: SecretStr | None = Field(default=None, description="With SASL_*.")
    kafka_security_ca_file: Path | None = Field(default=None, description="PEM; empty: the system's authorities.")
    kafka_security_certificate_file: Path | None = Field(default=None, description="PEM of the client, for mutual TLS.")
    kafka_security_key_file: Path | None = Field(default=None, description="PEM of the client's key.")
    kafka_topic_prefix: str = Field(default="threecx", pattern=r"^[a-zA-Z0-9._-]{1,200}$", description="Of each topic.")
    kafka_webhooks_prefix: str | None = Field(
        default=None,
        pattern=r"^[a-zA-Z0-9._-]{1,200}$",
        description="Of the webhooks' topic, when the other topics were replayed from it; empty: KAFKA_TOPIC_PREFIX.",
    )
    kafka_topic_partitions: int = Field(default=12, ge=1, le=10_000, description="Of every topic, fixed for its life.")
    kafka_topic_replication: int = Field(
        default=1, ge=1, le=9, description="Copies of each partition; from 3 on two must have what is acknowledged."
    )
    kafka_silence_s: float = Field(
        default=kafka_client.SILENCE_S,
        ge=1,
        le=10,
        description="A broker that owes a prompt answer and says nothing for so long is connected to anew. Below the"
        " session timeouts.",
    )

    @property
    def topic_set(self) -> TopicSet:
        """The names of the topics."""
        return TopicSet(self.kafka_topic_prefix, self.kafka_webhooks_prefix)


def connection(settings: KafkaSettings) -> Options:
    """Where the broker is and how to be let in; raises ConfigurationError for what cannot be used."""
    kafka_client.limit_silence(settings.kafka_silence_s)
    # A list: FastStream takes no comma-separated text.
    servers = [server.strip() for server in settings.kafka_bootstrap_servers.split(",")]
    try:
        collect_hosts(servers)
    except ValueError:
        message = f"KAFKA_BOOTSTRAP_SERVERS: {settings.kafka_bootstrap_servers!r} is not host:port, comma-separated"
        raise ConfigurationError(message) from None
    options: Options = {
        "bootstrap_servers": servers,
        "security_protocol": settings.kafka_security_protocol.value,
    }
    if settings.kafka_security_protocol.endswith("SSL"):
        options["ssl_context"] = _ssl_context(settings)
    if settings.kafka_security_protocol.startswith("SASL"):
        password = settings.kafka_security_sasl_password
        options["sasl_mechanism"] = settings.kafka_security_sasl_mechanism
        options["sasl_plain_username"] = settings.kafka_security_sasl_username
        options["sasl_plain_password"] = None if password is None else password.get_secret_value()
    return options


class _PartingObject(ssl.SSLObject):
    """A TLS connection that says goodbye at its end and does not wait for the other side's.

    uvloop does, and misses it at times: of 25 consumers that were closed beside Kafka 4.3.1, three took its whole 30 s.
    """

    def unwrap(self) -> None:
        """Send close_notify, which is all that TLS asks of who closes (RFC 8446, section 6.1)."""
        with contextlib.suppress(ssl.SSLWantReadError):
            super().unwrap()


_TlsFiles = tuple[Path | None, Path | None, Path | None]
_fitting: Final[dict[_TlsFiles, ssl.SSLContext]] = {}
"""What was made last of these files: while they are renewed, half of them are new, and the old ones serve on."""


def _ssl_context(settings: KafkaSettings) -> ssl.SSLContext:
    """The files as they are now; raises ConfigurationError when they never could be used."""
    files = (
        settings.kafka_security_ca_file,
        settings.kafka_security_certificate_file,
        settings.kafka_security_key_file,
    )
    try:
        _fitting[files] = _loaded(*files)
    except (OSError, ssl.SSLError) as error:
        if files not in _fitting:
            message = f"KAFKA_SECURITY_*_FILE: the TLS files cannot be used ({error}); give readable PEM files"
            raise ConfigurationError(message) from None
        log.warning("KAFKA_SECURITY_*_FILE changed and do not fit; the old ones stay", error=type(error).__name__)
    return _fitting[files]


def _loaded(ca: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca)
    context.sslobject_class = _PartingObject
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context


FORWARDED_BATCH_BYTES_MAX: Final = 262_144
"""A quarter of what a broker takes unless told otherwise; one batch of a partition is in flight at a time."""


def forwarder_producer(settings: KafkaSettings) -> Options:
    """Ingest's producer: in order, no duplicates of its own, durable."""
    return {
        **connection(settings),
        "acks": "all",  # what is acknowledged survives the loss of a broker (with replication)
        "enable_idempotence": True,  # a retry inside the client neither doubles nor reorders
        "linger_ms": 0,  # batches form by themselves while one is in flight; lingering only adds latency
        "compression_type": None,  # bodies are small and the log is read by anybody
        "request_timeout_ms": 10_000,  # a dead broker is noticed within the tick's patience
        "retry_backoff_ms": 100,
        "max_request_size": 1_048_576,
        "max_batch_size": FORWARDED_BATCH_BYTES_MAX,
    }


TRANSACTION_BATCH_BYTES_MAX: Final = 262_144
"""As the forwarder's. Of a partition one batch is in flight at a time: with aiokafka's 16 KiB a transaction of 2,000
records took some 130 requests, one after the other, and most of a transaction's time."""


def transactional_producer(settings: KafkaSettings, transactional_id: str) -> Options:
    """The producer of one input partition; its id fences whoever had the partition before."""
    return {
        **connection(settings),
        "transactional_id": transactional_id,
        "acks": "all",
        "enable_idempotence": True,
        "linger_ms": 0,
        "compression_type": None,
        # Below the session timeout: a transaction that its dead owner left is aborted before a new owner reads.
        "transaction_timeout_ms": 10_000,
        "request_timeout_ms": 9_000,
        "retry_backoff_ms": 20,
        "max_request_size": 1_048_576,
        "max_batch_size": TRANSACTION_BATCH_BYTES_MAX,
    }


def committed_reader(settings: KafkaSettings) -> Options:
    """A consumer that keeps its own position and sees only committed records, each of them."""
    return {
        **connection(settings),
        "isolation_level": "read_committed",
        "enable_auto_commit": False,  # positions are committed with what they led to, never by a timer
        "auto_offset_reset": "earliest",  # a new reader starts at the beginning: nothing is skipped
        "fetch_max_wait_ms": 250,
        **patience(SESSION_TIMEOUT_S),
        "max_partition_fetch_bytes": 4_194_304,
        # aiokafka reads on from a broker that leads a partition no more. When that one deletes its copy the position is
        # "out of range", and aiokafka asks the same broker where to go on, for as long as its metadata last (5 min),
        # and reads nothing else from it meanwhile.
        "metadata_max_age_ms": 3_000,
    }


def patience(session_timeout_s: float) -> Options:
    """Of a group's member: after how long it is given up for dead, and how often it shows that it is not."""
    timeout_ms = int(session_timeout_s * 1000)
    return {
        "session_timeout_ms": timeout_ms,
        # The longest answer is a join's, which waits for a member that is gone for as long as its session lasts.
        "request_timeout_ms": timeout_ms + JOIN_MARGIN_MS,
        # Also how long it takes a member to hear of another one that came: never longer than usual.
        "heartbeat_interval_ms": min(timeout_ms // 5, HEARTBEAT_MS_MAX),
        "rebalance_timeout_ms": timeout_ms,
    }


def give_up_place(consumer: AIOKafkaConsumer) -> None:
    """Have a member with a name of its own leave its group when it stops: by itself aiokafka keeps its place then.

    A place is kept for one that was killed; what a planned stop leaves others take over at once.
    """
    if consumer._coordinator is not None:  # noqa: SLF001 - there is no public way
        consumer._coordinator._group_instance_id = None  # noqa: SLF001


async def is_member(consumer: AIOKafkaConsumer) -> bool:
    """Ask the group's coordinator whether it counts us among the members who have its partitions now.

    By a heartbeat of ours, whose answer changes nothing here. Raises KafkaError, OSError or TimeoutError when it does
    not say.
    """
    coordinator = consumer._coordinator  # noqa: SLF001 - there is no public way
    request = HeartbeatRequest(coordinator.group_id, coordinator.generation, coordinator.member_id)
    answer = await coordinator._send_req(request)  # noqa: SLF001
    return bool(answer.error_code == NoError.errno)


def position_now(consumer: AIOKafkaConsumer | None, tp: TopicPartition) -> int:
    """Where a reader stands; 0 if that is not known now: `position` waits until it is, and a gauge cannot."""
    if consumer is None or tp not in consumer.assignment():
        return 0
    state = consumer._subscription.subscription.assignment.state_value(tp)  # noqa: SLF001 - there is no public way
    return int(state.position) if state.has_valid_position else 0


async def ends_before(consumer: AIOKafkaConsumer, tp: TopicPartition, offset: int) -> bool:
    """Whether the partition's log has lost its end: it ends before an offset up to which it was read.

    What is read tells of too low an end while its leader is new and has not heard from the other copies. A leader that
    is asked for the end itself does not answer before it knows (KIP-207).
    """
    if (consumer.highwater(tp) or offset) >= offset:
        return False
    end: int = (await consumer.end_offsets([tp]))[tp]
    return end < offset


async def stop_consumer(consumer: AIOKafkaConsumer) -> None:
    """Stop a consumer, whatever state it is in.

    aiokafka cancels its fetches and awaits them: one that waits before it tries again answers with its cancellation,
    as if we were cancelled, and the connections stay open (measured with 0.14, on a broker that was killed).
    """
    try:
        await consumer.stop()
    except asyncio.CancelledError:
        await consumer._client.close()  # noqa: SLF001 - there is no public way
        if (task := asyncio.current_task()) is None or task.cancelling():
            raise


async def discard(producer: AIOKafkaProducer) -> None:
    """Let go of a producer, whatever state it is in: aiokafka has no close that cannot hang. Raises nothing of Kafka.

    What it still had in flight may or may not arrive.
    """
    sender_task = producer._sender.sender_task  # noqa: SLF001 - there is no public way
    if sender_task is not None:
        sender_task.cancel()
    client = producer.client
    with contextlib.suppress(KafkaError, OSError, TimeoutError, asyncio.InvalidStateError):
        async with asyncio.timeout(DISCARD_TIMEOUT_S):
            await client.close()
    # Requests that were cut off wait for metadata now, and the sender for them: for ever, as nobody asks for any more.
    client.force_metadata_update()
    client._md_update_fut.cancel()  # noqa: SLF001
    producer._closed = True  # noqa: SLF001 - or it would complain of never having been closed


async def ensure_topics(settings: KafkaSettings, wanted: tuple[topics.Topic, ...] = topics.ALL) -> None:
    """Create the topics that are missing; raises ConfigurationError when one has another partition count.

    Safe to call from several processes at once. A broker out of reach raises aiokafka.errors.KafkaError or OSError; so
    does one that does not make a topic, or show it: brokers may be missing, a controller is elected, an ACL comes back.
    """
    admin = AIOKafkaAdminClient(**connection(settings), request_timeout_ms=ADMIN_TIMEOUT_MS)
    try:
        await admin.start()
    except KafkaConnectionError:
        await _knock(settings)
        raise
    try:
        names = {settings.topic_set.name(topic): topic for topic in wanted}
        existing = await _partition_counts(admin, list(names))
        missing = [_new_topic(settings, name, names[name]) for name in names if name not in existing]
        if missing:
            await _create(admin, missing)
            existing = await _partition_counts(admin, list(names))
    finally:
        await admin.close()
    for name, count in existing.items():
        if count != settings.kafka_topic_partitions:
            message = (
                f"KAFKA_TOPIC_PARTITIONS: {settings.kafka_topic_partitions}, but topic {name} has {count} partitions;"
                " set the variable to that, or choose another KAFKA_TOPIC_PREFIX and replay into it"
            )
            raise ConfigurationError(message)


async def _knock(settings: KafkaSettings) -> None:
    """Raise why the first server cannot be used, if it cannot: aiokafka's own client keeps that to itself.

    A wrong password, a certificate, a closed port would all be "unable to bootstrap".
    """
    options = connection(settings)
    (host, port, _), *_ = collect_hosts(options.pop("bootstrap_servers"), randomize=False)
    (await create_conn(host, port, request_timeout_ms=ADMIN_TIMEOUT_MS, **options)).close()


async def partition_count(settings: KafkaSettings, topic: str) -> int | None:
    """How many partitions the topic has; null when there is none. Raises KafkaError when nobody can or may tell."""
    admin = AIOKafkaAdminClient(**connection(settings), request_timeout_ms=ADMIN_TIMEOUT_MS)
    try:
        await admin.start()
        return (await _partition_counts(admin, [topic])).get(topic)
    finally:
        await admin.close()


def _new_topic(settings: KafkaSettings, name: str, topic: topics.Topic) -> NewTopic:
    copies = settings.kafka_topic_replication
    return NewTopic(name, settings.kafka_topic_partitions, copies, topic_configs=topic_configs(topic, copies))


def topic_configs(topic: topics.Topic, copies: int) -> dict[str, str]:
    """The topic's own; of three copies and more two have a record before it is acknowledged: one broker may be lost."""
    safe = {"min.insync.replicas": "2"} if copies >= SAFE_COPIES_MIN else {}
    return {**topic.configs, **safe}


async def _create(admin: AIOKafkaAdminClient, missing: list[NewTopic]) -> None:
    response = await admin.create_topics(missing)
    for name, code, *rest in response.topic_errors:
        # Another process may have created it in the meantime: then it is there, which is what was wanted.
        if code not in {0, TopicAlreadyExistsError.errno}:
            raise for_code(code)(f"topic {name} cannot be created {rest}")


async def _partition_counts(admin: AIOKafkaAdminClient, names: list[str]) -> Mapping[str, int]:
    found = await admin.describe_topics(names)
    for one in found:
        if one["error_code"] not in {0, UnknownTopicOrPartitionError.errno}:
            raise for_code(one["error_code"])(f"topic {one['topic']} cannot be looked at")
    return {one["topic"]: len(one["partitions"]) for one in found if one["error_code"] == 0}
