"""The PBX's own history of calls: what an answer of it says, and which calls it closes or corrects."""

import json
from itertools import permutations

import pytest

from events import times
from events.call_history import PastCall, past_calls, recorded_of, recorded_value
from events.envelope import Envelope, Type
from events.odata import page_of
from events.pbx import DEFAULT_PBX
from events.session import EndedAtSource, Status
from events.session_events import CallCorrected
from tests.builders import Log, X, Y, at, end, run, start
from tests.test_scenarios import active

ROW = {
    "SegmentId": 7, "SegmentStartTime": "2026-11-24T09:00:05Z", "SegmentEndTime": "2026-11-24T10:01:00+01:00",
    "SrcDn": "10000", "SrcCallerNumber": "+41225551234", "SrcInternal": False, "DstDn": "201",
    "DstCallerNumber": "201", "DstInternal": True, "CallAnswered": True, "CallTime": "PT45.25S",
}  # fmt: skip
PAST = PastCall("7", "201", "+41225551234", at(5), at(60), 45)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, [PAST]),
        ({"CallAnswered": False}, [PAST._replace(duration_s=None)]),
        ({"CallTime": None}, [PAST._replace(duration_s=None)]),
        ({"SegmentStartTime": "2026-11-24T09:00:05"}, [PAST]),
        ({"SegmentEndTime": None}, []),
        ({"SegmentEndTime": "soon"}, []),
        ({"SegmentStartTime": "0001-01-01T00:00:00Z"}, []),
        ({"SegmentEndTime": "0001-01-01T00:00:00"}, []),
        ({"SrcInternal": True}, []),
        ({"DstInternal": None}, []),
        ({"DstDn": None}, []),
        ({"SrcCallerNumber": None}, [PAST._replace(number="")]),
    ],
)
def test_a_row_of_the_history_is_an_agents_part_or_nothing(changed: dict[str, object], told: list[PastCall]) -> None:
    page = page_of(json.dumps({"value": [ROW | changed]}).encode())
    assert page is not None
    assert list(past_calls(page.rows)) == told
    assert recorded_of(recorded_value(told)) == tuple(told)


def test_what_is_no_history_is_none() -> None:
    assert [page_of(body) for body in (b"", b"[]", b"{}", b'{"value": [1]}')] == [None] * 4
    assert [recorded_of(body) for body in (b"", b"[]", b'{"calls": [{"id": 1}]}')] == [None] * 3


def test_an_inferred_end_becomes_the_one_of_the_history() -> None:
    log = Log().webhook(1, start()).listing(30, active("7", "201", "X")).listing(60).listing(90).ticks_until(160)
    out = run(log.history(200, ("201", X, 4, 52, 45)).records)
    assert out.told[-1] == "corrected:201:end_from_history"
    (call,) = out.sessions
    assert (call.status, call.end_reason, call.ended_at) == (Status.ENDED, "history", at(52))
    assert (call.ended_at_source, call.duration_s, call.ended_between) == (EndedAtSource.REPORTED, 45, None)
    corrected = out.events[-1]
    assert isinstance(corrected, CallCorrected)
    assert corrected.changed["end_reason"].before == "absent_from_pbx"
    kinds = [dict(log.records[cause.offset].headers)["ce_type"] for cause in corrected.causes]
    assert kinds == [b"threecx.webhook.received", b"threecx.calls.listed", b"threecx.calls.recorded"]


def test_an_open_call_is_closed_and_the_same_history_again_is_nothing() -> None:
    log = Log().webhook(1, start()).history(120, ("201", X, 4, 52, 45)).history(180, ("201", X, 4, 52, 45))
    assert run(log.ticks_until(20_000).records).told == ["started:201:started", "ended:201:end_from_history"]


def test_a_webhooks_end_that_comes_later_still_is_the_truth() -> None:
    log = Log().webhook(1, start()).history(120, ("201", X, 4, 52, 45)).webhook(130, end(t=53, duration=46))
    out = run(log.records)
    assert out.told[-1] == "corrected:201:true_end"
    assert [(call.end_reason, call.ended_at) for call in out.sessions] == [("released", at(53))]


@pytest.mark.parametrize(
    ("past", "why"),
    [
        (("202", X, 4, 52, 45), "another agent"),
        (("201", Y, 4, 52, 45), "another party"),
        (("201", "", 4, 52, 45), "no party"),
        (("201", X, 400, 452, 45), "another time"),
        (("201", X, -500, -400, 45), "over before it began"),
    ],
)
def test_a_history_of_another_call_says_nothing(past: tuple[str, str, float, float, int], why: str) -> None:
    assert run(Log().webhook(1, start()).history(600, past).records).told == ["started:201:started"], why


def test_of_a_redial_the_nearest_is_meant_and_what_was_reported_stays() -> None:
    log = Log().webhook(1, start(t=0)).webhook(31, end(t=30, duration=28)).webhook(41, start(t=40))
    out = run(log.history(200, ("201", X, 2, 30, 28)).records)
    assert [call.status for call in out.sessions] == [Status.ENDED, Status.OPEN]
    out = run(log.history(300, ("201", X, 42, 90, 45)).records)
    assert [call.end_reason for call in out.sessions] == ["released", "history"]


def test_a_call_that_the_pbx_still_lists_goes_on_whatever_the_history_says() -> None:
    log = Log().webhook(1, start()).listing(30, active("7", "201", "X")).history(60, ("201", X, 4, 52, 45))
    assert run(log.records).told == ["started:201:started"]


def test_a_part_that_nobody_took_closes_no_call_that_no_list_had() -> None:
    """The agent is rung once more while the same party speaks to them already."""
    log = Log().webhook(1, start()).history(200, ("201", X, 60, 80, None))
    assert run(log.records).told == ["started:201:started"]
    assert run(log.history(260, ("201", X, 4, 190, 185)).records).told[1:] == ["ended:201:end_from_history"]


def test_a_part_that_nobody_took_ends_a_call_that_the_pbx_lists_no_longer() -> None:
    log = Log().webhook(1, start()).listing(10, active("7", "201", "X")).listing(40)
    out = run(log.history(70, ("201", X, 0, 30, None)).records)
    assert [(call.end_reason, call.ended_at, call.duration_s) for call in out.sessions] == [("history", at(30), None)]


PARTS = (("201", X, 0, 20, None), ("201", X, 25, 60, 30), ("201", X, 70, 110, 35), ("201", X, 70, 90, None))


@pytest.mark.parametrize("parts", list(permutations(PARTS)))
def test_of_the_parts_of_one_call_the_nearest_that_was_taken_is_its_end(
    parts: tuple[tuple[str, str, float, float, int | None], ...],
) -> None:
    """In one record, in several, and told again by a poller that began anew."""
    log = Log().webhook(1, start()).listing(30, active("7", "201", "X")).listing(120).listing(150).ticks_until(220)
    together = run(log.history(230, *parts).history(290, *parts).records)
    log = Log().webhook(1, start()).listing(30, active("7", "201", "X")).listing(120).listing(150).ticks_until(220)
    for number, part in enumerate(parts):
        log.history(230 + 60 * number, part)
    for out in (together, run(log.records)):
        assert [(call.ended_at, call.duration_s) for call in out.sessions] == [(at(60), 30)]


@pytest.mark.parametrize("began", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
@pytest.mark.parametrize("ended", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_no_time_that_a_history_can_say_stops_the_partition(began: str, ended: str) -> None:
    """A poller of an earlier release wrote the year 0001 into the log; the call beside it still counts."""
    odd = PAST._replace(started_at=times.from_text(began), ended_at=times.from_text(ended))
    said = Envelope("past", DEFAULT_PBX, Type.CALLS_RECORDED, at(120), "application/json")
    log = Log().webhook(1, start()).webhook(2, start("201", Y, t=None, startTime="9999-12-31T23:59:59Z"))
    told = run(log.record(recorded_value([odd, PAST]), said).records).told
    assert told == ["started:201:started", "started:201:started", "ended:201:end_from_history"]
