"""The journal's file format: how records lie in a segment, and how they are found again after any damage. Pure.

A segment is a header (magic, instance) and records one after the other: marker, length, sequence, checksum, payload.
The checksum is salted with the instance and the segment's first sequence, which no sender knows, so that bytes inside
a body can never be taken for a record. A torn tail is where the last good record ends; damage in the middle is skipped
to the next record that checks.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

FILE_KIND: Final = b"3CXJRNL"
FILE_VERSION: Final = 1
"""It grows with each change that the release before cannot read; the instance's file is then written anew, too."""
FILE_MAGIC: Final = FILE_KIND + b"%d" % FILE_VERSION
INSTANCE_LENGTH: Final = 32
HEADER_LENGTH: Final = len(FILE_MAGIC) + INSTANCE_LENGTH
MARKER: Final = b"\xf3\xc3\x9a\x01"
_FRAME: Final = struct.Struct(">4sIQI")
FRAME_LENGTH: Final = _FRAME.size
_NUMBER: Final = struct.Struct(">QI")
PAYLOAD_BYTES_MAX: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Found:
    """A record in a segment: its sequence, its payload, and where it ends (byte offset in the file)."""

    sequence: int
    payload: bytes
    end: int


@dataclass(frozen=True, slots=True)
class Damaged:
    """Bytes between `begin` and `end` that are no record."""

    begin: int
    end: int


def header(instance: str) -> bytes:
    """The first bytes of a segment; `instance` is 32 hex digits."""
    return FILE_MAGIC + instance.encode("ascii")


def newer_version_in(data: bytes) -> int | None:
    """The format that a header tells when it is newer than ours; a damaged header can look like one."""
    told = data[len(FILE_KIND) : len(FILE_MAGIC)]
    version = int(told) if data.startswith(FILE_KIND) and told.isdigit() else FILE_VERSION
    return version if version > FILE_VERSION else None


def instance_in(data: bytes) -> str | None:
    """The instance named by a segment's header; null when the header is damaged."""
    name = data[len(FILE_MAGIC) : HEADER_LENGTH]
    whole = data.startswith(FILE_MAGIC) and len(name) == INSTANCE_LENGTH and name.isalnum()
    return name.decode("ascii", "replace") if whole else None


def salt_of(instance: str, first_sequence: int) -> int:
    """Where the checksums of a segment begin."""
    return zlib.crc32(f"{instance}/{first_sequence}".encode())


def encode(sequence: int, payload: bytes, salt: int) -> bytes:
    """One record."""
    return _FRAME.pack(MARKER, len(payload), sequence, _checksum(sequence, payload, salt)) + payload


def _checksum(sequence: int, payload: bytes, salt: int) -> int:
    return zlib.crc32(payload, zlib.crc32(_NUMBER.pack(sequence, len(payload)), salt))


def scan(data: bytes, salt: int, begin: int = HEADER_LENGTH) -> Iterator[Found | Damaged]:
    """Every record from `begin` on, and every stretch that is none, in order of the file."""
    position = begin
    while position < len(data):
        found = _record_at(data, position, salt)
        if found is None:
            end = _next_record(data, position + 1, salt)
            yield Damaged(position, end)
            position = end
        else:
            yield found
            position = found.end


def _record_at(data: bytes, position: int, salt: int) -> Found | None:
    if len(data) - position < FRAME_LENGTH:
        return None
    marker, length, sequence, checksum = _FRAME.unpack_from(data, position)
    end = position + FRAME_LENGTH + length
    if marker != MARKER or length > PAYLOAD_BYTES_MAX or end > len(data):
        return None
    payload = data[position + FRAME_LENGTH : end]
    return Found(sequence, payload, end) if _checksum(sequence, payload, salt) == checksum else None


def is_whole_but_for_length(data: bytes, salt: int) -> bool:
    """Whether `data` is one record of which only the length was changed."""
    _, _, sequence, checksum = _FRAME.unpack_from(data)
    return bool(_checksum(sequence, data[FRAME_LENGTH:], salt) == checksum)


def _next_record(data: bytes, position: int, salt: int) -> int:
    while (position := data.find(MARKER, position)) >= 0:
        if _record_at(data, position, salt) is not None:
            return position
        position += 1
    return len(data)
