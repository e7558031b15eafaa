"""What holds of every feed, however broken: the same bytes however it is cut or restored, and no call open for ever."""

from collections import Counter
from random import Random

import pytest

from events import session_events, times
from events.session import Session, Status
from events.session_events import CallCorrected, CallEvent
from processors import changelog, pairing
from processors.calls import Call
from processors.task import InputRecord, OutputRecord, Task
from tests.builders import cut, folded, new_task, run
from tests.chaotic_feed import RULES, chaotic_feed

SEEDS = range(40)


def told(batches: list[OutputRecord]) -> list[tuple[bytes | None, bytes | None, tuple[tuple[str, bytes], ...]]]:
    return [(one.key, one.value, tuple(one.headers)) for one in batches]


def restored(log: dict[bytes, bytes], seed: int) -> Task:
    """A task from a compacted changelog; compaction leaves no promise about the order of different keys.

    Some of its calls were written by the version before this one.
    """
    keys, random = list(log), Random(seed)
    random.shuffle(keys)
    task = new_task(RULES)
    for key in keys:
        is_call = isinstance(changelog.decode(log[key]), Call)
        task.restore(key, as_written_earlier(log[key]) if is_call and random.random() < 0.3 else log[key])
    task.restored()
    return task


def as_written_earlier(value: bytes) -> bytes:
    """The value of a call as it was before it had a head."""
    session_id = changelog.decode_call(value).session_id.encode()
    return b'["call","' + session_id + b'",' + value[changelog.HEAD.size + 1 :]


@pytest.mark.parametrize("seed", SEEDS)
def test_how_records_are_cut_into_batches_changes_no_byte(seed: int) -> None:
    records = chaotic_feed(seed)
    whole = run(records, new_task(RULES), len(records))
    expected = [one for batch in whole.batches for one in told(batch.session_events)]
    assert expected
    for size in (1, 2, 7, 31):
        out = run(records, new_task(RULES), size)
        assert [one for batch in out.batches for one in told(batch.session_events)] == expected
        assert folded(out.batches) == folded(whole.batches)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_restore_anywhere_changes_no_byte_afterwards(seed: int) -> None:
    records = chaotic_feed(seed)
    for point in sorted(Random(seed).sample(range(1, len(records)), 8)):
        live = new_task(RULES)
        before = [live.process(part) for part in cut(records[:point], 5)]
        after = live.process(records[point:])
        revived = restored(folded(before), seed)
        assert revived.next_offset == point
        again = revived.process(records[point:])
        assert told(again.session_events) == told(after.session_events)
        assert folded([*before, again]) == folded([*before, after])
        assert (revived.open_calls, revived.kept_calls) == (live.open_calls, live.kept_calls)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_call_is_open_past_its_deadline_and_the_counts_are_true(seed: int) -> None:
    task = new_task(RULES)
    for record in chaotic_feed(seed):
        task.process([record])
        calls = list(task._calls)
        assert all(pairing.deadline_us(call, RULES) > task.live_time_us for call in calls)
        assert task.open_calls == sum(call.is_open for call in calls)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_value_is_the_very_bytes_that_its_model_writes(seed: int) -> None:
    for batch in run(chaotic_feed(seed), new_task(RULES)).batches:
        for out in batch.session_events:
            assert session_events.encode(session_events.decode(out.value or b"")) == out.value


@pytest.mark.parametrize("seed", SEEDS)
def test_revisions_count_up_and_the_highest_one_holds_in_any_order(seed: int) -> None:
    events = run(chaotic_feed(seed), new_task(RULES)).events
    seen: Counter[str] = Counter()
    for event in events:
        seen[event.session_id] += 1
        assert event.revision == event.session.revision == seen[event.session_id]
        assert event.session_id == event.session.session_id
    assert len({event.id for event in events}) == len(events)
    shuffled = list(events)
    Random(seed).shuffle(shuffled)
    assert fold(shuffled) == fold(events)


def fold(events: list[CallEvent]) -> dict[str, Session]:
    """All that a consumer needs: the highest revision wins."""
    held: dict[str, Session] = {}
    for event in events:
        known = held.get(event.session_id)
        if known is None or event.revision > known.revision:
            held[event.session_id] = event.session
    return held


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_invented(seed: int) -> None:
    for event in run(chaotic_feed(seed), new_task(RULES)).events:
        call = event.session
        assert (call.ended_between is not None) == (call.status is Status.END_MISSED)
        if call.status is not Status.ENDED:
            assert (call.ended_at, call.duration_s, call.span_s, call.recording_url) == (None, None, None, None)
        if call.ended_between is not None and call.ended_between.latest is not None:
            assert call.ended_between.earliest is not None
            assert call.ended_between.earliest <= call.ended_between.latest


@pytest.mark.parametrize("seed", SEEDS)
def test_the_last_cause_is_the_newest_record_and_gives_the_event_its_time(seed: int) -> None:
    records = chaotic_feed(seed)
    for event in run(records, new_task(RULES)).events:
        offsets = [cause.offset for cause in event.causes]
        assert offsets == sorted(set(offsets))
        assert times.from_text(dict(records[offsets[-1]].headers)["ce_time"].decode()) == event.time


@pytest.mark.parametrize("seed", SEEDS)
def test_a_correction_says_what_was_before_and_after(seed: int) -> None:
    before: dict[str, Session] = {}
    for event in run(chaotic_feed(seed), new_task(RULES)).events:
        if isinstance(event, CallCorrected):
            old = before[event.session_id].model_dump(mode="json")
            new = event.session.model_dump(mode="json")
            differing = {name for name in new if old[name] != new[name]} - {"revision"}
            assert set(event.changed) == differing
            assert all((old[n], new[n]) == (c.before, c.after) for n, c in event.changed.items())
        before[event.session_id] = event.session


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_written_is_what_the_contract_writes(seed: int) -> None:
    for batch in run(chaotic_feed(seed), new_task(RULES)).batches:
        for one in batch.session_events:
            assert one.value is not None
            assert session_events.encode(session_events.decode(one.value)) == one.value


def test_the_feeds_reach_every_rule() -> None:
    reasons = {event.reason for seed in SEEDS for event in run(chaotic_feed(seed), new_task(RULES)).events}
    assert reasons == set(session_events.Reason)


def test_the_same_feed_again_is_recognised_by_its_sequences() -> None:
    records = chaotic_feed(1)
    task = new_task(RULES)
    task.process(records)
    webhooks = [one for one in records if b"webhook.received" in dict(one.headers)["ce_type"]]
    again = task.process([moved(one, len(records) + n) for n, one in enumerate(webhooks)])
    assert again.session_events == []
    assert again.counts["repeats", "sequence"] == len(webhooks)


def moved(record: InputRecord, offset: int) -> InputRecord:
    return InputRecord(record.partition, offset, record.key, record.value, record.headers)
