"""What the journal holds of one webhook, and the Kafka record that it becomes. Pure."""

import functools
import hashlib
from datetime import datetime
from typing import Any, Final, NamedTuple

import orjson

from events import dead_letters, envelope, times
from events.pbx import DEFAULT_PBX

UNDECODABLE: Final = "a record of the journal that cannot be decoded; whole, its time is when it was found"


class Accepted(NamedTuple):
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
    hashed = _hashed(instance).copy()
    hashed.update(b"/%d" % number)
    return hashed.hexdigest()


@functools.lru_cache(16)
def _hashed(instance: str) -> "hashlib.blake2b":
    return hashlib.blake2b(instance.encode(), digest_size=16, person=b"webhook")


def encode(accepted: Accepted) -> bytes:
    """The journal's payload: the length of the JSON part, the JSON part, the body byte for byte."""
    same = _same(accepted.pbx, accepted.key, accepted.content_type, accepted.refused)
    said = same % (accepted.id.encode(), times.to_bytes(accepted.received_at))
    return len(said).to_bytes(4, "big") + said + accepted.body


_SAID: Final = b'{"id":"%%s","pbx":%s,"key":%s,"received_at":"%%s","content_type":%s,"refused":%s}'
_TEXT_OR_NULL: Final = {str, type(None)}
_SAID_KEYS: Final = frozenset(("id", "pbx", "key", "received_at", "content_type", "refused"))


@functools.lru_cache(1_024)
def _same(*texts: str | None) -> bytes:
    """The JSON part but for id and time: the names, keys and content types of one site are few."""
    return _SAID % tuple(orjson.dumps(text).replace(b"%", b"%%") for text in texts)


def decode(payload: bytes) -> Accepted | None:
    """The webhook in a journal's payload; null when it is none: another version's, or not written by `encode`."""
    end = 4 + int.from_bytes(payload[:4], "big")
    try:
        said: dict[str, Any] = orjson.loads(payload[4:end])
        if not said.keys() <= _SAID_KEYS:
            return None
        at = times.from_text(said["received_at"])
        content_type, refused = said["content_type"], said.get("refused")
        one = Accepted(said["id"], said["pbx"], said["key"], at, content_type, payload[end:], refused)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    is_named = type(one.id) is type(one.pbx) is type(one.key) is str
    return one if is_named and {type(content_type), type(refused)} <= _TEXT_OR_NULL else None


def undecodable(payload: bytes, instance: str, sequence: int, found_at: datetime) -> Accepted:
    """What is put into the dead letters for a payload that is no webhook: the payload whole."""
    identity = id_of(f"{instance}/undecodable", sequence)
    return Accepted(identity, DEFAULT_PBX, DEFAULT_PBX, found_at, None, payload, UNDECODABLE)


def headers(accepted: Accepted, instance: str, sequence: int) -> list[tuple[str, bytes]]:
    """The Kafka headers of the record."""
    own = envelope.encode_received(
        accepted.id, accepted.pbx, accepted.received_at, accepted.content_type, instance, sequence
    )
    return own if accepted.refused is None else dead_letters.headers(own, accepted.refused, dead_letters.FROM_INGEST)
