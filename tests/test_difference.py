"""What differs between two sets of session events, and how it is told."""

from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from processors.difference import Comparison, Difference, FirstDifference, Told, UnreadableError
from processors.difference_told import as_json, as_text
from processors.rules import Rules
from processors.task import InputRecord
from tests.builders import Log as Feed
from tests.builders import X, Y, end, new_task, run, start
from tests.chaotic_feed import RULES, chaotic_feed


def told(records: Sequence[InputRecord], rules: Rules | None = None) -> list[Told]:
    """The session topic that the records lead to; every third offset is a marker's."""
    batches = run(records, new_task(rules)).batches
    values = [out.value or b"" for batch in batches for out in batch.session_events]
    return [Told(number + number // 2, value) for number, value in enumerate(values)]


def compared(a: Sequence[Told], b: Sequence[Told], size: int = 1000, *, common: bool = False) -> Difference:
    """As the command does it: both side by side, then the rest of the longer one, then nothing."""
    comparison = Comparison(common=common)
    both = min(len(a), len(b))
    for begin in range(0, both, size):
        stop = min(begin + size, both)
        comparison.take(0, a[begin:stop], b[begin:stop])
    for begin in range(both, max(len(a), len(b)), size):
        comparison.take(0, a[begin : begin + size], b[begin : begin + size])
    comparison.take(0, [], [])
    return comparison.told()


def calls() -> Feed:
    """Two calls: one that ends, one whose end never comes."""
    feed = Feed().webhook(1, start("201", X, t=1)).webhook(5, end("201", X, t=5, duration=4))
    return feed.webhook(6, start("202", Y, t=6)).ticks_until(40)


def test_the_same_events_are_equal_in_sessions_and_bytes() -> None:
    found = compared(told(calls().records), told(calls().records))
    assert (found.same_sessions, found.same_bytes) == (True, True)
    assert (found.sessions_a, found.sessions_b, found.equal) == (2, 2, 2)


def test_a_changed_rule_shows_fields_reasons_and_causes() -> None:
    found = compared(told(calls().records), told(calls().records, Rules(call_duration_max_s=20)))
    (changed,) = found.changed
    assert (found.equal, changed.extension, found.reasons) == (1, "202", {("started", "timeout"): 1})
    assert changed.fields["status"] == ("open", "end_missed")
    assert changed.fields["revision"] == (1, 2)
    assert list(changed.fields) == ["status", "ended_at_source", "ended_between", "end_reason", "revision"]
    assert (changed.why_a.reason, changed.why_b.reason) == ("started", "timeout")
    assert [ce_id for _, _, ce_id in changed.why_b.causes] == ["ingest-1-3"]


@pytest.mark.parametrize("turned", [False, True])
def test_a_session_that_one_set_lacks_is_named(turned: bool) -> None:  # noqa: FBT001 - a table of two
    more, less = told(calls().records), told(calls().records[:3])
    found = compared(less, more) if turned else compared(more, less)
    only, none = (found.only_b, found.only_a) if turned else (found.only_a, found.only_b)
    assert [row.extension for row in only] == ["202"]
    assert (none, found.same_sessions) == ([], False)


def test_the_highest_revision_holds_whatever_comes_after_it() -> None:
    whole = told(calls().records)
    found = compared(whole, [*whole, *whole[:2], *whole])
    assert (found.same_sessions, found.same_bytes) == (True, False)


def test_the_same_sessions_in_other_bytes_are_told_apart() -> None:
    whole = told(calls().records)
    found = compared(whole, [*whole[:3], *whole[4:]])
    assert found.same_sessions
    (place,) = found.partitions
    assert place.first is not None
    assert (place.events_a - place.events_b, place.first.number, place.first.offset_a) == (1, 3, whole[3].offset)


def test_a_set_that_ends_early_is_the_same_until_there() -> None:
    whole = told(calls().records)
    (place,) = compared(whole, whole[:-2]).partitions
    goes_on = whole[-2]
    assert place.first == FirstDifference(len(whole) - 2, goes_on.offset, None, "threecx.feed.progress", None)


@pytest.mark.parametrize("seed", range(6))
def test_as_far_as_both_have_come_a_set_equals_its_earlier_self(seed: int) -> None:
    records = chaotic_feed(seed)
    whole = told(records, RULES)
    assert len({one.value for one in whole}) == len(whole)
    for cut in range(0, len(records) + 1, 3):
        earlier = told(records[:cut], RULES) if cut else []
        for size in (1, 7, 1000):
            for a, b in ((whole, earlier), (earlier, whole)):
                found = compared(a, b, size, common=True)
                assert found.same_sessions
                assert found.same_bytes
        assert compared(whole, earlier, common=False).same_bytes == (len(earlier) == len(whole))


def test_as_far_as_both_have_come_a_change_is_still_seen() -> None:
    records = calls().records
    found = compared(told(records, Rules(call_duration_max_s=20)), told(records[:-3]), common=True)
    assert [one.extension for one in found.changed] == ["202"]
    later = compared(told(records, Rules(call_duration_max_s=33)), told(records[:-3]), common=True)
    assert (later.same_sessions, later.left_out) == (True, (1, 0))


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("seed", range(4))
def test_how_the_records_are_fetched_changes_nothing(seed: int, size: int) -> None:
    a, b = told(chaotic_feed(seed), RULES), told(chaotic_feed(seed))
    assert compared(a, b, size) == compared(a, b)
    assert as_text(compared(a, b, size), "a", "b", 100) == as_text(compared(a, b), "a", "b", 100)


@pytest.mark.parametrize(("a", "b", "side"), [(b"{}", None, "a"), (None, b"\xff", "b")])
def test_a_record_that_is_no_session_event_is_named(a: bytes | None, b: bytes | None, side: str) -> None:
    with pytest.raises(UnreadableError, match="partition 3, offset 7 is not") as raised:
        Comparison().take(3, [Told(7, a)] if a else [], [Told(7, b)] if b else [])
    assert raised.value.side == side


def test_the_text_says_the_verdict_first_and_no_more_rows_than_asked_for() -> None:
    found = compared(told(calls().records), told(calls().records, Rules(call_duration_max_s=20)))
    lines = as_text(found, "old", "new", 5).splitlines()
    assert lines[0] == "the sessions differ: A = old (2 sessions), B = new (2 sessions)"
    assert lines[1:3] == [
        "equal 1, changed 1, only in A 0, only in B 0",
        "  changed, last reason started -> timeout: 1",
    ]
    assert '  status: "open" -> "end_missed"' in lines
    assert any(line.startswith("  B: revision 2, call.end_missed, reason timeout, from 0@") for line in lines)
    short = as_text(found, "old", "new", 0)
    assert '"end_missed"' not in short
    assert "(1 more are not shown; --limit shows them)" in short


def test_the_json_has_whole_counts_and_limited_rows() -> None:
    found = compared(told(calls().records), [], common=False)
    said: dict[str, Any] = orjson.loads(as_json(found, "old", "new", 1))
    assert said["sessions"] == {"a": 2, "b": 0, "equal": 0, "changed": 0, "only_a": 2, "only_b": 0}
    assert (said["same_sessions"], said["same_bytes"], said["left_out"]) == (False, False, None)
    assert [row["agent"] for row in said["only_a"]] == ["201"]
