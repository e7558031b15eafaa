"""Paired events per second with transactions, against a bare aiokafka consume-produce-commit loop on its topics."""

import asyncio
import time
from unittest import mock

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from bench.at_least_once import AtLeastOnce
from bench.report import Line, compared
from events.kafka import (
    TRANSACTION_BATCH_BYTES_MAX,
    KafkaSettings,
    committed_reader,
    discard,
    ensure_topics,
    transactional_producer,
)
from events.memory import collect_garbage_seldom
from events.metrics import Metrics
from events.pbx import DEFAULT_PBX, Pbx
from processors import owner
from processors.runner import Runner
from processors.settings import ProcessorsSettings
from processors.task import Batch, InputRecord
from tests.builders import Log, end, run, start
from tests.system import append, kafka_environment

CALLS = 15_000
AGENTS = 400
ROUNDS = 5
BATCH_RECORDS = 2_000
PARTITIONS_MANY = 64
CALLS_SPREAD = 45_000
POLL_S = 0.01
PLAIN_BATCH_BYTES = 16_384
"""What aiokafka puts into a batch unless told otherwise."""


def traffic(partition: int = 0, calls: int = CALLS) -> list[InputRecord]:
    """One partition's day: start and end of each call, many agents, some 50 webhooks a second."""
    log = Log(partition)
    for number in range(calls):
        agent, party = str(1000 + number % AGENTS), f"+4122{number:07}"
        log.webhook(number * 0.04, start(agent, party, t=number * 0.04))
        log.webhook(number * 0.04 + 0.02, end(agent, party, t=number * 0.04, duration=0, callId=str(number)))
    return log.records


async def measure(kafka: KafkaSettings) -> list[Line]:
    """Rounds in turn: ours, then the bare loop with the same bytes, with aiokafka's own batch size and with ours."""
    records = traffic()
    batches = run(records, batch_size=BATCH_RECORDS).batches
    pairs, tuned, cheaper = [], [], []
    for number in range(ROUNDS):
        # A set of topics for each round: the state of an earlier one would make every record a repeat.
        fresh = kafka.model_copy(update={"kafka_topic_prefix": f"{kafka.kafka_topic_prefix}-{number}"})
        await ensure_topics(fresh)
        await append(fresh, records)
        ours = await _ours(fresh, len(records), f"bench-{fresh.kafka_topic_prefix}")
        bare = await _bare(fresh, batches, f"bare-{fresh.kafka_topic_prefix}", PLAIN_BATCH_BYTES)
        pairs.append((len(records) / ours, len(records) / bare))
        bare = await _bare(fresh, batches, f"tuned-{fresh.kafka_topic_prefix}", TRANSACTION_BATCH_BYTES_MAX)
        tuned.append((len(records) / ours, len(records) / bare))
        again = kafka.model_copy(update={"kafka_topic_prefix": f"{kafka.kafka_topic_prefix}-{number}-alo"})
        await ensure_topics(again)
        await append(again, records)
        with mock.patch.object(owner, "Transactions", AtLeastOnce):
            once = await _ours(again, len(records), f"bench-{again.kafka_topic_prefix}")
        cheaper.append((len(records) / ours, len(records) / once))
    return [
        compared("paired events, exactly once (bare: same bytes)", "/s", pairs),
        compared("the same (bare: in batches of 256 KiB, as ours)", "/s", tuned),
        compared("the same (bare: ourselves at least once)", "/s", cheaper),
        await _scaled(kafka),
    ]


async def _scaled(kafka: KafkaSettings) -> Line:
    """Rounds in turn: as many events over many partitions, and in one; one process owns them all."""
    pairs = []
    for number in range(ROUNDS):
        speeds = []
        for partitions in (PARTITIONS_MANY, 1):
            prefix = f"{kafka.kafka_topic_prefix}-{number}-of-{partitions}"
            fresh = kafka.model_copy(update={"kafka_topic_prefix": prefix, "kafka_topic_partitions": partitions})
            await ensure_topics(fresh)
            records = [record for one in range(partitions) for record in traffic(one, CALLS_SPREAD // partitions)]
            await append(fresh, records)
            speeds.append(len(records) / await _ours(fresh, len(records), f"bench-{prefix}"))
        pairs.append((speeds[0], speeds[1]))
    return compared(f"paired events over {PARTITIONS_MANY} partitions (bare: in 1)", "/s", pairs)


async def _ours(kafka: KafkaSettings, count: int, group: str) -> float:
    """Seconds that the records take once the partitions are owned."""
    settings = ProcessorsSettings(
        **{name.lower(): value for name, value in kafka_environment(kafka).items()},  # type: ignore[arg-type]
        processors_application=group,
        processors_batch_records_max=BATCH_RECORDS,
    )
    collect_garbage_seldom()
    runner = Runner(settings, {DEFAULT_PBX: Pbx()}, Metrics("processors"))
    running = asyncio.create_task(runner.run())
    partitions = range(kafka.kafka_topic_partitions)
    while not all(runner.is_consuming(one) for one in partitions):
        await asyncio.sleep(POLL_S)
    began = time.perf_counter()
    # A partition that a busy machine made the group take away is on its way back.
    while sum(runner.next_offset(one) for one in partitions if runner.is_consuming(one)) < count:
        if running.done():
            running.result()
        await asyncio.sleep(POLL_S)
    seconds = time.perf_counter() - began
    running.cancel()
    await asyncio.wait({running})
    return seconds


async def _bare(kafka: KafkaSettings, batches: list[Batch], group: str, batch_bytes: int) -> float:
    """Seconds for: getmany, the same bytes with send_batch, await, offsets, commit."""
    topics = kafka.topic_set
    source = TopicPartition(topics.webhooks, 0)
    per_batch = [
        [(topics.call_sessions, out.key, out.value, list(out.headers)) for out in batch.session_events]
        + [(topics.changelog, key, value, []) for key, value in batch.changelog.items()]
        for batch in batches
    ]
    consumer = AIOKafkaConsumer(**committed_reader(kafka), group_id=None)
    await consumer.start()
    consumer.assign([source])
    await consumer.seek_to_beginning(source)
    producer = AIOKafkaProducer(**transactional_producer(kafka, group) | {"max_batch_size": batch_bytes})
    await producer.start()
    began = time.perf_counter()
    for outputs in per_batch:
        taken = 0
        while taken < BATCH_RECORDS:
            fetched = await consumer.getmany(source, timeout_ms=200, max_records=BATCH_RECORDS - taken)
            if not fetched:
                break
            taken += len(fetched[source])
        await producer.begin_transaction()
        deliveries = []
        for topic in (topics.call_sessions, topics.changelog):
            builder = producer.create_batch()
            for target, key, value, headers in outputs:
                if target != topic:
                    continue
                if builder.append(key=key, value=value, timestamp=None, headers=headers) is None:
                    deliveries.append(await producer.send_batch(builder, topic, partition=0))
                    builder = producer.create_batch()
                    builder.append(key=key, value=value, timestamp=None, headers=headers)
            deliveries.append(await producer.send_batch(builder, topic, partition=0))
        await asyncio.gather(*deliveries)
        await producer.send_offsets_to_transaction({source: await consumer.position(source)}, group)
        await producer.commit_transaction()
    seconds = time.perf_counter() - began
    await discard(producer)
    await consumer.stop()
    return seconds
