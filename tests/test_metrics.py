"""The catalogue: promtool finds no fault with it, known labels are there from the start, and go with what they name."""

import asyncio
import subprocess
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from deploy.prometheus.__main__ import PAGE, page
from events.kafka import KafkaSettings
from events.metrics import ANSWER_S, CATALOGUE, PARTITION, Metrics, Service, observe_all
from events.pbx import DEFAULT_PBX, Pbx
from processors.runner import Runner
from processors.settings import ProcessorsSettings
from tests.builders import Log, end
from tests.conftest import TEST_PARTITIONS
from tests.system import System, append, kafka_environment
from tests.waiting import eventually


@pytest.mark.parametrize("service", CATALOGUE)
def test_promtool_finds_nothing_to_say_about_the_catalogue(service: Service) -> None:
    text = generate_latest(Metrics(service).registry)
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("service", CATALOGUE)
def test_every_label_is_bounded_in_words_or_by_its_values(service: Service) -> None:
    for metric in CATALOGUE[service]:
        for label in metric.labels:
            assert bool(label.bound) != bool(label.values), (metric.name, label.name)
            assert label.name not in {"agent", "extension", "number", "caller", "session_id", "id"}


@pytest.mark.parametrize("service", ["ingest", "processors"])
def test_the_first_dead_letter_of_each_reason_is_a_step_from_zero(service: Service) -> None:
    """A series that appears with its first record at 1 shows no increase: the alert would sleep through it."""
    registry = Metrics(service).registry
    (letters,) = [metric for metric in CATALOGUE[service] if metric.name == "dead_letters_total"]
    for reason in letters.labels[0].values:
        assert registry.get_sample_value(f"threecx_{service}_dead_letters_total", {"reason": reason}) == 0


def partitions_told(text: str, service: Service) -> dict[str, set[str]]:
    """Of each gauge by partition the partitions that it tells of."""
    names = {f"threecx_{service}_{one.name}" for one in CATALOGUE[service] if one.labels == (PARTITION,)}
    return {
        family.name: {sample.labels["partition"] for sample in family.samples}
        for family in text_string_to_metric_families(text)
        if family.name in names
    }


async def test_a_revoked_partition_leaves_no_gauge_behind(kafka: KafkaSettings) -> None:
    """Its last lag would stand for ever, and alert for ever, while another process works the partition off."""
    await append(kafka, [one for number in range(TEST_PARTITIONS) for one in Log(number).webhook(1, end()).records])
    environment = {name.lower(): value for name, value in kafka_environment(kafka).items()}
    settings = ProcessorsSettings(
        **environment,  # type: ignore[arg-type]
        processors_application=f"revoked-{kafka.kafka_topic_prefix}",
        processors_session_timeout_s=3,
    )
    metrics = {name: Metrics("processors") for name in ("first", "second")}

    async def told() -> list[set[frozenset[str]]]:
        texts = [generate_latest(one.registry).decode() for one in metrics.values()]
        return [{frozenset(said) for said in partitions_told(text, "processors").values()} for text in texts]

    everything = frozenset(str(number) for number in range(TEST_PARTITIONS))
    running = {"first": asyncio.create_task(Runner(settings, {DEFAULT_PBX: Pbx()}, metrics["first"]).run())}
    try:
        await eventually(told, lambda said: said == [{everything}, {frozenset()}])
        running["second"] = asyncio.create_task(Runner(settings, {DEFAULT_PBX: Pbx()}, metrics["second"]).run())
        shared = await eventually(told, lambda said: all(len(each) == 1 and len(*each) == 2 for each in said))
        assert frozenset.union(*shared[0], *shared[1]) == everything
    finally:
        for task in running.values():
            task.cancel()
        await asyncio.wait(running.values())
    assert await told() == [{frozenset()}, {frozenset()}]


async def test_projections_that_share_tell_only_of_their_own_partitions(kafka: KafkaSettings, tmp_path: Path) -> None:
    systems = [System(kafka, tmp_path / name) for name in ("first", "second")]

    async def told() -> list[set[frozenset[str]]]:
        async with httpx.AsyncClient() as client:
            return [
                {frozenset(said) for said in partitions_told(text, "projections").values()}
                for text in [(await client.get(f"{system.board}/metrics")).text for system in systems]
            ]

    try:
        for system in systems:
            Path(system.data_dir).mkdir()
            system.start("projections")
            await system.ready(with_feed=False)
        shared = await eventually(told, lambda said: all(len(each) == 1 and len(*each) == 2 for each in said))
        assert shared[0].isdisjoint(shared[1])
    finally:
        for system in systems:
            system.kill()


def test_the_page_of_the_metrics_is_what_the_catalogue_says() -> None:
    assert page() == PAGE.read_text("utf-8")


@given(st.lists(st.floats(0, 20) | st.sampled_from(ANSWER_S)))
def test_many_values_are_observed_as_each_by_itself(values: list[float]) -> None:
    told = []
    for observe in (observe_all, lambda child, those: [child.observe(one) for one in those]):
        metrics = Metrics("ingest")
        observe(metrics.histogram("answer_seconds", "test"), values)
        told.append(
            {
                (sample.name, *sample.labels.items()): sample.value
                for family in metrics.registry.collect()
                for sample in family.samples
            }
        )
    assert told[0] == pytest.approx(told[1])
