"""What the journal holds of one webhook, and the Kafka record that it becomes. Pure."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from events import dead_letters, envelope, times
from events.envelope import Envelope, Type


@dataclass(frozen=True, slots=True)
class Accepted:
    """A webhook after authentication. `refused`: why its body cannot be used; it then goes to the dead letters.

    `id` becomes the ``ce_id``; `key` the record's key; `content_type` is as sent.
    """

    id: str
    pbx: str
    key: str
    received_at: datetime
    content_type: str | None
    body: bytes
    refused: str | None = None


def id_of(instance: str, number: int) -> str:
    """An id that nobody has used: from the instance's secret name and a number that it never uses twice."""
    return hashlib.blake2b(f"{instance}/{number}".encode(), digest_size=16, person=b"webhook").hexdigest()


def encode(accepted: Accepted) -> bytes:
    """The journal's payload: the length of the JSON part, the JSON part, the body byte for byte."""
    said = orjson.dumps(
        {
            "id": accepted.id,
            "pbx": accepted.pbx,
            "key": accepted.key,
            "received_at": times.to_text(accepted.received_at),
            "content_type": accepted.content_type,
            "refused": accepted.refused,
        }
    )
    return len(said).to_bytes(4, "big") + said + accepted.body


def decode(payload: bytes) -> Accepted:
    """The webhook in a journal's payload."""
    end = 4 + int.from_bytes(payload[:4], "big")
    said: dict[str, Any] = orjson.loads(payload[4:end])
    said["received_at"] = times.from_text(said["received_at"])
    return Accepted(**said, body=payload[end:])


def headers(accepted: Accepted, instance: str, sequence: int) -> list[tuple[str, bytes]]:
    """The Kafka headers of the record."""
    own = envelope.encode(
        Envelope(
            accepted.id,
            accepted.pbx,
            Type.WEBHOOK_RECEIVED,
            accepted.received_at,
            accepted.content_type,
            instance,
            sequence,
        )
    )
    return own if accepted.refused is None else dead_letters.headers(own, accepted.refused, dead_letters.FROM_INGEST)
