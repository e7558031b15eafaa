"""Restoring one partition's task from the changelog, up to the last committed record."""

import asyncio
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition

from events.kafka import committed_reader, stop_consumer
from events.pbx import Pbx
from processors.settings import ProcessorsSettings
from processors.task import Task

FETCH_TIMEOUT_MS = 500
FETCH_RECORDS_MAX = 10_000
PATIENCE_FETCHES = 60
"""So many that bring nothing: half a minute, longer than the client waits for one answer."""
TURNS = 4
"""Of the event loop after each fetch: the next one is then asked for before the records are looked at, and heartbeats
and the other partitions go on while a large state is read."""


async def restored_task(settings: ProcessorsSettings, pbxs: Mapping[str, Pbx], partition: int) -> Task:
    """A task with the state that the changelog holds; call it after the previous owner was fenced.

    `end_offsets` is the last stable offset under read_committed, and the position moves past aborted records, so the
    loop ends. Raises aiokafka's KafkaError when the broker is away, TimeoutError when the end is not reached (the log
    lost it meanwhile), ChangelogError for a record that is not ours.
    """
    changelog = TopicPartition(settings.topic_set.changelog, partition)
    task = Task(partition, settings.rules, pbxs, settings.topic_set.webhooks)
    consumer = AIOKafkaConsumer(**committed_reader(settings), group_id=None)
    await consumer.start()
    try:
        consumer.assign([changelog])
        end = (await consumer.end_offsets([changelog]))[changelog]
        await consumer.seek_to_beginning(changelog)
        reached, patience = -1, PATIENCE_FETCHES
        while (position := await consumer.position(changelog)) < end:
            patience = PATIENCE_FETCHES if position != reached else patience - 1
            reached = position
            if not patience:
                raise TimeoutError(f"the end of {changelog.topic} is not reached: {position} of {end}")
            fetched = await consumer.getmany(changelog, timeout_ms=FETCH_TIMEOUT_MS, max_records=FETCH_RECORDS_MAX)
            for _ in range(TURNS):
                await asyncio.sleep(0)
            task.restore_all(fetched.get(changelog, ()))
    finally:
        await stop_consumer(consumer)
    for _ in task.taking_in():
        await asyncio.sleep(0)
    return task
