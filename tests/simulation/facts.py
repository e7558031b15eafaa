"""What is true of a feed: the steps that the model takes, as the writer of the bodies meant them."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Number:
    """A party as the body prints it, and its E.164 form where one can be had; null: nothing was printed."""

    text: str | None
    e164: str | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """What a body says, as its writer meant it; `direction` and `outcome` are the words of the contract."""

    is_end: bool
    extension: str | None
    email: str | None
    direction: str
    caller: Number
    callee: Number
    call_id: str | None
    started_at: datetime | None
    ended_at: datetime | None = None
    duration_s: int | None = None
    outcome: str = "unknown"
    recording_url: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """A record of the partition. A tick has no `sequence`; `said` is null for it and for a body that says nothing."""

    offset: int
    ce_id: str
    key: str
    pbx: str
    received_at: datetime
    instance: str
    sequence: int | None
    body: bytes
    said: Said | None
