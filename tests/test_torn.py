"""What was aborted of a transaction that was committed elsewhere, told from the last records of each topic. Pure."""

from collections.abc import Sequence

import pytest
from aiokafka import ConsumerRecord

from processors.changelog import position_key
from processors.rules import Rules
from processors.torn import End, end_of, last_transaction, missing
from tests.builders import Log, end, new_task, start


def record(offset: int, said: int) -> ConsumerRecord:
    """At this offset, the output of input `said`."""
    value = str(said).encode()
    return ConsumerRecord("sessions", 0, offset, 0, 0, b"key", value, None, 3, len(value), (("said", value),))


def written(*transactions: Sequence[int]) -> list[list[ConsumerRecord]]:
    """Of each transaction its records; a marker lies behind each."""
    found, offset = [], 0
    for transaction in transactions:
        found.append([record(offset + number, said) for number, said in enumerate(transaction)])
        offset += len(transaction) + 1
    return found


@pytest.mark.parametrize(
    ("attempts", "done", "again"),
    [
        ([[10, 11]], 12, [10, 11]),
        ([[10, 11]], 10, []),
        ([[10, 11, 12, 13], [10, 11]], 12, [10, 11]),
        ([[10, 11], [10, 11, 12, 13]], 14, [10, 11, 12, 13]),
        ([[10, 11], [10], [10, 11, 12]], 13, [10, 11, 12]),
        ([[10, 11, 12], [10, 11]], 13, [10, 11, 12]),
        ([[10, 11], [10, 11, 12]], 10, []),
    ],
)
def test_what_the_state_holds_as_told_is_missing_once_and_in_order(
    attempts: Sequence[Sequence[int]], done: int, again: Sequence[int]
) -> None:
    committed, *aborted = written([8, 9], *attempts)
    every = [one for transaction in (committed, *aborted) for one in transaction]
    end = end_of(every, committed)
    assert end == End(committed[-1], every[2:])
    found = missing(end.aborted, lambda one: one.value, lambda one: int(one.value) < done)
    assert [int(one.value or b"") for one in found] == again
    assert [one.headers for one in found] == [(("said", one.value),) for one in found]


@pytest.mark.parametrize(
    ("attempts", "last"),
    [([[1, 9]], 0), ([[1, 2, 9], [1, 9]], 1), ([[1, 9], [1, 2, 9], [1, 2]], 1), ([[9], [1], [2]], 0)],
)
def test_the_last_transaction_is_the_last_one_that_is_whole(attempts: Sequence[Sequence[int]], last: int) -> None:
    transactions = written(*attempts)
    end = end_of([one for transaction in transactions for one in transaction], [])
    assert end.committed is None
    assert last_transaction(end.aborted, lambda one: one.value == b"9") == transactions[last]


def test_where_none_is_whole_there_is_none() -> None:
    assert last_transaction([], lambda _: True) == []
    assert last_transaction([record(4, 1), record(5, 2)], lambda _: False) == []


def test_nothing_is_aborted_behind_the_last_that_was_committed() -> None:
    (first, second) = written([1, 2], [1, 2])
    assert end_of([*first, *second], second) == End(second[-1], [])
    assert end_of([], []) == End(None, [])


def test_the_position_ends_what_a_transaction_writes_of_the_state() -> None:
    log = Log()
    for number in range(3):
        log.webhook(number, start(str(200 + number), t=number))
    task = new_task()
    batch = task.process(log.records[:1])
    for one in log.records[1:]:
        batch.extend(task.process([one]))
    assert list(batch.changelog)[-1] == position_key(0)
    assert len(batch.changelog) == 4


def test_an_event_of_a_call_that_was_dropped_is_known() -> None:
    log = Log()
    log.webhook(0, start("201", t=0))
    log.webhook(5, end("201", t=5, duration=4))
    log.webhook(200, start("202", t=200))
    task = new_task(Rules(closed_kept_s=60))
    before = task.process(log.records[:1]).session_events
    after = task.process(log.records[1:]).session_events
    assert all(task.knows(event.value or b"") for event in (*before, *after))
    again = new_task(Rules(closed_kept_s=60))
    assert not any(again.knows(event.value or b"") for event in (*before, *after))
    again.process(log.records[:1])
    assert [again.knows(event.value or b"") for event in after] == [False] * len(after)
