"""Dead letters: the record as it was, with its origin and the reason in headers beside its own.

It is whole, up to `VALUE_BYTES_MAX`.
"""

import hashlib
from collections.abc import Iterable
from typing import Final

from events import envelope

PREFIX: Final = "dead_letter_"
"""Of the names of our headers."""
FROM_INGEST: Final = "ingest"
"""Origin of what the door refused after authentication."""
VALUE_BYTES_MAX: Final = 1_000_000
"""So much of a record is kept: beside its own headers and ours it fits into what a broker takes unless told otherwise
(1,048,588 bytes), as it did. The rest is where the record came from, while that is kept."""


def headers(
    own: Iterable[tuple[str, bytes]], reason: str, origin: str, partition: int | None = None, offset: int | None = None
) -> list[tuple[str, bytes]]:
    """The record's `own` headers and ours. `origin` is a topic's name, or `FROM_INGEST` (no partition, no offset).

    `reason` is a sentence without content of the record.
    """
    result = [*own, ("dead_letter_reason", reason.encode()), ("dead_letter_origin", origin.encode())]
    if partition is not None:
        result.append(("dead_letter_partition", str(partition).encode()))
    if offset is not None:
        result.append(("dead_letter_offset", str(offset).encode()))
    return result


def offset_of(headers_: Iterable[tuple[str, bytes]], origin: str) -> int | None:
    """The offset of the record that became a dead letter; null when it is not from the topic `origin`."""
    ours = {name: value for name, value in headers_ if name.startswith(PREFIX)}
    if ours.get("dead_letter_origin") != origin.encode():
        return None
    return int(ours["dead_letter_offset"])


def again(headers_: Iterable[tuple[str, bytes]], old: bytes, body: bytes) -> list[tuple[str, bytes]]:
    """The headers with which a dead letter goes to the webhooks once more; raises EnvelopeError for no webhook's.

    What made it a dead letter is gone, and so is the ingest instance with its sequence: they belong to the first
    time, and the record would be taken for a repeat. `old` is its body as it was, `body` as it is now: a changed one is
    another event with an id of its own, which follows from both, so that sending it twice is one event.
    """
    own = [(name, value) for name, value in headers_ if not name.startswith(PREFIX) and name not in _OF_THE_FIRST_TIME]
    said = envelope.decode(own)
    if said.type is not envelope.Type.WEBHOOK_RECEIVED:
        message = f"{said.type} is no webhook"
        raise envelope.EnvelopeError(message)
    if body == old:
        return own
    digest = hashlib.blake2b(said.id.encode() + b"/" + body, digest_size=16, person=b"fixed-letter").hexdigest()
    return envelope.encode(said._replace(id=digest))


_OF_THE_FIRST_TIME: Final = frozenset(("ingest", "ingest_sequence"))
