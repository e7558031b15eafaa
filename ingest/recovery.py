"""What the files of a journal mean after whatever happened to them. Pure.

- A tail is torn when the file ends within its record: a crash in the middle of a write. It was never acknowledged.
  A last record that checks but for its length is whole: that is damage.
- A file ends before the first sequence of the next one: what it holds beyond is left of a write that failed and was
  done again.
- Anything else that is no record is damage. It is skipped to the next record that checks, and reported.
- The instance's name stands in every header and in a file of its own. Where the copies differ, the one under which
  most records check is right: it is part of their checksums.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ingest import segments
from ingest.segments import FRAME_LENGTH, HEADER_LENGTH, MARKER, Damaged, Found

NAME: Final = re.compile(r"(\d{20})(\+{0,200})\.(segment|damaged)")
SKIPPED: Final = 2**20
"""How far the sequences jump whenever a journal is opened: more than a segment can hold. So no sequence is ever used
twice, even if the newest segment has lost records that Kafka has seen."""


@dataclass(frozen=True, slots=True)
class Inspected:
    """What a segment holds: runs of sequences, its damage, and its torn tail (null: none).

    `end`: where the last record ends, or the damage behind it: the tail begins there.
    """

    first: int
    last: int
    runs: tuple[tuple[int, int], ...]
    records: int
    damaged: tuple[Damaged, ...]
    torn: Damaged | None
    end: int


def first_of(name: str) -> int | None:
    """The sequence that a file's name says; null when it is no segment's name."""
    match = NAME.fullmatch(name)
    return None if match is None else int(match[1])


def in_order(names: Iterable[str]) -> list[str]:
    """The segments' names, oldest first (of equal sequences the later file has more ``+``)."""
    return sorted((name for name in names if NAME.fullmatch(name)), key=lambda name: (name[:20], name.count("+")))


def inspect(data: bytes, first: int, instance: str) -> Inspected:
    """Look through a segment of which the name says the `first` sequence."""
    expected = segments.header(instance)
    if not any(data) or (len(data) < HEADER_LENGTH and expected.startswith(data)):
        torn = Damaged(0, len(data)) if data else None
        return Inspected(first, first - 1, (), 0, (), torn, 0)
    damaged = [] if data[:HEADER_LENGTH] == expected else [Damaged(0, min(HEADER_LENGTH, len(data)))]
    runs: list[tuple[int, int]] = []
    torn, records, end = None, 0, min(HEADER_LENGTH, len(data))
    salt = segments.salt_of(instance, first)
    for one in segments.scan(data, salt):
        if isinstance(one, Found):
            records += 1
            follows = bool(runs) and runs[-1][1] == one.sequence - 1
            begin = runs.pop()[0] if follows else one.sequence
            runs.append((begin, one.sequence))
            end = one.end
        elif one.end == len(data) and _is_torn(data, one.begin, salt):
            torn = one
        else:
            damaged.append(one)
            end = one.end
    last = max((last for _, last in runs), default=first - 1)
    return Inspected(first, last, tuple(runs), records, tuple(damaged), torn, end)


def bounded(found: Inspected, following: int | None) -> Inspected:
    """A segment without what its follower, of this first sequence, holds or refused.

    Such records are left of a group whose write failed: it was written again to the follower. Here they can have holes.
    """
    if following is None or found.last < following:
        return found
    runs = tuple((first, min(last, following - 1)) for first, last in found.runs if first < following)
    last = max((last for _, last in runs), default=found.first - 1)
    return replace(found, runs=runs, last=last)


def _is_torn(data: bytes, begin: int, salt: int) -> bool:
    """Whether a record begins here and the file ends within it, or nothing but zeros was written."""
    rest = memoryview(data)[begin:]
    if not any(rest) or len(rest) < FRAME_LENGTH:
        return True
    length = int.from_bytes(rest[len(MARKER) : len(MARKER) + 4], "big")
    is_cut = bytes(rest[: len(MARKER)]) == MARKER and FRAME_LENGTH + length > len(rest)
    return is_cut and not segments.is_whole_but_for_length(data[begin:], salt)


def instance_of(said: str | None, files: Sequence[tuple[int, bytes]]) -> str | None:
    """The instance: `said` by its own file, or by the segments' headers (first sequence, first bytes or all of them).

    Null when nobody says a name. Give the segments whole when their names differ.
    """
    named = Counter(name for _, data in files if (name := segments.instance_in(data)) is not None)
    if said is not None:
        named[said] += 1
    if len(named) <= 1:
        return next(iter(named), None)
    checking = {name: sum(inspect(data, first, name).records for first, data in files) for name in named}
    return max(named, key=lambda name: (checking[name], named[name], name))
