"""CloudEvents 1.0 attributes as Kafka headers (binary content mode).

Source: CloudEvents Kafka protocol binding 1.0, section 3.2: attribute ``x`` is the header ``ce_x``, and
``datacontenttype`` is the header ``content-type``.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Final, NamedTuple

from events import times
from events.words import Word

Headers = Sequence[tuple[str, bytes]]


class Type(Word):
    """Every ``ce_type`` on our topics."""

    WEBHOOK_RECEIVED = "threecx.webhook.received"
    CLOCK_TICK = "threecx.clock.tick"
    CALL_STARTED = "call.started"
    CALL_ENDED = "call.ended"
    CALL_END_MISSED = "call.end_missed"
    CALL_CORRECTED = "call.corrected"
    FEED_PROGRESS = "threecx.feed.progress"
    CALLS_POLLED = "threecx.calls.polled"
    CALLS_LISTED = "threecx.calls.listed"
    CALLS_RECORDED = "threecx.calls.recorded"


class EnvelopeError(ValueError):
    """A record's headers are not the ones of this contract; the record is bad data and goes to the dead letters."""


_TYPES = {one.value.encode(): one for one in Type}
_TYPE_HEADERS: Final = {one: ("ce_type", one.value.encode()) for one in Type}
_SPECVERSION: Final = ("ce_specversion", b"1.0")
_RECEIVED: Final = _TYPE_HEADERS[Type.WEBHOOK_RECEIVED]
_JSON: Final = ("content-type", b"application/json")
_new: Final = tuple.__new__
"""As `Envelope(...)`, at half the time."""
_PBXS_MAX: Final = 4_096
_CONTENT_TYPES_MAX: Final = 64
_INSTANCES_MAX: Final = 64


class Envelope(NamedTuple):
    """What a record says about itself.

    `time` of a webhook is when ingest received it; of a session event the received time of its last cause.
    `ingest` names the ingest instance; `ingest_sequence` counts what that instance accepted (ticks have none).
    """

    id: str
    pbx: str
    type: Type
    time: datetime
    content_type: str | None = None
    ingest: str | None = None
    ingest_sequence: int | None = None


def encode(envelope: Envelope) -> list[tuple[str, bytes]]:
    """The headers of `envelope`, in a fixed order."""
    headers = [
        _SPECVERSION,
        ("ce_id", envelope.id.encode()),
        _source(envelope.pbx),
        _TYPE_HEADERS[envelope.type],
        ("ce_time", times.to_bytes(envelope.time)),
    ]
    if envelope.content_type is not None:
        headers.append(_content_type(envelope.content_type))
    if envelope.ingest is not None:
        headers.append(_ingest(envelope.ingest))
    if envelope.ingest_sequence is not None:
        headers.append(("ingest_sequence", str(envelope.ingest_sequence).encode()))
    return headers


def encode_received(
    identity: str, pbx: str, time: datetime, content_type: str | None, ingest: str, sequence: int
) -> list[tuple[str, bytes]]:
    """The headers of a webhook that `ingest` accepted as its number `sequence`: as `encode`, at half the time."""
    return [
        _SPECVERSION,
        ("ce_id", identity.encode()),
        _source(pbx),
        _RECEIVED,
        ("ce_time", times.to_bytes(time)),
        *(() if content_type is None else (_content_type(content_type),)),
        _ingest(ingest),
        ("ingest_sequence", b"%d" % sequence),
    ]


def encode_json(identity: str, pbx: str, kind: Type, time: datetime) -> list[tuple[str, bytes]]:
    """The headers of a session event or a feed's progress: as `encode`, for JSON that no ingest instance wrote."""
    return [
        _SPECVERSION,
        ("ce_id", identity.encode()),
        _source(pbx),
        _TYPE_HEADERS[kind],
        ("ce_time", times.to_bytes(time)),
        _JSON,
    ]


def decode(headers: Iterable[tuple[str, bytes | None]]) -> Envelope:
    """The envelope in `headers` (unknown ones are ignored); raises EnvelopeError with what is wrong."""
    found = {name: value for name, value in headers if value is not None}  # one without a value is none
    try:
        sequence = found.get("ingest_sequence")
        ingest = found.get("ingest")
        content_type = found.get("content-type")
        return _new(
            Envelope,
            (
                found["ce_id"].decode(),
                _pbx(found["ce_source"]),
                _TYPES.get(found["ce_type"]) or Type(found["ce_type"].decode()),
                times.from_text(found["ce_time"].decode()),
                None if content_type is None else content_type.decode("utf-8", "surrogateescape"),
                None if ingest is None else ingest.decode(),
                None if sequence is None else int(sequence),
            ),
        )
    except KeyError as missing:
        message = f"header {missing} is missing"
        raise EnvelopeError(message) from None
    except (ValueError, OverflowError) as error:
        message = f"unreadable header: {error}"
        raise EnvelopeError(message) from None


def source_of(pbx: str) -> str:
    """``/pbx/{pbx}``, the ``ce_source`` of everything about that PBX."""
    return f"/pbx/{pbx}"


@lru_cache(_PBXS_MAX)
def _source(pbx: str) -> tuple[str, bytes]:
    return "ce_source", source_of(pbx).encode()


@lru_cache(_CONTENT_TYPES_MAX)
def _content_type(content_type: str) -> tuple[str, bytes]:
    # surrogateescape: a sender's content type is arbitrary bytes and is passed on as it came.
    return "content-type", content_type.encode("utf-8", "surrogateescape")


@lru_cache(_INSTANCES_MAX)
def _ingest(instance: str) -> tuple[str, bytes]:
    return "ingest", instance.encode()


@lru_cache(_PBXS_MAX)
def _pbx(source: bytes) -> str:
    return pbx_of(source.decode())


def pbx_of(source: str) -> str:
    """The PBX named by a ``ce_source``; raises ValueError for another source."""
    pbx = source.removeprefix("/pbx/")
    if not pbx or pbx is source:
        message = f"ce_source {source!r} is not /pbx/NAME"
        raise ValueError(message)
    return pbx
