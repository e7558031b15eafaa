"""deploy/acls.py on a real broker (SASL_SSL, standard authorizer): the whole matrix, and the services under it."""

import asyncio
import itertools
import os
import socket
import ssl
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    GroupCoordinatorNotAvailableError,
    KafkaConnectionError,
    KafkaError,
    NotCoordinatorForGroupError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)

from deploy.acls import CONSUMER, INGEST, OPERATOR, POLLER, PROCESSORS, PROJECTIONS, Grant, commands, grants
from deploy.local.broker import HOST
from events import topics
from events.envelope import Type
from events.kafka import (
    KafkaSettings,
    SecurityProtocol,
    committed_reader,
    connection,
    ensure_topics,
    transactional_producer,
)
from events.settings import ConfigurationError
from events.topics import TopicSet
from tests.builders import Log, start
from tests.secure_broker import SecureBroker, administrating, allow, password_of
from tests.stand_in_pbx import StandInPbx
from tests.system import Service, System, append, kafka_environment, read_committed
from tests.test_end_to_end import seed_start
from tests.waiting import eventually

SET = TopicSet("matrix")
GRANTED = grants(SET)
AT_WORK = TopicSet("threecx")
PRINCIPALS = (*GRANTED, "stranger")
FOREIGN = "payroll"
MADE = (*topics.ALL, topics.POLLED_CALLS)
TOPICS = (*(SET.name(topic) for topic in MADE), FOREIGN)
REFUSED = TopicAuthorizationFailedError.errno
PARTITIONS = 2
GROUPS = ("callstream-processors", "callstream-projections", "callstream-poller", f"{CONSUMER}-board", "payroll")
TRANSACTIONAL_IDS = (
    f"callstream-processors-{SET.webhooks}-0", f"callstream-poller-{SET.polled_calls}-default", "payroll-1",
)  # fmt: skip


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureBroker]:
    """With the topics and the ACLs made."""
    started = SecureBroker(tmp_path_factory.mktemp("secure"), list(PRINCIPALS))
    started.start()
    asyncio.run(prepare(started))
    yield started
    started.stop()


async def prepare(broker: SecureBroker) -> None:
    admin = broker.settings("admin", kafka_topic_partitions=PARTITIONS, kafka_topic_prefix=SET.prefix)

    async def made() -> bool:
        try:
            await ensure_topics(admin, MADE)
        except (KafkaConnectionError, KafkaError, OSError):
            return False
        return True

    await eventually(made, bool, 60)
    at_work = broker.settings("admin", kafka_topic_partitions=PARTITIONS, kafka_topic_prefix=AT_WORK.prefix)
    await ensure_topics(at_work, MADE)
    async with administrating(broker) as client:
        await client.create_topics([NewTopic(FOREIGN, PARTITIONS, 1)])
        for topic_set in (SET, AT_WORK):
            for principal, granted in grants(topic_set).items():
                for one in granted:
                    await allow(client, principal, one)
    async with producing(broker, "admin") as producer:
        for topic in TOPICS:
            await producer.send_and_wait(topic, b"x", b"k", partition=0)


def expected(principal: str, resource: str, name: str, operation: str) -> bool:
    """As the table says; READ and WRITE imply DESCRIBE."""

    def covers(grant: Grant) -> bool:
        matches = name.startswith(grant.name) if grant.pattern == "prefix" else name == grant.name
        implied = {"Describe"} if grant.operations else set()
        return grant.resource == resource and matches and operation in grant.operations | implied

    return any(covers(grant) for grant in GRANTED.get(principal, ()))


@asynccontextmanager
async def producing(broker: SecureBroker, principal: str) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(**connection(broker.settings(principal)), acks="all", request_timeout_ms=5_000)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def may_write(producer: AIOKafkaProducer, topic: str) -> bool:
    try:
        await asyncio.wait_for(producer.send_and_wait(topic, b"x", b"k", partition=0), 10)
    except TopicAuthorizationFailedError:
        return False
    return True


async def may_read(broker: SecureBroker, principal: str, topic: str) -> bool:
    """By the fetch itself: who may only describe a topic is not told so before."""
    options = committed_reader(broker.settings(principal)) | {"isolation_level": "read_uncommitted"}
    consumer = AIOKafkaConsumer(**options, group_id=None)
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, 0)])
        # aiokafka asks on and on for a topic that it may not even describe.
        async with asyncio.timeout(10 if expected(principal, "topic", topic, "Describe") else 2):
            while not await consumer.getmany(timeout_ms=200):
                pass  # there is a record in each topic: it comes, or the refusal
    except (TopicAuthorizationFailedError, TimeoutError):
        return False
    finally:
        await consumer.stop()
    return True


async def test_a_wrong_password_or_authority_is_told_by_its_name(broker: SecureBroker) -> None:
    """Who waits for Kafka logs it; "unable to bootstrap" would be all that aiokafka tells."""
    with pytest.raises(SaslAuthenticationFailed):
        await ensure_topics(broker.settings("stranger", kafka_security_sasl_password="wrong"))
    with pytest.raises(ssl.SSLCertVerificationError):
        await ensure_topics(broker.settings("stranger", kafka_security_ca_file=None))


async def test_a_topic_that_may_not_even_be_looked_at_is_waited_for_by_its_name(broker: SecureBroker) -> None:
    """An ACL that is gone for a while is none of a setting's faults, and no reason to make the topic."""
    settings = broker.settings("stranger", kafka_topic_partitions=PARTITIONS, kafka_topic_prefix=SET.prefix)
    with pytest.raises(TopicAuthorizationFailedError):
        await ensure_topics(settings)


async def test_tls_files_that_are_half_renewed_leave_the_old_ones_in_use(broker: SecureBroker, tmp_path: Path) -> None:
    renewed = tmp_path / "ca.pem"
    settings = broker.settings("admin", kafka_topic_partitions=PARTITIONS, kafka_topic_prefix=SET.prefix)
    settings = settings.model_copy(update={"kafka_security_ca_file": renewed})
    with pytest.raises(ConfigurationError, match="the TLS files cannot be used"):
        await ensure_topics(settings)
    renewed.write_bytes(broker.ca_file.read_bytes())
    await ensure_topics(settings, MADE)
    for half in (b"", b"-----BEGIN CERTIFICATE-----\n"):
        renewed.write_bytes(half)
        await ensure_topics(settings, MADE)
    renewed.write_bytes(trustme.CA().cert_pem.bytes())
    with pytest.raises(ssl.SSLCertVerificationError):
        await ensure_topics(settings, MADE)


@pytest.mark.parametrize("principal", PRINCIPALS)
async def test_a_principal_may_do_what_its_row_says_on_each_topic_and_nothing_else(
    broker: SecureBroker, principal: str
) -> None:
    seen: dict[tuple[str, str], bool] = {}
    async with producing(broker, principal) as producer, administrating(broker, principal) as client:
        reads = await asyncio.gather(*(may_read(broker, principal, topic) for topic in TOPICS))
        described = {one["topic"]: one["error_code"] for one in await client.describe_topics(list(TOPICS))}
        for topic, read in zip(TOPICS, reads, strict=True):
            seen[topic, "Read"] = read
            seen[topic, "Write"] = await may_write(producer, topic)
            seen[topic, "Describe"] = described[topic] == 0
            for operation, code in (await administered(client, topic)).items():
                seen[topic, operation] = code == 0
    wanted = {(topic, operation): expected(principal, "topic", topic, operation) for topic, operation in seen}
    assert seen == wanted
    assert len(seen) == len(TOPICS) * 7


async def administered(client: Any, topic: str) -> dict[str, int]:
    """Error codes of what no service may: nothing of it is granted, so nothing of it is done."""
    deleted = await client.delete_topics([topic])
    try:
        await client.create_partitions({topic: NewPartitions(PARTITIONS + 1)})
        widened = 0
    except TopicAuthorizationFailedError:
        widened = REFUSED
    resource = ConfigResource(ConfigResourceType.TOPIC, topic)
    told = await client.describe_configs([resource])
    changed = await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"retention.ms": "1000"})])
    return {
        "Delete": deleted.topic_error_codes[0][1],
        "Alter": widened,
        "DescribeConfigs": told[0].resources[0][0],
        "AlterConfigs": changed[0].resources[0][0],
    }


@pytest.mark.parametrize("principal", PRINCIPALS)
async def test_nobody_creates_topics_and_groups_and_transactions_belong_to_whom_they_were_given(
    broker: SecureBroker, principal: str
) -> None:
    async with administrating(broker, principal) as client:
        made = await client.create_topics([NewTopic(f"of-{principal}", 1, 1)])
        assert made.topic_errors[0][1] == REFUSED
    for group in GROUPS:
        assert await may_join(broker, principal, group) == expected(principal, "group", group, "Read"), group
    for identity in TRANSACTIONAL_IDS:
        wanted = expected(principal, "transactionalId", identity, "Write")
        assert await may_transact(broker, principal, identity) == wanted, identity


async def may_join(broker: SecureBroker, principal: str, group: str) -> bool:
    """Whether the group tells its offsets."""
    async with administrating(broker, principal) as client:

        async def told() -> bool | None:
            try:
                coordinator = await client.find_coordinator(group)
                await client.list_consumer_group_offsets(group, coordinator)
            except GroupAuthorizationFailedError:
                return False
            except (GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError):
                return None  # the first group of all makes the broker create the topic of offsets
            return True

        return bool(await eventually(told, lambda seen: seen is not None))


async def may_transact(broker: SecureBroker, principal: str, identity: str) -> bool:
    producer = AIOKafkaProducer(**transactional_producer(broker.settings(principal), identity))
    try:
        await asyncio.wait_for(producer.start(), 10)
    except TransactionalIdAuthorizationFailed:
        return False
    finally:
        await producer.stop()
    return True


async def test_who_has_a_wrong_password_or_no_tls_gets_nowhere(broker: SecureBroker) -> None:
    wrong = broker.settings(INGEST, kafka_security_sasl_password="guessed")
    plain = broker.settings(INGEST, kafka_security_protocol="SASL_PLAINTEXT")
    for settings in (wrong, plain):
        producer = AIOKafkaProducer(**connection(settings), request_timeout_ms=2_000)
        with pytest.raises((KafkaError, OSError)):
            await asyncio.wait_for(producer.start(), 10)
        await producer.stop()


@contextmanager
def mute_peer(folder: Path) -> Iterator[tuple[int, Path]]:
    """The port of a TLS server that never says goodbye, and its authority's file."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HOST).configure_cert(context)
    ended = threading.Event()
    with socket.create_server((HOST, 0)) as listening:

        def serve() -> None:
            with context.wrap_socket(listening.accept()[0], server_side=True):
                ended.wait()

        serving = threading.Thread(target=serve)
        serving.start()
        try:
            yield listening.getsockname()[1], folder / "ca.pem"
        finally:
            ended.set()
            serving.join(5)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_the_end_of_a_connection_waits_for_no_goodbye(run: Callable[..., float], tmp_path: Path) -> None:
    async def closing_s(port: int, ca_file: Path) -> float:
        settings = KafkaSettings(kafka_security_protocol=SecurityProtocol.SSL, kafka_security_ca_file=ca_file)
        context = connection(settings)["ssl_context"]
        _, writer = await asyncio.open_connection(HOST, port, ssl=context)
        began = time.monotonic()
        writer.close()
        await writer.wait_closed()
        return time.monotonic() - began

    with mute_peer(tmp_path) as (port, ca_file):
        assert run(closing_s(port, ca_file)) < 5, "30 s is what an event loop waits"


async def test_the_three_services_work_each_as_its_own_principal(broker: SecureBroker, tmp_path: Path) -> None:
    settings = broker.settings(INGEST, kafka_topic_partitions=PARTITIONS)
    system = System(
        settings,
        tmp_path,
        KAFKA_SECURITY_PROTOCOL="SASL_SSL",
        KAFKA_SECURITY_CA_FILE=str(broker.ca_file),
        PROCESSORS_APPLICATION="callstream-processors",
        PROJECTIONS_APPLICATION="callstream-projections",
    )
    try:
        for service, principal in {"ingest": INGEST, "processors": PROCESSORS, "projections": PROJECTIONS}.items():
            system.environment["KAFKA_SECURITY_SASL_USERNAME"] = principal
            system.environment["KAFKA_SECURITY_SASL_PASSWORD"] = password_of(principal)
            system.start(service)
        await system.ready()
        async with httpx.AsyncClient() as client:
            body = seed_start(datetime.now(UTC))
            answer = await client.post(f"{system.door}/webhook/3cx/call-event", json=body)
            assert answer.status_code == httpx.codes.ACCEPTED

            async def shown() -> int:
                return len((await client.get(f"{system.board}/api/v1/calls")).json()["calls"])

            await eventually(shown, lambda count: count == 1, 20)
            (call,) = (await client.get(f"{system.board}/api/v1/calls")).json()["calls"]
            path = f"{system.board}/api/v1/calls/{call['session_id']}/records"
            (record,) = (await client.get(path)).json()["records"]  # projections read the webhooks, too
            assert record["body"].encode() == answer.request.content
            system.services["processors"].kill()  # the next one finds records in every topic
            system.environment["KAFKA_SECURITY_SASL_USERNAME"] = PROCESSORS
            system.environment["KAFKA_SECURITY_SASL_PASSWORD"] = password_of(PROCESSORS)
            system.start("processors")
            other = {**body, "agentExt": "299", "callId": "another"}
            answer = await client.post(f"{system.door}/webhook/3cx/call-event", json=other)
            assert answer.status_code == httpx.codes.ACCEPTED
            await eventually(shown, lambda count: count == 2, 40)
        assert "torn" not in system.services["processors"].log.read_text("utf-8", "replace")
    finally:
        system.kill()


def logged_in(broker: SecureBroker, principal: str, topic_set: TopicSet) -> dict[str, str]:
    """The environment of a process that logs in as `principal`."""
    settings = broker.settings(principal, kafka_topic_partitions=PARTITIONS, kafka_topic_prefix=topic_set.prefix)
    return {
        **kafka_environment(settings),
        "KAFKA_WEBHOOKS_PREFIX": topic_set.webhooks_prefix or "",
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SECURITY_CA_FILE": str(broker.ca_file),
        "KAFKA_SECURITY_SASL_USERNAME": principal,
        "KAFKA_SECURITY_SASL_PASSWORD": password_of(principal),
    }


async def told(broker: SecureBroker, principal: str, topic_set: TopicSet, *words: str) -> tuple[int | None, str]:
    """Exit status and output of ``python -m processors`` with these words."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "processors", *words),
        env={**os.environ, **logged_in(broker, principal, topic_set)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


async def test_a_replay_and_what_follows_it_work_by_the_grants_of_the_new_set(broker: SecureBroker) -> None:
    live, replayed = TopicSet("live"), TopicSet("live-2", "live")
    made = {live: topics.ALL, replayed: topics.OUTPUTS}
    async with administrating(broker) as client:
        for topic_set, wanted in made.items():
            admin = broker.settings("admin", kafka_topic_partitions=PARTITIONS, kafka_topic_prefix=topic_set.prefix)
            await ensure_topics(admin, wanted)
            for principal, granted in grants(topic_set).items():
                for one in granted:
                    await allow(client, principal, one)
    admin = broker.settings("admin", kafka_topic_partitions=PARTITIONS, kafka_topic_prefix=live.prefix)
    await append(admin, Log(0).webhook(1, start("7")).webhook(2, b"broken").records)

    status, output = await told(broker, PROCESSORS, live, "replay", "--to-prefix", replayed.prefix)
    assert status == 0, output
    assert "1 dead letters" in output
    status, output = await told(broker, PROCESSORS, live, "diff", live.prefix, replayed.prefix)
    assert status == 1, output  # nobody has worked on the live set
    status, output = await told(broker, OPERATOR, replayed, "dead-letters", "resend", "0")
    assert (status, output.splitlines()[-1]) == (0, "1 sent again, 0 not")


async def test_the_poller_works_as_its_own_principal(broker: SecureBroker, tmp_path: Path) -> None:
    admin = broker.settings("admin", kafka_topic_partitions=PARTITIONS, kafka_topic_prefix=AT_WORK.prefix)
    async with StandInPbx().running() as pbx:
        pbx.begin("10000 +41225551234", "201 Agent")
        environment = {
            **logged_in(broker, POLLER, AT_WORK),
            "DATA_DIR": str(tmp_path),
            **pbx.settings,
            "POLLING_WITNESS": "true",
        }
        poller = Service("ingest", environment, tmp_path / "poller.log", "poll")
        try:
            await eventually(partial(types_on, admin, AT_WORK.polled_calls), lambda seen: Type.CALLS_POLLED in seen, 40)
            await eventually(partial(types_on, admin, AT_WORK.webhooks), lambda seen: Type.CALLS_LISTED in seen, 40)
        finally:
            assert poller.stop() == 0


async def types_on(settings: KafkaSettings, topic: str) -> set[str]:
    return {dict(one.headers)["ce_type"].decode() for one in await read_committed(settings, topic)}


def test_the_printed_commands_are_the_table() -> None:
    lines = list(commands(SET, "kafka:9094", [CONSUMER]))
    assert len(set(lines)) == len(lines)
    assert len(lines) == sum(len(granted) for granted in GRANTED.values())
    again = list(commands(TopicSet("matrix-2", "matrix"), "kafka:9094", [CONSUMER]))
    assert {"callstream-processors-matrix-2", "callstream-projections-matrix-2", f"{CONSUMER}-"} == {
        line.split("--group ")[1].split()[0] for line in again if "--group" in line
    }
    assert not any(f"User:{INGEST} " in line or f"User:{POLLER} " in line for line in again)
    operations = sum(line.count("--operation") for line in lines)
    assert operations == sum(len(one.operations) for one in itertools.chain(*GRANTED.values()))
    assert lines[0].endswith("--operation Describe --operation Write --topic matrix.webhooks")
    assert any(
        line.endswith("--transactional-id callstream-processors- --resource-pattern-type prefixed") for line in lines
    )
