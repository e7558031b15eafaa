"""What the set-up test says of a body: the same reading as the processors', in words."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from events import reading
from events.pbx import Pbx
from events.reading import Explanation

NOW = datetime(2026, 7, 29, 16, 46, 20, tzinfo=UTC)
TEMPLATE = {
    "callId": "[CallID]",
    "caller": "+41225551234",
    "callee": "",
    "agentExt": "201",
    "agentMail": None,
    "direction": "Inbound",
    "duration": "00:00:00",
    "wav": "",
    "endUtc": "0001-01-01T00:00:00Z",
    "startTime": "2026-07-29T16:46:12Z",
}


def explain(body: Any, **pbx: Any) -> Explanation:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return reading.explain(raw, "application/json", NOW, Pbx(**pbx))


def states(explained: Explanation) -> dict[str, str]:
    return {field.name: str(field.state) for field in explained.fields}


def note(explained: Explanation, name: str) -> str:
    return next(field.note or "" for field in explained.fields if field.name == name)


@pytest.mark.parametrize("body", [{"test": True}, {}, b"", b"  "])
def test_a_body_that_tells_of_no_call_is_a_test(body: Any) -> None:
    explained = explain(body)
    assert (explained.kind, explained.reason, explained.fields) == ("test", None, ())


def test_a_body_that_is_neither_json_nor_form_says_so() -> None:
    assert explain(b"<html>").kind == "unreadable"
    assert explain(b"<html>").reason == reading.NO_FIELDS


def test_a_start_by_the_whole_template_tells_of_every_field() -> None:
    explained = explain(TEMPLATE | {"queue": "sales"})
    assert explained.kind == "start"
    assert states(explained) == {
        "extension": "read",
        "email": "missing",
        "direction": "read",
        "caller": "read",
        "callee": "missing",
        "call_id": "unresolved",
        "started_at": "read",
        "ended_at": "missing",
        "duration": "read",
        "recording": "missing",
    }
    assert explained.unknown_keys == ("queue",)
    assert note(explained, "call_id") == (
        "`callId` arrived unresolved: this PBX has no such variable; calls will be paired by agent, party and time"
    )
    assert "year 0001" in note(explained, "ended_at")


def test_a_template_of_which_nothing_is_resolved_tells_which_variables_the_pbx_lacks() -> None:
    explained = explain({"callId": "[CallID]", "agentExt": "[AgentNumber]"})
    assert (explained.kind, explained.reason) == ("unreadable", reading.NO_VALUE)
    assert states(explained)["call_id"] == states(explained)["extension"] == "unresolved"


def test_a_date_that_can_be_read_two_ways_is_told_as_a_guess() -> None:
    explained = explain({"agentExt": "201", "startTime": "07/08/2026 16:46:12"})
    assert states(explained)["started_at"] == "guessed"
    assert "2 ways" in note(explained, "started_at")
    settled = explain({"agentExt": "201", "startTime": "07/08/2026 16:46:12"}, date_order="mdy")
    assert states(settled)["started_at"] == "read"
    assert "no zone" in note(settled, "started_at")


def test_a_lone_number_without_a_direction_is_told_as_a_guess() -> None:
    explained = explain({"Number": "0225551234", "Agent": "201"}, country="CH")
    caller = next(field for field in explained.fields if field.name == "caller")
    assert (caller.sent, caller.value, caller.state) == ("Number", "+41225551234", "guessed")
    assert states(explain({"Number": "0225551234", "Agent": "201", "CallType": "Inbound"}))["caller"] == "read"


def test_when_the_call_was_answered_stands_for_the_start_of_a_start_alone_and_says_so() -> None:
    body = {"Agent": "201", "CallEstablishedTimeUTC": "2026-07-29T16:46:12Z"}
    assert states(explain(body))["started_at"] == "guessed"
    assert states(explain(body | {"Duration": "00:00:09"}))["started_at"] == "missing"


@pytest.mark.parametrize(
    ("sent", "said"),
    [("18:46:12", "2 h ahead"), ("11:16:12", "5.5 h behind"), ("16:46:12", ""), ("16:41:12", ""), ("17:06:00", "")],
)
def test_local_time_that_says_utc_is_told_and_read_as_it_stands(sent: str, said: str) -> None:
    explained = explain({"agentExt": "201", "startTime": f"2026-07-29T{sent}Z"})
    assert said in note(explained, "started_at")
    assert bool(note(explained, "started_at")) is bool(said)
    at = next(field.value for field in explained.fields if field.name == "started_at")
    assert at == f"2026-07-29T{sent}.000000Z"


def test_a_field_that_cannot_be_read_is_told() -> None:
    explained = explain({"agentExt": "201", "direction": "sideways", "duration": "long", "endUtc": "soon"})
    assert explained.kind == "end"
    assert [states(explained)[name] for name in ("direction", "duration", "ended_at")] == ["unreadable"] * 3


def test_an_explanation_is_json() -> None:
    assert json.loads(explain(TEMPLATE).model_dump_json())["fields"][0]["name"] == "extension"


@pytest.mark.parametrize("sent", ["0002-01-01T00:00:00Z", "0000-12-31T00:00:00Z", "0001-01-01T00:00:00-23:59"])
def test_a_year_next_to_none_is_told_whatever_it_is_read_as(sent: str) -> None:
    told = explain(TEMPLATE | {"endUtc": sent, "direction": "Missed"})
    assert "ended_at" in {field.name for field in told.fields}
