"""What is missing of a transaction that the broker committed in one topic and aborted in another. Pure.

A coordinator that is killed and comes back while nobody was elected in its place goes on from its own log, whose end
its followers may never have had: Kafka 4.3.1 sends the markers of a commit that is decided there alone. Then another
one is elected, knows nothing of it, and aborts what is left. (Found by `make chaos` on three brokers, with `--only
"kill leaders" --only "kill coordinator"`: a partition's changelog was committed, its session events were not.)

What was committed anywhere may have been seen. All records of a transaction were acknowledged before its commit was
asked for, and what is aborted stays in the log: so whoever takes the partition over writes that again.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, Protocol

from processors.task import OutputRecord


class Record(Protocol):
    """What is needed of a consumed record: its offset, and what it is made of."""

    offset: int
    key: Any
    value: Any
    headers: Any


class End(NamedTuple):
    """The last records of ours in a topic's partition: the last committed one, and what was aborted after it."""

    committed: Record | None
    aborted: Sequence[Record]


def end_of(every: Sequence[Record], committed: Sequence[Record]) -> End:
    """Of the last records in order of their offsets: all of them, and those of them that were committed."""
    last = committed[-1] if committed else None
    return End(last, [one for one in every if last is None or one.offset > last.offset])


def last_transaction(aborted: Sequence[Record], is_end: Callable[[Record], bool]) -> Sequence[Record]:
    """Those of the last transaction of which all are there, where nobody else writes; none: there is no such one.

    Each transaction's marker takes an offset. `is_end`: a transaction's last record.
    """
    end = len(aborted)
    while end > 0:
        begin = end - 1
        while begin > 0 and aborted[begin - 1].offset == aborted[begin].offset - 1:
            begin -= 1
        if is_end(aborted[end - 1]):
            return aborted[begin:end]
        end = begin
    return []


def missing(
    aborted: Sequence[Record], identity: Callable[[Record], Hashable], is_told: Callable[[Record], bool]
) -> list[OutputRecord]:
    """What the state holds as told, and was aborted, in order; further attempts at it wrote the same, or a part."""
    found = {identity(one): one for one in aborted if is_told(one)}
    return [OutputRecord(one.key, one.value, tuple(one.headers)) for one in found.values()]
