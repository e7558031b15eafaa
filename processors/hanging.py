"""What became of a transaction whose markers the broker never wrote. Pure.

A broker that comes back completes the transactions that its coordinator had decided. Kafka 4 (since KAFKA-17573; 4.3.1
is the latest tried) takes a partition whose leader is not elected again yet for a deleted one, and leaves its marker
out (KAFKA-20734). The records then hang there, undecided, though the coordinator says that all is done, and the next
marker of the same producer decides them: a commit shows what was aborted, an abort loses what was committed. So whoever
takes the partition over asks first what that transaction came to, and ends it the same way.

One writer fills a partition, so only its last transaction can hang, and whatever of it is decided anywhere tells its
fate: the changelog's position, the committed offset, the last event and the last dead letter. Where nothing of it is
decided anywhere, nobody has seen any of it, and it is aborted.
"""

from collections.abc import Iterable
from typing import NamedTuple


class Tail(NamedTuple):
    """The last record that we wrote to a topic's partition: the last one that hangs, or else the last one decided.

    `is_beyond`: whether it tells more than the restored state, which is that of the decided part of the changelog.
    """

    hangs: bool
    is_beyond: bool


def was_committed(*, changelog_hangs: bool, offset_is_beyond: bool, tails: Iterable[Tail]) -> bool:
    """Whether the transaction that hangs somewhere was committed.

    While the changelog hangs, the state is that of before the transaction: what is decided and beyond it can only be of
    the transaction. Else the state is that of after it, if it was committed: then what hangs is not beyond.
    """
    if changelog_hangs:
        return offset_is_beyond or any(tail.is_beyond for tail in tails if not tail.hangs)
    return any(not tail.is_beyond for tail in tails if tail.hangs)
