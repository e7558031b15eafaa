"""The difference between a PBX's clock and ours: measured, exported, warned about; and no time is changed by it."""

import asyncio
from datetime import timedelta

import pytest
import structlog

from events.kafka import KafkaSettings
from events.metrics import Metrics
from events.pbx import DEFAULT_PBX, Pbx
from processors.clock_skew import SAMPLES, ClockSkews, whole_hours
from processors.runner import Runner
from processors.settings import ProcessorsSettings
from tests.builders import Log, at, end, new_task, run, start, zulu
from tests.system import append, kafka_environment
from tests.waiting import eventually

HOUR = 3600


def skew_of(log: Log) -> dict[str, float]:
    task = new_task()
    run(log.records, task)
    return dict(task.clock_skews.take())


def feed(skew_s: float, calls: int = 10, instance: str = "ingest-1") -> Log:
    log = Log(instance=instance)
    for number in range(calls):
        began, ended = number * 100.0, number * 100 + 60.0
        log.webhook(began + 0.4, start(party=f"+4122555{number:04}", t=began + skew_s))
        log.webhook(ended + 0.4, end(party=f"+4122555{number:04}", t=ended + skew_s, duration=55))
    return log


@pytest.mark.parametrize("skew_s", [0, 40, -180, HOUR, -2 * HOUR])
def test_the_skew_is_the_median_of_what_is_reported(skew_s: float) -> None:
    assert skew_of(feed(skew_s))[DEFAULT_PBX] == pytest.approx(skew_s - 0.4, abs=0.01)


def test_a_webhook_that_was_held_up_for_hours_is_no_skew() -> None:
    log = feed(0)
    for number in range(4):
        log.webhook(20_000 + number, end(party=f"+4122777{number:04}", t=10, duration=5))
    assert abs(skew_of(log)[DEFAULT_PBX]) < 1


def test_few_webhooks_or_none_with_a_time_tell_nothing() -> None:
    assert skew_of(feed(HOUR, calls=2)) == {}
    log = Log()
    for number in range(10):
        log.webhook(number, start(party=f"+4122555{number:04}", t=None))
    assert skew_of(log) == {}


def test_a_clock_that_was_set_right_is_right_after_as_many_webhooks() -> None:
    skews, heard = ClockSkews(), feed(HOUR, 20).records + feed(0, SAMPLES, "ingest-2").records
    task = new_task()
    task.clock_skews = skews
    run([one._replace(offset=offset) for offset, one in enumerate(heard)], task)
    assert abs(dict(skews.take())[DEFAULT_PBX]) < 1
    assert dict(skews.take()) == {}, "told once"


@pytest.mark.parametrize(("skew_s", "hours"), [(0, None), (1799, None), (3590, 1), (-7210, -2), (1801, 1)])
def test_the_warning_speaks_of_whole_hours(skew_s: float, hours: int | None) -> None:
    assert whole_hours(skew_s, 1_800) == hours


def test_no_time_is_changed_by_the_skew() -> None:
    (call,) = run(feed(2 * HOUR, calls=1).records).sessions
    assert (call.started_at, call.ended_at) == (at(2 * HOUR), at(2 * HOUR) + timedelta(seconds=60))
    assert zulu(call.started_at) == "2026-11-24T11:00:00Z"


async def test_it_is_exported_and_warned_about_once(kafka: KafkaSettings) -> None:
    await append(kafka, feed(HOUR).records)
    environment = {name.lower(): value for name, value in kafka_environment(kafka).items()}
    settings = ProcessorsSettings(**environment, processors_application=f"skew-{kafka.kafka_topic_prefix}")  # type: ignore[arg-type]
    metrics = Metrics("processors")
    with structlog.testing.capture_logs() as logs:
        running = asyncio.create_task(Runner(settings, {DEFAULT_PBX: Pbx()}, metrics).run())

        async def exported() -> float:
            sample = metrics.registry.get_sample_value("threecx_processors_clock_skew_seconds", {"pbx": DEFAULT_PBX})
            return sample or 0.0

        await eventually(exported, lambda skew: abs(skew - HOUR) < 1)
        running.cancel()
        await asyncio.wait({running})
    warned = [line for line in logs if line["log_level"] == "warning"]
    assert [(line["event"], line["pbx"], line["hours"]) for line in warned] == [
        ("the clock of the PBX is off", DEFAULT_PBX, 1)
    ]
