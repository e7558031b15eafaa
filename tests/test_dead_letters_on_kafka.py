"""``python -m processors dead-letters`` on a real Kafka: list, show, fix, send again; and what bad records cost."""

import asyncio
import os
import subprocess
import sys

import pytest

from events import dead_letters, envelope
from events.envelope import EnvelopeError
from events.kafka import KafkaSettings
from processors.commands import _range
from processors.letters import Range
from tests.builders import Log, start
from tests.system import append, kafka_environment, read_committed
from tests.test_processors_on_kafka import Start, done, group_per_test, processors
from tests.waiting import eventually

__all__ = ["group_per_test", "processors"]


def command(kafka: KafkaSettings, *arguments: str, given: bytes = b"") -> tuple[int, str, str]:
    """Exit status, stdout and stderr."""
    ran = subprocess.run(
        [sys.executable, "-m", "processors", "dead-letters", *arguments],
        env={**os.environ, **kafka_environment(kafka), "EDITOR": "sed -i s/broken/whole/"},
        input=given,
        capture_output=True,
        check=False,
    )
    return ran.returncode, ran.stdout.decode(), ran.stderr.decode()


async def run(kafka: KafkaSettings, *arguments: str, given: bytes = b"") -> tuple[int, str, str]:
    """As `command`, beside the loop."""
    return await asyncio.to_thread(command, kafka, *arguments, given=given)


async def sessions(kafka: KafkaSettings) -> list[str]:
    """The types of the session events, progress left out."""
    found = await read_committed(kafka, kafka.topic_set.call_sessions)
    types = [envelope.decode(one.headers).type for one in found]
    return [str(one) for one in types if one is not envelope.Type.FEED_PROGRESS]


async def test_dead_letters_are_listed_shown_fixed_and_sent_again(kafka: KafkaSettings, processors: Start) -> None:
    log = Log(2).webhook(1, b"canary").webhook(2, b"broken").webhook(3, start("7"))
    processors()
    await append(kafka, log.records)
    await done(kafka, log.records)
    status, listed, _ = await run(kafka, "list")
    assert (status, listed.count("\n")) == (0, 2)
    assert "canary" not in listed
    assert "the body is neither a JSON object nor form fields" in listed
    assert await run(kafka, "list", "1") == (0, "", "")
    places = [line.split()[0] for line in listed.splitlines()]
    status, shown, _ = await run(kafka, "show", places[0])
    assert status == 0
    assert "dead_letter_reason: " in shown
    assert shown.endswith("\n\ncanary")

    fixed = b'{"caller":"+41225550001","agentExt":"201","direction":"Inbound"}'
    status, told, _ = await run(kafka, "fix", places[0], "--body", "-", given=fixed)
    assert (status, " -> " in told) == (0, True)
    started = await eventually(lambda: sessions(kafka), lambda found: len(found) > 1)
    assert started == ["call.started"] * 2
    status, told, error = await run(kafka, "resend", "2:0-", "--reason", "neither a JSON")
    assert (status, told) == (0, "2 sent again, 0 not\n"), error
    again = await eventually(lambda: read_committed(kafka, kafka.topic_set.dead_letters), lambda found: len(found) == 4)
    assert [one.value for one in again] == [b"canary", b"broken"] * 2, "they are no better, and no repeats of ingest's"
    status, _, _ = await run(kafka, "fix", places[1])
    assert status == 0
    webhooks = await read_committed(kafka, kafka.topic_set.webhooks)
    assert webhooks[-1].value == b"whole", "edited"
    assert (await run(kafka, "show", "2:999"))[0] == 2
    assert (await run(kafka, "list", "99"))[0] == 2


async def test_the_longest_webhook_that_a_broker_takes_becomes_a_dead_letter_that_it_takes(
    kafka: KafkaSettings, processors: Start
) -> None:
    """Which has more headers than the webhook had: it is cut, and says so; what follows is worked out."""
    longest = 1_048_280  # of 1,048,576 bytes; names and headers take the rest
    log = Log(2).webhook(1, b"x" * longest).webhook(2, start("7"))
    processors()
    await append(kafka, log.records)
    await done(kafka, log.records)
    (letter,) = await read_committed(kafka, kafka.topic_set.dead_letters)
    assert letter.value == b"x" * dead_letters.VALUE_BYTES_MAX
    reason = dict(letter.headers)["dead_letter_reason"].decode()
    assert reason == f"the body is neither a JSON object nor form fields ({longest} bytes); cut"
    assert await sessions(kafka) == ["call.started"]


def test_a_record_that_is_no_webhook_stays_and_a_changed_body_is_another_event() -> None:
    own = next(one for one in Log(0).webhook(1, b"x").records if one.value == b"x")
    letter = dead_letters.headers(own.headers, "why", "threecx.webhooks", 0, 7)
    assert dict(dead_letters.again(letter, b"x", b"x")).get("ingest_sequence") is None
    same, other = (envelope.decode(dead_letters.again(letter, b"x", body)) for body in (b"x", b"y"))
    assert same.id == envelope.decode(own.headers).id != other.id
    assert same.time == other.time
    assert other == envelope.decode(dead_letters.again(letter, b"x", b"y")), "twice is one event"
    with pytest.raises(EnvelopeError):
        dead_letters.again([("dead_letter_reason", b"no envelope")], b"", b"")


def test_ranges_are_read_as_they_are_written() -> None:
    assert [_range(text) for text in ("3", "3:17", "3:10-20", "3:10-")] == [
        Range(3), Range(3, 17, 17), Range(3, 10, 20), Range(3, 10)
    ]  # fmt: skip


async def test_one_bad_record_holds_up_the_next_by_less_than_a_second(kafka: KafkaSettings, processors: Start) -> None:
    processors()
    warm = Log(1, "a").webhook(1, start("1"))
    await append(kafka, warm.records)
    await done(kafka, warm.records)

    async def until_told_s(log: Log, calls: int) -> float:
        """By the broker's clock: from the last webhook's place in the log to its session event's."""
        await append(kafka, log.records)
        await eventually(lambda: sessions(kafka), lambda found: found.count("call.started") == calls)
        told = (
            await read_committed(kafka, topic) for topic in (kafka.topic_set.webhooks, kafka.topic_set.call_sessions)
        )
        sent, said = [max(one.timestamp for one in records if one.value) async for records in told]
        return float(said - sent) / 1000

    alone_s = await until_told_s(Log(1, "b").webhook(2, start("2", "+41225550002")), 2)
    log = Log(1, "c").webhook(3, b"\xff" * 60_000).webhook(4, b"{").webhook(5, start("3", "+41225550003"))
    assert await until_told_s(log, 3) - alone_s < 1
