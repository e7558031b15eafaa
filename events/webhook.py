"""What a webhook's body says, once read: a start, an end, or a reason why it says neither.

Values, not text: `events.reading` makes them, the processors pair them. See the design, section 4.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from events.session import Direction, Outcome


class Party(NamedTuple):
    """One side of a call.

    `text` is as sent (null when nothing was); `e164` where it could be had; `digits` for comparison: without leading
    zeros where seven or more remain, else whole (an extension's zeros count), empty for a name; `withheld` when the
    number was suppressed or not sent, which proves neither sameness nor difference.
    """

    text: str | None
    e164: str | None
    digits: str
    withheld: bool


class Start(NamedTuple):
    """A call began. `started_at` is what the PBX said, null when it said nothing readable."""

    extension: str | None
    email: str | None
    direction: Direction
    caller: Party
    callee: Party
    call_id: str | None
    started_at: datetime | None


class End(NamedTuple):
    """A call ended. `duration_s`: whole seconds from answer to end, 0 is a value, null when not said.

    `outcome` is `UNKNOWN` unless the direction word says missed or not answered or a duration says answered.
    """

    extension: str | None
    email: str | None
    direction: Direction
    caller: Party
    callee: Party
    call_id: str | None
    started_at: datetime | None
    ended_at: datetime | None
    duration_s: int | None
    outcome: Outcome
    recording_url: str | None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The body holds no webhook at all; `reason` is a sentence without any of the body's content.

    `bug`: what reading it raised, which it never should; null when the body itself is at fault.
    """

    reason: str
    bug: Exception | None = field(default=None, compare=False)


Reading = Start | End | Unreadable
