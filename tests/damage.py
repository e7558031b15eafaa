"""``python -m tests.damage``: every flipped bit and every truncation of a segment, and what is found of it.

1. a segment as the journal writes it, its payloads of many lengths, some with a record's marker in them;
2. each bit flipped: it is reported as damage, every record but the one that was hit is kept, none is found that was not
   written; 3. each length that the file can be cut to: the whole records are kept, the rest is a torn tail.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from random import Random

from ingest import recovery, segments
from ingest.segments import Found

INSTANCE = "0123456789abcdef0123456789abcdef"
FIRST = 7


@dataclass(frozen=True)
class Segment:
    """Its bytes, and the records in it."""

    data: bytes
    records: tuple[Found, ...]

    def found_in(self, data: bytes) -> list[Found]:
        return [one for one in segments.scan(data, segments.salt_of(INSTANCE, FIRST)) if isinstance(one, Found)]

    def whole_in(self, length: int) -> list[Found]:
        return [one for one in self.records if one.end <= length]


def segment(records: int, seed: int) -> Segment:
    random = Random(seed)
    salt = segments.salt_of(INSTANCE, FIRST)
    data = segments.header(INSTANCE)
    found = []
    for sequence in range(FIRST, FIRST + records):
        payload = random.randbytes(random.choice((0, 1, 30, 80)))
        if sequence % 7 == 0:  # the sender knows the format, but not the salt
            payload += segments.encode(sequence, payload, 0)
        data += segments.encode(sequence, payload, salt)
        found.append(Found(sequence, payload, len(data)))
    return Segment(data, tuple(found))


def flips(whole: Segment, positions: Iterable[int]) -> Iterator[str | None]:
    """What is wrong after each bit's flip; null when nothing is."""
    for position in positions:
        for bit in range(8):
            data = bytearray(whole.data)
            data[position] ^= 1 << bit
            yield problem_of_flip(whole, bytes(data), position)


def problem_of_flip(whole: Segment, data: bytes, position: int) -> str | None:
    begins = (segments.HEADER_LENGTH, *(one.end for one in whole.records))
    hit = next((one for one, begin in zip(whole.records, begins, strict=False) if begin <= position < one.end), None)
    seen = recovery.inspect(data, FIRST, INSTANCE)
    if not seen.damaged or seen.torn:
        return f"a flip in byte {position} is not reported as damage"
    if whole.found_in(data) != [one for one in whole.records if one is not hit]:
        return f"a flip in byte {position} costs another record, or makes a false one"
    return None


def cuts(whole: Segment, lengths: Iterable[int]) -> Iterator[str | None]:
    """What is wrong after each truncation; null when nothing is."""
    ends = {0, segments.HEADER_LENGTH, *(one.end for one in whole.records)}
    for length in lengths:
        data = whole.data[:length]
        seen = recovery.inspect(data, FIRST, INSTANCE)
        kept = whole.whole_in(length) if length >= segments.HEADER_LENGTH else []
        if (whole.found_in(data), seen.records) != (kept, len(kept)):
            yield f"cut to {length} bytes: not exactly the whole records"
        elif (seen.torn is None) != (length in ends) or seen.damaged:
            yield f"cut to {length} bytes: the torn tail is not reported as one"
        else:
            yield None


def main() -> int:
    """0: all damage is found, and nothing else is lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.damage")
    parser.add_argument("--records", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    whole = segment(given.records, given.seed)
    flipped = list(flips(whole, range(len(whole.data))))
    cut = list(cuts(whole, range(len(whole.data) + 1)))
    problems = [one for one in (*flipped, *cut) if one is not None]
    for one in problems[:20]:
        print("PROBLEM", one)
    print(f"{given.records} records, {len(whole.data)} bytes: {len(flipped)} flips, {len(cut)} truncations")
    print("RED" if problems else "GREEN: all damage found, every undamaged record kept, no false record")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
