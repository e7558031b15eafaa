"""Every way in which the markers of a partition's last transaction can be missing, and what it is taken for."""

import itertools
from typing import NamedTuple

import pytest

from processors.hanging import Tail, was_committed

WRITTEN = ("changelog", "offsets", "sessions", "letters")


class Case(NamedTuple):
    """What the last transaction wrote to, where its markers are, and what the coordinator had decided."""

    written: frozenset[str]
    marked: frozenset[str]
    is_commit: bool


def cases() -> list[Case]:
    found = []
    for extra in range(3):
        for optional in itertools.combinations(("sessions", "letters"), extra):
            written = frozenset(("changelog", "offsets", *optional))
            for count in range(len(written)):
                for marked in itertools.combinations(sorted(written), count):
                    found += [Case(written, frozenset(marked), is_commit) for is_commit in (True, False)]
    return found


@pytest.mark.parametrize("case", cases(), ids=str)
def test_a_hanging_transaction_is_settled_as_whatever_of_it_was_seen(case: Case) -> None:
    """A small model: before the transaction all is decided up to 10, the transaction goes up to 20."""
    decided = {
        topic: 20 if topic in case.written and topic in case.marked and case.is_commit else 10 for topic in WRITTEN
    }
    hangs = {topic: topic in case.written and topic not in case.marked for topic in WRITTEN}
    if not any(hangs[topic] for topic in ("changelog", "sessions", "letters")):
        return  # a pending offset alone holds up nobody, and the changelog's position holds
    state = decided["changelog"]
    tails = [Tail(hangs[topic], (20 if hangs[topic] else decided[topic]) > state) for topic in ("sessions", "letters")]
    taken_for = was_committed(
        changelog_hangs=hangs["changelog"], offset_is_beyond=decided["offsets"] > state, tails=tails
    )
    seen = case.is_commit and bool(case.marked)
    assert taken_for is seen
