"""One partition's task: what no record may do to it, whatever stands in the record."""

import json
from itertools import product
from typing import Any

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events import envelope, times
from events.call_history import PastCall, recorded_value
from events.envelope import Envelope, Type
from events.pbx import DEFAULT_PBX, Pbx
from events.session import Status
from processors.rules import Rules
from processors.task import InputRecord
from tests.builders import Log, X, at, cut, end, new_task, run, start

DATES = ("0002-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "1970-01-01", 99_999_999_999_999, None, -1)
DURATIONS = ("99999999999", "8784:00:00", 10**15, -5, 1e300, 31_622_400, None)


@pytest.mark.parametrize(("ended", "duration"), list(product(DATES, DURATIONS)))
def test_no_time_that_a_pbx_can_say_stops_the_partition(ended: object, duration: object) -> None:
    log = Log()
    for number, began in enumerate(DATES):
        log.webhook(number, start(t=None) | {"startTime": began})
        log.webhook(number, end(t=None, duration=None) | {"endUtc": ended, "duration": duration})
        log.webhook(number, start(t=None) | {"startTime": began, "callId": "3"})
    run(log.ticks_until(20).records)


HISTORY = ("0001-01-01T00:00:00Z", "0002-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-11-24T09:00:00Z")


@pytest.mark.parametrize(("began", "ended"), list(product(HISTORY, HISTORY)))
def test_no_time_in_a_history_stops_the_partition(began: str, ended: str) -> None:
    log = Log().webhook(0, start())
    past = PastCall("1", "201", X, times.from_text(began), times.from_text(ended), 2**63)
    said = Envelope("a", DEFAULT_PBX, Type.CALLS_RECORDED, at(1), "application/json")
    run(log.record(recorded_value([past]), said).records)


@pytest.mark.parametrize("kind", [Type.CALLS_LISTED, Type.CALLS_RECORDED])
def test_a_list_nested_as_deep_as_json_may_be_is_a_dead_letter(kind: Type) -> None:
    deep = b"[" * 1_000 + b"]" * 1_000
    value = b'{"asked_at":"2026-11-24T09:00:00Z","calls":[{"id":' + deep + b"}]}"
    out = run(Log().record(value, Envelope("a", DEFAULT_PBX, kind, at(0))).records)
    assert [batch.counts["dead_letters", "body"] for batch in out.batches] == [1]


@pytest.mark.parametrize("duration", ["²²:04:32", "①①:04:32"])
def test_digits_that_are_none_stop_no_partition(duration: str) -> None:
    out = run(Log().webhook(0, start()).webhook(60, end(duration=None, t=60) | {"duration": duration}).records)
    assert out.told == ["started:201:started", "ended:201:end_matched_by_party"]


def test_a_body_whose_reading_meets_a_bug_is_buried_with_the_reason_and_the_others_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What is compiled calls what is not by its name.
    monkeypatch.setattr(phonenumbers, "parse", lambda _number, _country: int("²"))
    records = Log().webhook(0, start()).webhook(30, end(party="022 555 00 13")).webhook(60, end()).records
    out = run(records, new_task(pbxs={DEFAULT_PBX: Pbx(country="CH")}), batch_size=5)
    assert out.told == ["started:201:started", "ended:201:end_matched_by_party"]
    assert [(offset, type(bug)) for batch in out.batches for offset, bug in batch.bugs] == [(31, ValueError)]
    assert sum(batch.counts["dead_letters", "bug"] for batch in out.batches) == 1
    (letter,) = [letter for batch in out.batches for letter in batch.dead_letters]
    assert letter.value == records[31].value
    assert dict(letter.headers)["dead_letter_reason"] == b"a bug of ours: reading the body failed (ValueError)"


_VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(DATES)
_NAMES = st.sampled_from(
    ["caller", "callee", "agentExt", "agentMail", "direction", "duration", "wav", "endUtc", "startTime", "callId"]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.dictionaries(_NAMES, _VALUES), min_size=1, max_size=6))
def test_no_body_stops_the_partition(bodies: list[dict[str, Any]]) -> None:
    log = Log()
    for number, body in enumerate(bodies):
        log.webhook(number, body)
    run(log.records)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["ce_id", "ce_time", "ce_type", "ce_source", "ingest_sequence"]), st.binary())),
    st.none() | st.binary(max_size=40),
    st.none() | st.binary(max_size=10),
)
def test_no_header_key_or_value_stops_the_partition(
    changed: list[tuple[str, bytes]], key: bytes | None, value: bytes | None
) -> None:
    said = Envelope("a", DEFAULT_PBX, Type.WEBHOOK_RECEIVED, at(0), "application/json", "ingest-1", 1)
    headers = dict(envelope.encode(said)) | dict(changed)
    batch = new_task().process([InputRecord(0, 0, key, value, tuple(headers.items()))])
    assert batch.next_offset == 1


@pytest.mark.parametrize("sequence", [b"-1", b"18446744073709551616", b"9" * 60])
def test_a_sequence_that_no_ingest_writes_is_a_dead_letter(sequence: bytes) -> None:
    said = Envelope("a", DEFAULT_PBX, Type.WEBHOOK_RECEIVED, at(0), None, "ingest-1", 1)
    headers = dict(envelope.encode(said)) | {"ingest_sequence": sequence}
    batch = new_task().process([InputRecord(0, 0, b"default", b"{}", tuple(headers.items()))])
    assert len(batch.dead_letters) == 1
    assert batch.counts["dead_letters", "envelope"] == 1


def test_another_record_with_the_id_of_a_kept_session_opens_no_second_one_over_it() -> None:
    log = Log()
    for received_s, body in ((0, start()), (120, start(party="+41225559999", t=120)), (240, end("202", t=240))):
        said = Envelope("the-same", DEFAULT_PBX, Type.WEBHOOK_RECEIVED, at(received_s), "application/json", "ingest-1")
        log.record(json.dumps(body).encode(), said)
    assert run(log.records).told == ["started:201:started"]


def test_a_record_of_another_type_is_a_dead_letter() -> None:
    said = Envelope("a", DEFAULT_PBX, Type.CALL_STARTED, at(0))
    out = run(Log().record(b"{}", said).records)
    assert [batch.counts["dead_letters", "type"] for batch in out.batches] == [1]


def test_a_repeat_of_ingests_does_not_count_its_time_again() -> None:
    log = Log()
    for second in range(6):
        log.webhook(second, start(t=second, party=f"+4122555123{second}"))
    again = [record for record in log.records if record.value]
    task = new_task()
    run(log.records, task)
    live_us = task.live_time_us
    assert live_us == 5_000_000
    out = run([InputRecord(0, 100 + n, one.key, one.value, one.headers) for n, one in enumerate(again)], task)
    assert (out.events, task.live_time_us) == ([], live_us)
    assert not any(batch.counts["clock_alarms", "step_back"] for batch in out.batches)


@pytest.mark.parametrize(
    "body",
    [
        start(party="#abc", callId="abc"),
        start(party="?end"),
        start(party="abc", callId="abc"),
        end(party="?start"),
        end(party="#abc", callId="abc"),
    ],
)
def test_a_name_that_looks_like_another_trait_does_not_stop_the_partition_when_the_call_is_dropped(
    body: dict[str, Any],
) -> None:
    rules = Rules(call_duration_max_s=10, closed_kept_s=10)
    log = Log().webhook(1, body).ticks_until(30)
    out = run(log.records, new_task(rules))
    assert out.sessions[0].status is not Status.OPEN
    assert None in out.batches[-1].changelog.values(), "dropped"


def test_due_deadlines_fire_in_order_and_before_the_record_that_moved_the_clock() -> None:
    log = Log()
    for second in range(5):
        log.webhook(second, start(f"20{second}", f"+4122555123{second}", second))
    log.ticks_until(4 * 3600 - 2)
    log.now_s = 4 * 3600 + 7
    log.webhook(log.now_s, end("204", "+41225551234", log.now_s, 60))
    out = run(log.records)
    missed = [one for one in out.told if one.startswith("end_missed")]
    assert missed == [f"end_missed:20{n}:timeout" for n in range(5)]
    assert out.told[-1] == "ended:204:end_without_start"


def test_slices_of_a_batch_make_the_batch() -> None:
    log = Log()
    for number in range(6):
        log.webhook(number, start(str(200 + number), f"+4122555{number:04}", t=number)).webhook(
            number + 0.5, b"nonsense"
        )
    whole = new_task().process(log.records)
    worker = new_task()
    first, *others = [worker.process(part) for part in cut(log.records, 5)]
    for other in others:
        first.extend(other)
    assert first == whole
