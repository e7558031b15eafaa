"""The state as changelog records: what was written is what is read, and what is not ours is refused."""

import base64
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from events.session import Session
from processors import changelog
from processors.calls import Call
from processors.changelog import ChangelogError, Email, LastList, Position
from processors.live_time import LiveTime
from processors.sessions import session_of
from tests.builders import Log, end, folded, new_task, run, start
from tests.chaotic_feed import RULES, chaotic_feed

CORPUS = sorted((Path(__file__).parent / "corpus" / "changelog").glob("*.jsonl"))


@pytest.mark.parametrize("seed", range(20))
def test_every_kept_call_survives_its_bytes(seed: int) -> None:
    task = new_task(replace(RULES, closed_kept_s=40))  # so that calls leave the state, too
    out = run(chaotic_feed(seed), task, 7)
    told = {event.session_id: event.session for event in out.events}
    kept = {key: changelog.decode(value) for key, value in folded(out.batches).items()}
    calls = {key: one for key, one in kept.items() if isinstance(one, Call)}
    assert len(calls) == task.kept_calls
    for key, call in calls.items():
        assert changelog.encode_call(call) == folded(out.batches)[key]
        assert Session.model_validate_json(orjson.dumps(session_of(call))) == told[call.session_id]


def test_the_keys_are_those_of_the_contract() -> None:
    log = Log().webhook(1, start(agentMail="Ann@x.ch")).ticks_until(3)
    out = run(log.records)
    assert set(folded(out.batches)) == {
        f"default/{out.sessions[0].session_id}".encode(),
        b"default/email/ann@x.ch",
        b"_partition/0",
    }


def test_the_email_outlives_the_call_and_a_restart() -> None:
    log = Log().webhook(1, start(agentMail="ann@x.ch"))
    first = run(log.records)
    kept = {key: value for key, value in folded(first.batches).items() if b"email" in key or b"_partition" in key}
    task = new_task()
    for key, value in kept.items():
        task.restore(key, value)
    task.restored()
    done = len(log.records)
    later = log.webhook(61, end(None, agentMail="ann@x.ch")).records[done:]
    (call,) = run(later, task).sessions
    assert call.agent.extension == "201"


def test_a_tombstone_takes_the_call_out_even_when_the_call_was_never_seen() -> None:
    log = Log().webhook(1, start())
    ((key, value),) = [(k, v) for k, v in folded(run(log.records).batches).items() if b"_partition" not in k]
    for last in (value, None):
        task = new_task()
        task.restore(key, None)
        task.restore(key, value)
        task.restore(key, last)
        task.restored()
        assert task.open_calls == task.kept_calls == (last is not None)


def test_a_restored_call_is_read_only_when_an_event_asks_for_its_agent_or_its_party() -> None:
    log = Log()
    for number in range(6):
        log.webhook(1 + number, start(f"20{number}", f"+412255512{number:02}", t=number))
    done = len(log.records)
    task = new_task()
    for key, value in folded(run(log.records).batches).items():
        task.restore(key, value)
    task.restored()
    assert (task.open_calls, len(task._calls._unread)) == (6, 6)
    log.webhook(61, end("201", "+41225551201", t=60))  # its agent and its party
    log.webhook(62, start("209", "+41225551203", t=61))  # the party of another: that leg has moved
    run(log.records[done:], task)
    assert (task.open_calls, task.kept_calls, len(task._calls._unread)) == (5, 7, 4)


def test_the_position_survives_its_bytes() -> None:
    clock = LiveTime()
    clock.advance("a", 5)
    clock.advance("b", 6)
    position = Position(7, clock, {"a": 3, "b": 2**63}, {"default": 5}, {"default": LastList(1, 2)})
    assert changelog.decode(changelog.encode_position(position)) == position


def test_an_email_survives_its_bytes() -> None:
    fact = Email("default", "ann@x.ch", "0201")
    assert changelog.decode(changelog.encode_email(fact)) == fact


@pytest.mark.parametrize("value", [b"", b"[]", b"null", b"{}", b'{"kind":"other"}', b'{"kind":"call"}', b"\xff"])
def test_a_value_of_another_version_stops_the_process_and_says_so(value: bytes) -> None:
    with pytest.raises(ChangelogError, match="changelog"):
        changelog.decode(value)


def test_the_partition_tells_the_schema_and_nothing_is_read_of_a_newer_one_than_is_known() -> None:
    written = changelog.encode_position(Position(7, LiveTime(), {}, {}))
    kind, said = orjson.loads(written)
    assert said["schema"] == changelog.BEFORE_LISTS
    listed = changelog.encode_position(Position(7, LiveTime(), {}, {}, {"default": LastList(1, 2)}))
    assert orjson.loads(listed)[1]["schema"] == changelog.SCHEMA
    newer = orjson.dumps([kind, said | {"schema": changelog.SCHEMA + 1, "next_offset": ["told", "otherwise"]}])
    task = new_task()
    task.restore(b"default/" + b"0" * changelog.SESSION_ID_CHARACTERS, b"a form of the future")
    task.restore(changelog.position_key(0), newer)
    with pytest.raises(ChangelogError, match=f"has schema {changelog.SCHEMA + 1}, of a newer release; .* up to"):
        task.restored()
    earlier = orjson.dumps([kind, {name: value for name, value in said.items() if name != "schema"}])
    assert changelog.decode(earlier) == changelog.decode(written)


def test_a_call_whose_times_are_broken_is_refused() -> None:
    kept = folded(run(Log().webhook(1, start()).records).batches)
    value = next(value for key, value in kept.items() if b"_partition" not in key)
    broken = orjson.loads(value[changelog.HEAD.size :])
    broken[-2] = "yesterday"
    with pytest.raises(ChangelogError):
        changelog.decode(value[: changelog.HEAD.size] + orjson.dumps(broken))


@pytest.mark.parametrize("value", [b"", b"{}", b"O", b"X" * changelog.HEAD.size + b"[]", b'["call",1]', b'["other"]'])
def test_a_restore_of_what_is_not_ours_stops_the_process(value: bytes) -> None:
    task = new_task()
    task.restore(b"default/" + b"0" * changelog.SESSION_ID_CHARACTERS, value)
    with pytest.raises(ChangelogError, match="changelog"):
        task.restored()


@pytest.mark.parametrize("path", CORPUS, ids=[path.stem for path in CORPUS])
def test_every_changelog_ever_written_is_still_restored(path: Path) -> None:
    lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    log = {one["key"].encode(): base64.b64decode(one["value"]) for one in lines}
    task = new_task(RULES)
    for key, value in log.items():
        task.restore(key, value)
    task.restored()
    calls = [one for one in map(changelog.decode, log.values()) if isinstance(one, Call)]
    assert task.kept_calls == len(calls) > 10
    assert task.open_calls == sum(call.is_open for call in calls) > 0
    assert task.next_offset is not None
    assert {call.session_id: call for call in task._calls} == {call.session_id: call for call in calls}
