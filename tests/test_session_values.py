"""Session events as JSON values: what the models say, in every doubt; and the quick way for what we write ourselves."""

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from events import session_events, session_values
from events.session_events import FeedProgress
from processors.rules import Rules
from tests.builders import Log, X, Y, end, new_task, run, start

CORPUS = sorted((Path(__file__).parent / "corpus" / "session_events").glob("*.jsonl"))
LINES = [line.encode() for path in CORPUS for line in path.read_text("utf-8").splitlines()]


def written() -> list[bytes]:
    """Of every type one: started, ended, missed, corrected, progress, and more of some."""
    log = Log()
    for number, party in enumerate([X, Y, "anonymous", "Zoë <00412>", None]):
        log.webhook(number * 9 + 1, start(str(201 + number % 2), party, t=number * 9, agentMail="é@x.ch"))
        log.webhook(number * 9 + 5, end(str(201), party, t=number * 9 + 4, duration=3, callId=str(number)))
        log.webhook(number * 9 + 6, end(str(201), party, t=number * 9 + 4, duration=3, callId=str(number), wav="w"))
    log.webhook(60, start("207", X, t=60)).ticks_until(200)
    log.webhook(201, end("207", X, t=190, duration=9))
    batches = run(log.records, new_task(Rules(call_duration_max_s=50))).batches
    return [out.value or b"" for batch in batches for out in batch.session_events]


WRITTEN = written()
CALLS = [value for value in WRITTEN if b'"session"' in value]


def by_the_models(value: bytes) -> Any:
    event = session_events.decode(value)
    return event if isinstance(event, FeedProgress) else event.model_dump(mode="json")


def said(read: Callable[[bytes], Any], value: bytes) -> Any:
    try:
        return read(value)
    except ValidationError as error:
        return error.errors(include_url=False, include_context=False)


def test_the_quick_way_reads_every_event_that_we_write_and_as_the_models_do() -> None:
    types = set()
    for value in WRITTEN:
        assert session_values.as_encoded(value) == by_the_models(value)
        types.add(json.loads(value)["type"])
    assert len(types) == 5
    assert any(b'"ended_between":{' in value for value in WRITTEN)


def test_what_earlier_versions_wrote_is_read_as_the_models_do() -> None:
    assert LINES
    for value in LINES:
        assert session_values.read(value) == by_the_models(value)


@given(
    st.text(),
    st.integers(-(2**63), 2**63 - 1),
    st.text(),
    st.sampled_from(["T24:00:00Z", "T09:00:00Z", "T09:00:00.5Z"]),
)
def test_values_as_bytes_are_what_the_models_write(caller: str, count: int, email: str, time: str) -> None:
    event = orjson.loads(CALLS[1])
    event["session"] |= {"caller": caller, "duration_s": count, "agent": {"extension": None, "email": email}}
    event["session"]["started_at"] = f"2026-02-28{time}"
    value = json.dumps(event).encode()
    if isinstance(said(by_the_models, value), list):
        assert said(session_values.read, value) == said(by_the_models, value)
        return
    read: Any = session_values.read(value)
    assert orjson.dumps(read) == session_events.encode(session_events.decode(value))


PATHS = [
    *(("time",), ("type",), ("reason",), ("revision",), ("causes",), ("causes", 0), ("causes", 0, "offset")),
    *(("session", name) for name in json.loads(CALLS[0])["session"]),
    *(("session", "agent", "email"), ("session", "ended_between", "latest"), ("changed", "status"), ("extra",)),
    *(("changed", "status", "before"), ("session",), ("session", "extra")),
]
GONE = object()
TIMES = ["2026-02-30T00:00:00Z", "2026-02-03T00:00:00.000000Z", "2026-02-03T00:00:00+01:00", "0000-01-01T00:00:00Z"]
VALUES = st.one_of(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    st.sampled_from(
        [*TIMES, "2026-02-03 00:00:00Z", "2026-02-03T23:59:60Z", "open", "OPEN", "5", 1e0, 2**70, 1_770_000_000]
    ),
    st.lists(st.none(), max_size=1) | st.dictionaries(st.text(max_size=2), st.integers(), max_size=1),
)


@given(st.sampled_from(WRITTEN + LINES), st.sampled_from(PATHS), VALUES | st.just(GONE))
def test_what_stands_otherwise_is_read_and_refused_as_by_the_models(
    value: bytes, path: tuple[Any, ...], other: Any
) -> None:
    event = inner = json.loads(value)
    for name in path[:-1]:
        inner = (
            inner[name] if isinstance(inner, list) and inner else (isinstance(inner, dict) and inner.get(name)) or {}
        )
    if isinstance(inner, dict):
        inner[path[-1]] = None if other is GONE else other
        if other is GONE:
            del inner[path[-1]]
    changed = json.dumps(event).encode()
    assert said(session_values.read, changed) == said(by_the_models, changed)


@given(st.sampled_from(WRITTEN), st.integers(0, 900), st.binary(max_size=2))
@example(CALLS[0], 0, b"\xef\xbb\xbf")
@example(CALLS[0], 1, b'"revision":7,')
def test_broken_bytes_are_refused_as_by_the_models(value: bytes, place: int, put: bytes) -> None:
    broken = value[:place] + put + value[place + len(put) // 2 :]
    assert said(session_values.read, broken) == said(by_the_models, broken)


@pytest.mark.parametrize("seed", range(3))
def test_names_in_another_order_and_names_twice_are_read_as_by_the_models(seed: int) -> None:
    rng = random.Random(seed)
    for value in WRITTEN:
        event = json.loads(value)
        mixed = dict(rng.sample(list(event.items()), len(event)))
        text = json.dumps(mixed)
        for one in (text, text[:-1] + ',"revision":99}', "{" + '"revision":98,' + text[1:]):
            assert said(session_values.read, one.encode()) == said(by_the_models, one.encode())


@pytest.mark.parametrize("text", TIMES)
def test_a_time_that_is_written_otherwise_or_is_none_is_read_as_by_the_models(text: str) -> None:
    for value in CALLS:
        for name in (b"time", b"started_at", b"ended_at", b"first_received_at", b"earliest", b"latest"):
            other = re.sub(b'"%s":"[^"]*"' % name, b'"%s":"%s"' % (name, text.encode()), value)
            assert said(session_values.read, other) == said(by_the_models, other)
