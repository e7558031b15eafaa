"""Dead letters: the record whole, as it was, with its origin and the reason in headers beside its own."""

from collections.abc import Iterable

FROM_INGEST = "ingest"
"""Origin of what the door refused after authentication."""


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
