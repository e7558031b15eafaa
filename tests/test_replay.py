"""Replay: one log leads to the same bytes in every way that it can be run; and the commands, on a real Kafka."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import httpx
import orjson
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from deploy.local.broker import die_with_parent, free_port
from events import topics
from events.kafka import KafkaSettings, committed_reader, ensure_topics
from events.settings import ConfigurationError
from processors.commands import main
from processors.diff import diff
from processors.replay import replay, target_settings
from processors.settings import ProcessorsSettings
from processors.task import InputRecord
from tests.builders import cut, folded, new_task
from tests.chaotic_feed import RULES, chaotic_feed
from tests.conftest import TEST_PARTITIONS
from tests.replaying import RECORDS, digest, replayed
from tests.system import Service, append, committed_offsets, kafka_environment, read_committed
from tests.test_processors_on_kafka import expected, traffic
from tests.waiting import eventually

BATCH_SIZES = (1, 2, 3, 7, 100, 1000, 10_000)
KILL_POINTS = (1, 50, 150, 250, 333, 500, len(RECORDS) - 1)
SURROUNDINGS: dict[str, tuple[dict[str, str], int, tuple[str, ...]]] = {
    "hash seed 0": ({"PYTHONHASHSEED": "0"}, 0, ()),
    "hash seed 4242, in Auckland": ({"PYTHONHASHSEED": "4242", "TZ": "Pacific/Auckland"}, 0, ()),
    "in Turkish": ({"LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8"}, 0, ()),
    "in C, not UTF-8": ({"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, 0, ()),
    "ten years on": ({}, 10, ()),
    "thirty years ago": ({}, -30, ()),
    "without assertions": ({}, 0, ("-O",)),
    "all at once": ({"PYTHONHASHSEED": "7", "TZ": "Asia/Kathmandu", "LANG": "de_CH.UTF-8"}, 5, ("-OO",)),
}


@pytest.fixture(scope="module")
def same() -> str:
    """The digest that every way must lead to."""
    return replayed()


@pytest.fixture(scope="module")
def processes() -> Iterator[dict[str, "subprocess.Popen[str]"]]:
    """A process for each of the surroundings, all at work at the same time."""
    started = {
        name: subprocess.Popen(
            [sys.executable, *options, "-m", "tests.replaying", str(years)],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one prctl call
        )
        for name, (environment, years, options) in SURROUNDINGS.items()
    }
    yield started
    for one in started.values():
        one.kill()
        one.communicate()


def test_there_are_at_least_twenty_ways() -> None:
    assert len(BATCH_SIZES) + len(KILL_POINTS) + len(SURROUNDINGS) >= 20


@pytest.mark.parametrize("size", BATCH_SIZES)
def test_batches_of_any_size_give_the_same_bytes(same: str, size: int) -> None:
    assert replayed(size) == same


@pytest.mark.parametrize("point", KILL_POINTS)
def test_a_restore_at_any_point_gives_the_same_bytes(same: str, point: int) -> None:
    killed = new_task(RULES)
    before = [killed.process(part) for part in cut(RECORDS[:point], 31)]
    changelog = list(folded(before).items())
    Random(point).shuffle(changelog)
    revived = new_task(RULES)
    for key, value in changelog:
        revived.restore(key, value)
    revived.restored()
    assert digest([*before, revived.process(RECORDS[point:])]) == same


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_a_process_in_any_surroundings_gives_the_same_bytes(
    same: str, processes: dict[str, "subprocess.Popen[str]"], name: str
) -> None:
    told, _ = processes[name].communicate(timeout=60)
    assert (processes[name].returncode, told) == (0, same)


# On a real Kafka

SAME_BYTES = "the events are byte for byte the same in each of 4 partitions"


class Command:
    """``python -m processors`` with arguments, against the test's topics."""

    def __init__(self, kafka: KafkaSettings, *arguments: str, **environment: str) -> None:
        """Nothing runs before `started`."""
        self._arguments = arguments
        self._environment = {**os.environ, **kafka_environment(kafka), **environment}
        # The command must find the partition count itself.
        del self._environment["KAFKA_TOPIC_PARTITIONS"]

    async def started(self) -> asyncio.subprocess.Process:
        """The running process."""
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "processors", *self._arguments),
            env=self._environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            preexec_fn=die_with_parent,
        )

    async def done(self) -> tuple[int | None, str, str]:
        """Run to the end: exit status, stdout, stderr."""
        process = await self.started()
        out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()


def several_pbxs() -> list[InputRecord]:
    """Two partitions of orderly calls, two of chaos, each with PBXs of its own."""
    orderly = [one for one in traffic(60) if one.partition < 2]
    chaotic = [one._replace(partition=2 + seed) for seed in range(2) for one in chaotic_feed(seed, webhooks=150)]
    return [*orderly, *chaotic]


def as_set(kafka: KafkaSettings, prefix: str) -> KafkaSettings:
    return kafka.model_copy(update={"kafka_topic_prefix": prefix})


async def written(kafka: KafkaSettings, prefix: str) -> dict[int, list[tuple[bytes | None, bytes | None]]]:
    found: dict[int, list[tuple[bytes | None, bytes | None]]] = defaultdict(list)
    for record in await read_committed(as_set(kafka, prefix), f"{prefix}.call-sessions"):
        found[record.partition].append((record.key, record.value))
    return dict(found)


async def interrupted(kafka: KafkaSettings, prefix: str, number: signal.Signals, total: int) -> int | None:
    """Start a replay, end it by a signal in the middle; its exit status."""
    process = await Command(kafka, "replay", "--to-prefix", prefix, PROCESSORS_BATCH_RECORDS_MAX="10").started()
    places = [TopicPartition(kafka.topic_set.webhooks, place) for place in range(TEST_PARTITIONS)]
    consumer = AIOKafkaConsumer(**committed_reader(kafka), group_id=f"callstream-processors-{prefix}")
    consumer.assign(places)
    await consumer.start()

    async def position() -> int:
        return sum([await consumer.committed(place) or 0 for place in places])

    try:
        await eventually(position, lambda seen: seen > total // 20, 40)
        process.send_signal(number)
        await process.communicate()
        assert await position() < total, "it must have been in the middle"
    finally:
        await consumer.stop()
    return process.returncode


async def test_one_process_two_or_one_killed_and_resumed_write_the_same_bytes(
    kafka: KafkaSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    records = several_pbxs()
    await append(kafka, records)
    one, two, killed, stopped = (f"{kafka.kafka_topic_prefix}-{name}" for name in ("one", "two", "killed", "stopped"))
    (whole, *shares), signalled, asked = await asyncio.gather(
        asyncio.gather(
            Command(kafka, "replay", "--to-prefix", one).done(),
            Command(kafka, "replay", "--to-prefix", two, "--partitions", "0-1,3").done(),
            Command(kafka, "replay", "--to-prefix", two, "--partitions", "2").done(),
        ),
        interrupted(kafka, killed, signal.SIGKILL, len(records)),
        interrupted(kafka, stopped, signal.SIGINT, len(records)),
    )
    assert [whole[0], *(share[0] for share in shares)] == [0, 0, 0], whole[2]
    assert f"{len(records):,} / {len(records):,} records (100 %)" in whole[2]
    assert (signalled, asked) == (-signal.SIGKILL, 130)

    assert await written(kafka, one) == expected(records)
    assert await diff(kafka, one, stopped, told_as="text", limit=1) == 1, "the stopped one is not complete"
    assert "the same until B ends" in capsys.readouterr().out
    status, told, _ = await Command(kafka, "diff", one, two).done()
    assert (status, SAME_BYTES in told) == (0, True)
    for name in (killed, stopped):
        await replay(service(kafka), name, None, resume=True)
        capsys.readouterr()
        assert await diff(kafka, one, name, told_as="text", limit=1) == 0
        assert SAME_BYTES in capsys.readouterr().out


async def test_after_a_change_of_rules_diff_names_the_calls_and_why(
    kafka: KafkaSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    records = traffic(30)
    await append(kafka, records)
    one, other = (f"{kafka.kafka_topic_prefix}-{name}" for name in ("one", "other"))
    changed_rule = Command(kafka, "replay", "--to-prefix", other, PROCESSORS_CALL_DURATION_MAX_S="20")
    (status, _, _), _ = await asyncio.gather(changed_rule.done(), replay(service(kafka), one, None, resume=False))
    assert status == 0
    capsys.readouterr()
    (status, text, _), _ = await asyncio.gather(
        Command(kafka, "diff", one, other).done(), diff(kafka, one, other, told_as="json", limit=1000)
    )
    told: dict[str, Any] = orjson.loads(capsys.readouterr().out)
    # Calls 0, 5, … of each partition have no end; the last of them began less than 20 s before the log's end.
    assert (status, told["sessions"]["changed"], len(told["changed"])) == (1, 4 * 5, 4 * 5)
    assert {change["why_b"]["reason"] for change in told["changed"]} == {"timeout"}
    assert {tuple(change["fields"]["status"].values()) for change in told["changed"]} == {("open", "end_missed")}
    assert "changed, last reason started -> timeout: 20" in text
    assert 'status: "open" -> "end_missed"' in text
    assert "B: revision 2, call.end_missed, reason timeout, from 0@0 ingest-0-1" in text


async def test_the_live_service_goes_on_where_the_replay_ended(kafka: KafkaSettings, tmp_path: Path) -> None:
    records, own = traffic(20), kafka.kafka_topic_prefix
    by_time = sorted(records, key=lambda record: dict(record.headers)["ce_time"])
    await append(kafka, by_time[:200])
    status, told, _ = await Command(kafka, "replay", "--to-prefix", f"{own}-2").done()
    assert status == 0
    printed = dict(word.split("=") for word in told.splitlines()[-1].split() if "=" in word)
    assert printed["KAFKA_TOPIC_PARTITIONS"] == str(TEST_PARTITIONS)
    await append(kafka, by_time[200:])
    port = free_port()
    live = Service(
        "processors", kafka_environment(kafka) | printed | {"PROCESSORS_PORT": str(port)}, tmp_path / "processors.log"
    )
    try:

        async def position() -> int:
            return sum(await committed_offsets(kafka, printed["PROCESSORS_APPLICATION"], f"{own}.webhooks"))

        await eventually(position, lambda seen: seen == len(records), 40)
        async with httpx.AsyncClient() as client:
            metrics = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
    finally:
        live.stop()
    assert "threecx_processors_restored_offset_mismatches_total 0.0" in metrics
    assert await written(kafka, f"{own}-2") == expected(records)


def service(kafka: KafkaSettings) -> ProcessorsSettings:
    return ProcessorsSettings(kafka_bootstrap_servers=kafka.kafka_bootstrap_servers, **_topics(kafka))


def _topics(kafka: KafkaSettings) -> dict[str, Any]:
    return {"kafka_topic_prefix": kafka.kafka_topic_prefix, "kafka_topic_partitions": TEST_PARTITIONS}


async def refusal(settings: ProcessorsSettings, to_prefix: str, partitions: Sequence[int] = (), **more: Any) -> str:
    with pytest.raises(ConfigurationError) as refused:
        await replay(settings, to_prefix, frozenset(partitions) or None, resume=False, **more)
    message = str(refused.value)
    assert "\n" not in message
    return message


async def test_a_replay_refuses_what_would_go_wrong_with_one_sentence(kafka: KafkaSettings) -> None:
    settings, own = service(kafka), kafka.kafka_topic_prefix
    as_a_process = asyncio.create_task(Command(kafka, "replay", "--to-prefix", own).done())
    assert f"{own} is the set that is replayed" in await refusal(settings, own)
    assert "cannot be part of a topic's name" in await refusal(settings, "a/b")
    assert "has the partitions 0-3, and no 9" in await refusal(settings, f"{own}-2", [9])
    unknown = settings.model_copy(update={"kafka_topic_prefix": f"{own}-nowhere"})
    assert f"no topic {own}-nowhere.webhooks" in await refusal(unknown, f"{own}-2")
    nobody = settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"})
    assert "the broker at 127.0.0.1:1" in await refusal(nobody, f"{own}-2")
    other_count = settings.model_copy(
        update={"kafka_topic_prefix": f"{own}-3", "kafka_topic_partitions": TEST_PARTITIONS + 1}
    )
    await ensure_topics(other_count, (topics.CHANGELOG,))
    assert f"{own}-3.call-sessions.changelog has 5 partitions, and {own}.webhooks 4" in await refusal(
        settings, f"{own}-3"
    )
    await append(kafka, traffic(2))
    await replay(settings, f"{own}-2", None, resume=False)
    assert f"{own}-2.call-sessions is not empty" in await refusal(settings, f"{own}-2")
    assert (await as_a_process)[0] == 2


async def test_a_second_replay_of_the_same_partitions_fences_the_first_and_doubles_nothing(
    kafka: KafkaSettings,
) -> None:
    records, prefix = traffic(30), f"{kafka.kafka_topic_prefix}-2"
    await append(kafka, records)
    command = Command(kafka, "replay", "--to-prefix", prefix, PROCESSORS_BATCH_RECORDS_MAX="1")
    first = asyncio.create_task(command.done())

    async def position() -> int:
        return sum(await committed_offsets(kafka, f"callstream-processors-{prefix}", kafka.topic_set.webhooks))

    await eventually(position, lambda seen: seen > 20, 20)
    await replay(service(kafka), prefix, None, resume=True)
    status, _, told = await first
    assert (status, f"of {prefix}.*; leave it to that one" in told) == (1, True)
    assert await written(kafka, prefix) == expected(records)


async def test_a_replayed_set_is_replayed_from_the_same_webhooks(kafka: KafkaSettings) -> None:
    records = traffic(3)
    await append(kafka, records)
    own = kafka.kafka_topic_prefix
    await replay(service(kafka), f"{own}-2", None, resume=False)
    second = service(kafka).model_copy(
        update={"kafka_topic_prefix": f"{own}-2", "kafka_webhooks_prefix": own, "kafka_topic_partitions": 12}
    )
    await replay(second, f"{own}-3", frozenset({0, 1, 2, 3}), resume=False)
    assert await written(kafka, f"{own}-3") == expected(records)


def test_a_replay_never_fences_the_live_service_nor_moves_its_group() -> None:
    live = ProcessorsSettings(kafka_topic_prefix="threecx", processors_application="callstream-processors")
    target = target_settings(live, "threecx-2")
    assert target.transactional_id(0) != live.transactional_id(0)
    assert target.processors_application != live.processors_application
    assert (target.topic_set.webhooks, target.topic_set.changelog) == (
        "threecx.webhooks",
        "threecx-2.call-sessions.changelog",
    )


@pytest.mark.parametrize("wrong", ["3-1", "a", "1,,2", "-1", "", "1-", "99999999"])
def test_a_list_of_partitions_that_is_none_is_refused(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["replay", "--to-prefix", "any", f"--partitions={wrong}"])
    assert ended.value.code == 2
    assert "write it like 0-3,7" in capsys.readouterr().err
