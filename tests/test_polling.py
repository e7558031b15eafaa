"""Polling: what is evidence, what changes without a restart, tokens, never two pollers. A real Kafka."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import ConsumerRecord

from deploy.local.broker import free_port
from events import envelope
from events.active_calls import calls_of
from events.call_history import recorded_of
from events.envelope import Type
from events.kafka import KafkaSettings, ensure_topics
from events.metrics import Metrics
from events.settings import ConfigurationError
from events.topics import POLLED_CALLS, WEBHOOKS
from ingest.polling.answers import Outcome, outcome_of
from ingest.polling.config import Config
from ingest.polling.history import History
from ingest.polling.settings import PollSettings
from ingest.polling.witness import Witness
from ingest.polling.xapi import Xapi
from tests import waiting
from tests.stand_in_pbx import StandInPbx
from tests.system import Service, kafka_environment, read_committed

eventually = partial(waiting.eventually, timeout_s=60.0)
CALL = b'{"value": [{"Id": 7, "Caller": "201 Ann", "Callee": null}]}'


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (200, CALL, Outcome.GOOD),
        (200, b'{"@odata.context": "x", "value": []}', Outcome.GOOD),
        (200, b"", Outcome.UNREADABLE),
        (200, b"<html>please log in</html>", Outcome.UNREADABLE),
        (200, b"[]", Outcome.UNREADABLE),
        (200, b'{"value": null}', Outcome.UNREADABLE),
        (200, b'{"value": [7]}', Outcome.UNREADABLE),
        (200, b'{"value": [{"Id": null}]}', Outcome.UNREADABLE),
        (200, b'{"calls": []}', Outcome.UNREADABLE),
        (200, b'{"@odata.count": 1, "value": [{"Id": 7}]}', Outcome.GOOD),
        (200, b'{"@odata.count": 2, "value": [{"Id": 7}]}', Outcome.UNREADABLE),
        (200, b'{"value": [{"Id": 7}], "@odata.nextLink": "https://pbx/?$skip=1"}', Outcome.UNREADABLE),
        (204, b"", Outcome.REFUSED),
        (302, CALL, Outcome.REFUSED),
        (401, CALL, Outcome.UNAUTHORIZED),
        (403, b"", Outcome.UNAUTHORIZED),
        (429, CALL, Outcome.REFUSED),
        (500, CALL, Outcome.BROKEN),
        (503, b"", Outcome.BROKEN),
    ],
)
def test_only_a_list_of_calls_is_evidence(status: int, body: bytes, outcome: Outcome) -> None:
    assert outcome_of(status, body) is outcome
    assert (calls_of(CALL) or [{}])[0]["Id"] == 7


def config_file(path: Path, polling: Any, **more: Any) -> Path:
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps({"polling": polling, **more}), "utf-8")
    fresh.rename(path)
    return path


def access(pbx: StandInPbx) -> dict[str, str]:
    return {"url": pbx.url, "client_id": pbx.client_id, "client_secret": pbx.client_secret}


def test_the_file_of_the_seed_switches_polling_off_without_a_restart(tmp_path: Path) -> None:
    known = {"url": "https://pbx.example.com/", "client_id": "a", "client_secret": "b"}
    path = config_file(tmp_path / "c.json", {"enabled": True, "interval_s": 2, "pbxs": {"default": known}}, other=1)
    config = Config(PollSettings(polling_config=path))
    assert (config.polling.enabled, config.interval_s, config.pbxs["default"].url) == (
        True,
        2,
        "https://pbx.example.com",
    )
    config_file(path, {"enabled": False})
    config.look()
    assert not config.polling.enabled
    path.write_text('{"polling": {"enabled": "perhaps"}}', "utf-8")
    config.look()
    assert not config.polling.enabled, "a file that cannot be used changes nothing"
    path.unlink()
    config.look()
    assert not config.polling.enabled
    config_file(path, {"enabled": True, "pbxs": {"default": known}})
    config.look()
    assert config.polling.enabled


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"polling": {}}', "polling.enabled: Field required"),
        ('{"polling": {"enabled": true, "speed": 1}}', "polling.speed: Extra inputs"),
        ('{"polling": {"enabled": true, "interval_s": 0}}', "polling.interval_s: Input should be greater"),
        ('{"polling": {"enabled": true}}', "POLLING_URL: polling is enabled, but no PBX is named"),
        ("{", "Invalid JSON"),
    ],
)
def test_a_wrong_file_is_one_sentence_that_shows_no_secret(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "c.json").write_text(text, "utf-8")
    with pytest.raises(ConfigurationError, match=sentence) as error:
        Config(PollSettings(polling_config=tmp_path / "c.json"))
    assert "client_secret" not in str(error.value)


@contextlib.asynccontextmanager
async def asking(pbx: StandInPbx, **more: Any) -> AsyncIterator[Xapi]:
    settings = PollSettings(
        polling_enabled=True, polling_url=pbx.url, polling_client_id=pbx.client_id,
        polling_client_secret=pbx.client_secret, **more,
    )  # fmt: skip
    xapi = Xapi(Config(settings).pbxs["default"], settings.polling_timeout_s, settings.polling_answer_bytes_max)
    try:
        yield xapi
    finally:
        await xapi.close()


async def test_one_token_serves_many_polls_and_a_refused_one_is_replaced_once() -> None:
    async with StandInPbx().running() as pbx, asking(pbx) as xapi, asking(pbx) as other:
        pbx.begin("201 Ann", "10000 +41225551234")
        for _ in range(3):
            outcome, body = await xapi.active_calls()
            assert outcome is Outcome.GOOD
            assert (calls_of(body) or [{}])[0]["Caller"] == "201 Ann"
        assert pbx.tokens == 1
        assert (await other.active_calls())[0] is Outcome.GOOD  # its token ends ours
        assert (await xapi.active_calls())[0] is Outcome.UNAUTHORIZED
        assert (await xapi.active_calls())[0] is Outcome.GOOD
        assert pbx.tokens == 3


async def test_a_token_that_runs_out_is_renewed_before_it_is_refused() -> None:
    async with StandInPbx(token_life_s=0.1).running() as pbx, asking(pbx) as xapi:
        assert (await xapi.active_calls())[0] is Outcome.GOOD
        await asyncio.sleep(0.1)
        assert (await xapi.active_calls())[0] is Outcome.GOOD
        assert (pbx.tokens, pbx.refused) == (2, 0)


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        ((500, b"oops"), Outcome.BROKEN),
        ((200, b""), Outcome.UNREADABLE),
        ((200, b"x" * 2000), Outcome.TOO_LONG),
        ((404, b""), Outcome.REFUSED),
        ((200, b'{"@odata.count": 2, "value": [{"Id": 7}]}'), Outcome.INCOMPLETE),
        ((200, b'{"value": [], "@odata.nextLink": "?"}'), Outcome.INCOMPLETE),
        ((200, b'{"value": [{}]}'), Outcome.UNREADABLE),
    ],
)
async def test_a_fault_of_the_pbx_is_an_outcome_and_no_exception(fault: tuple[int, bytes], outcome: Outcome) -> None:
    async with StandInPbx().running() as pbx, asking(pbx, polling_answer_bytes_max=1000) as xapi:
        pbx.fault = fault
        assert (await xapi.active_calls())[0] is outcome


async def test_a_pbx_that_is_away_slow_or_does_not_know_us_is_an_outcome() -> None:
    async with StandInPbx().running() as pbx, asking(pbx, polling_timeout_s=0.2) as xapi:
        pbx.refuses_every_token = True
        assert (await xapi.active_calls())[0] is Outcome.UNAUTHORIZED
        pbx.refuses_every_token = False
        pbx.slow_s = 5.0
        assert (await xapi.active_calls())[0] is Outcome.TIMEOUT
    async with asking(StandInPbx()) as xapi:
        assert (await xapi.active_calls())[0] is Outcome.UNREACHABLE


async def test_a_list_of_several_pages_is_one_answer_and_none_without_its_last() -> None:
    async with StandInPbx(page_rows_max=2).running() as pbx, asking(pbx) as xapi:
        ids = [pbx.begin("201 Ann", f"10000 +4122555{number:04}") for number in range(5)]
        outcome, body = await xapi.active_calls()
        assert (outcome, [call["Id"] for call in calls_of(body) or []], pbx.asked) == (Outcome.GOOD, ids, 3)
    async with StandInPbx(page_rows_max=1).running() as pbx, asking(pbx, polling_answer_bytes_max=1000) as xapi:
        for _ in range(5):
            pbx.begin("201 Ann", "10000 +41225551234")
        assert (await xapi.active_calls())[0] is Outcome.TOO_LONG


async def test_an_answer_that_trickles_is_not_waited_for() -> None:
    async with StandInPbx(trickles=60).running() as pbx, asking(pbx, polling_timeout_s=0.5) as xapi:
        assert (await xapi.active_calls())[0] is Outcome.TIMEOUT
        assert (await xapi.history(datetime.now(UTC)))[0] is Outcome.TIMEOUT


class Remembered:
    """The history of calls as a poller asks for it, and what it told on a real Kafka."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self.settings = PollSettings(**kafka.model_dump())
        self.kafka = kafka
        self.now = datetime.now(UTC).replace(microsecond=0)
        self.metrics = Metrics("poller")
        self.history = History(self.settings, "default", self.metrics, lambda: self.now)

    async def round(self, pbx: StandInPbx) -> int:
        """Ask until it is not due any more; gives how often."""
        witness = Witness(self.settings, "default", 0)
        asked = 0
        async with asking(pbx) as xapi:
            while self.history.is_due(self.now):
                await self.history.ask(xapi, witness)
                asked += 1
        await witness.close()
        return asked

    async def told(self) -> list[str]:
        records = await read_committed(self.kafka, self.kafka.topic_set.webhooks)
        return [call.id for record in records for call in recorded_of(record.value) or ()]

    def outcomes(self, outcome: Outcome) -> float:
        return float(self.metrics.counter("histories_total", "default", outcome)._value.get())

    def past(self, identity: int, ended_ago_s: float) -> dict[str, Any]:
        ended = (self.now - timedelta(seconds=ended_ago_s)).isoformat()
        return {
            "SegmentId": identity, "SegmentStartTime": ended, "SegmentEndTime": ended, "SrcDn": "10000",
            "SrcCallerNumber": "+41225551234", "SrcInternal": False, "DstDn": "201", "DstCallerNumber": "201",
            "DstInternal": True, "CallAnswered": True, "CallTime": "PT0S",
        }  # fmt: skip


@pytest.fixture
async def remembered(kafka: KafkaSettings) -> Remembered:
    await ensure_topics(kafka, (WEBHOOKS,))
    return Remembered(kafka)


@pytest.mark.parametrize("page_rows_max", [100, None])
async def test_a_history_longer_than_an_answer_is_told_whole(remembered: Remembered, page_rows_max: int | None) -> None:
    count = 250 if page_rows_max else 2_500
    async with StandInPbx(page_rows_max=page_rows_max).running() as pbx:
        pbx.past = [remembered.past(number, 100 + 2 * number) for number in range(1, count + 1)]
        asked = await remembered.round(pbx)
    assert sorted(map(int, await remembered.told())) == list(range(1, count + 1))
    assert (asked, remembered.outcomes(Outcome.GOOD)) == (3, 3)


async def test_more_calls_in_a_second_than_an_answer_holds_are_passed_over_and_counted(remembered: Remembered) -> None:
    async with StandInPbx(page_rows_max=2).running() as pbx:
        pbx.past = [remembered.past(number, 300) for number in range(1, 6)] + [remembered.past(6, 200)]
        await remembered.round(pbx)
    assert await remembered.told() == ["1", "2", "6"]
    assert remembered.outcomes(Outcome.INCOMPLETE) == 1


async def test_a_clock_that_is_set_back_does_not_put_off_the_history(remembered: Remembered) -> None:
    async with StandInPbx().running() as pbx:
        assert await remembered.round(pbx) == 1
        remembered.now -= timedelta(hours=3)
        assert await remembered.round(pbx) == 1
        assert await remembered.round(pbx) == 0


class Polled:
    """``python -m ingest poll`` as processes, and what they wrote."""

    def __init__(self, kafka: KafkaSettings, folder: Path, pbx: StandInPbx) -> None:
        self.kafka = kafka
        self.folder = folder
        self.config = folder / "polling.json"
        self.pbx = pbx
        self.services: list[tuple[Service, int]] = []

    def switch(self, *, enabled: bool) -> None:
        config_file(self.config, {"enabled": enabled, "interval_s": 0.2, "pbxs": {"default": access(self.pbx)}})

    def start(self) -> Service:
        port = free_port()
        environment = {
            **kafka_environment(self.kafka),
            "DATA_DIR": str(self.folder),
            "POLLING_CONFIG": str(self.config),
            "POLLING_PORT": str(port),
            "POLLING_SESSION_TIMEOUT_S": "2",
            "POLLING_BACKOFF_S_MAX": "1",
            "POLLING_APPLICATION": f"poller-{self.kafka.kafka_topic_prefix}",
        }
        service = Service("ingest", environment, self.folder / f"poller-{len(self.services)}.log", "poll")
        self.services.append((service, port))
        return service

    async def written(self) -> list[ConsumerRecord]:
        return await read_committed(self.kafka, self.kafka.topic_set.polled_calls)

    async def answers(self) -> bool:
        """Whether the first process does."""
        async with httpx.AsyncClient(timeout=1) as client:
            with contextlib.suppress(httpx.HTTPError):
                return (await client.get(f"http://127.0.0.1:{self.services[0][1]}/health")).is_success
        return False

    async def polled_by(self) -> list[int]:
        """Which of the processes poll now."""
        found = []
        async with httpx.AsyncClient(timeout=1) as client:
            for number, (service, port) in enumerate(self.services):
                if service.returncode is None:
                    with contextlib.suppress(httpx.HTTPError):
                        told = (await client.get(f"http://127.0.0.1:{port}/health")).json()
                        found += [number] if told["pbxs"] else []
        return found

    async def count(self, metric: str) -> float:
        """What the first process has counted; 0 before it answers."""
        text = ""
        async with httpx.AsyncClient(timeout=1) as client:
            with contextlib.suppress(httpx.HTTPError):
                text = (await client.get(f"http://127.0.0.1:{self.services[0][1]}/metrics")).text
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(f"threecx_poller_{metric}"))


@pytest.fixture
async def polled(kafka: KafkaSettings, tmp_path: Path) -> AsyncIterator[Polled]:
    await ensure_topics(kafka, (POLLED_CALLS,))
    async with StandInPbx().running() as pbx:
        one = Polled(kafka, tmp_path, pbx)
        try:
            yield one
        finally:
            for service, _ in one.services:
                service.kill()


async def test_answers_are_kept_byte_for_byte_and_a_failed_one_writes_nothing(polled: Polled) -> None:
    number = polled.pbx.begin("201 Ann", "10000 +41225551234")
    polled.switch(enabled=True)
    service = polled.start()
    records = await eventually(polled.written, lambda found: len(found) >= 2)
    said = envelope.decode(records[0].headers)
    assert (said.type, said.pbx, records[0].key) == (Type.CALLS_POLLED, "default", b"default")
    assert [call["Id"] for call in json.loads(records[0].value)["value"]] == [number]
    polled.pbx.fault = (200, b"")
    failed = 'polls_total{outcome="unreadable"'
    await eventually(lambda: polled.count(failed), lambda seen: seen >= 2)
    held = len(await polled.written())
    await eventually(lambda: polled.count(failed), lambda seen: seen >= 4)
    assert len(await polled.written()) == held
    polled.pbx.end(number)
    polled.pbx.fault = None
    records = await eventually(polled.written, lambda found: len(found) > held)
    assert json.loads(records[-1].value)["value"] == []
    assert service.stop() == 0


async def test_polling_is_switched_off_and_on_while_it_runs(polled: Polled) -> None:
    polled.switch(enabled=False)
    polled.start()
    await eventually(polled.answers)
    assert await polled.polled_by() == []
    polled.switch(enabled=True)
    await eventually(polled.polled_by, lambda found: found == [0])
    polled.switch(enabled=False)
    await eventually(polled.polled_by, lambda found: found == [])
    asked = polled.pbx.asked
    await asyncio.sleep(0.6)
    assert polled.pbx.asked == asked
    log = (polled.folder / "poller-0.log").read_text()
    assert "polling is switched on" in log
    assert "polling is switched off" in log
    assert polled.pbx.client_secret not in log


async def test_two_processes_never_poll_one_pbx_and_one_takes_over_from_the_other(polled: Polled) -> None:
    polled.switch(enabled=True)
    polled.start()
    await eventually(polled.polled_by, lambda found: found == [0])
    polled.start()
    await eventually(polled.written, lambda found: len(found) >= 5)
    assert len(await polled.polled_by()) == 1
    (owner,) = await eventually(polled.polled_by, lambda found: len(found) == 1)
    polled.services[owner][0].kill()
    await eventually(polled.polled_by, lambda found: found == [1 - owner])


async def test_a_pbx_that_refuses_every_token_is_asked_ever_more_seldom(polled: Polled) -> None:
    polled.pbx.refuses_every_token = True
    polled.switch(enabled=True)
    polled.start()
    await eventually(lambda: polled.count('polls_total{outcome="unauthorized"'), lambda seen: seen >= 3)
    tokens = polled.pbx.tokens
    await asyncio.sleep(2.0)  # five would fit the interval ten times
    assert polled.pbx.tokens - tokens <= 4
    polled.pbx.refuses_every_token = False
    await eventually(polled.written)
