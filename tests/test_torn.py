"""What was aborted of a transaction that was committed elsewhere, told from the last records of each topic. Pure."""

from collections.abc import Sequence

import pytest
from aiokafka import ConsumerRecord

from processors.torn import End, end_of, last_transaction, missing


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


@pytest.mark.parametrize("attempts", [[[1]], [[1, 2, 3], [1, 2]], [[1], [1, 2], [1, 2, 3]]])
def test_the_last_transaction_begins_behind_a_marker(attempts: Sequence[Sequence[int]]) -> None:
    transactions = written(*attempts)
    end = end_of([one for transaction in transactions for one in transaction], [])
    assert end.committed is None
    assert last_transaction(end.aborted) == transactions[-1]


def test_nothing_is_aborted_behind_the_last_that_was_committed() -> None:
    (first, second) = written([1, 2], [1, 2])
    assert end_of([*first, *second], second) == End(second[-1], [])
    assert end_of([], []) == End(None, [])
    assert last_transaction([]) == []
