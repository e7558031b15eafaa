"""Agent status as a fold of the agent's calls: calls in progress are a set, and an end removes one. Pure.

Whoever has an open call is on a call; whoever has none is available, after an answered call and a wrap-up where that is
set; and while the feed of the PBX is silent nobody knows, so the status is unknown, with the reason and the time up to
which it was known.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from itertools import chain
from typing import Any, Final

from pydantic import BaseModel

from events.session import Direction
from events.times import Utc
from projections.feeds import FeedReason
from projections.figures import Tally, figures_of

Json = dict[str, Any]


class AgentState(StrEnum):
    """What a supervisor wants to know first."""

    ON_CALL = "on_call"
    AVAILABLE = "available"
    WRAP_UP = "wrap_up"
    UNKNOWN = "unknown"


class Figures(BaseModel):
    """The figures of figures.py; null where there is nothing to average or to be a part of."""

    calls: int = 0
    open: int = 0
    answered: int = 0
    missed: int = 0
    not_answered: int = 0
    talk_s: int = 0
    average_handling_s: float | None = None
    inferred_ends: int = 0
    inferred_share: float | None = None


class Today(Figures):
    """The agent's calls that began on the PBX's local day, in all and by direction; talk time only as reported."""

    day: str
    inbound: int = 0
    outbound: int = 0
    internal: int = 0
    directions: dict[str, Figures] = {}


class Agent(BaseModel):
    """An agent as the API shows it; `reason`: why the status is unknown, `wrap_up_until`: when wrap-up is to end."""

    pbx: str
    extension: str
    email: str | None
    status: AgentState
    reason: FeedReason | None = None
    since: Utc | None
    wrap_up_until: Utc | None = None
    calls: list[str]
    last_call: str | None
    today: Today
    as_of: Utc | None


@dataclass(frozen=True, slots=True)
class OpenCall:
    """A call in progress."""

    session_id: str
    began_at: datetime


@dataclass(frozen=True, slots=True)
class Moment:
    """What an agent's status depends on besides its calls.

    `day`: the PBX's local day; `as_of`: up to when its feed is known; `unknown_because`: why it is not known now.
    """

    now: datetime
    day: str
    as_of: datetime | None
    unknown_because: FeedReason | None = None
    wrap_up_s: float = 0.0


@dataclass(slots=True)
class AgentFacts:
    """What the calls of one agent say, however they were gathered.

    `free_since`: the latest end of a call; `answered_until`: the latest reported end of an answered one, if it is near.
    """

    pbx: str
    extension: str
    email: str | None
    last_call: str | None
    free_since: datetime | None
    answered_until: datetime | None = None
    open_calls: list[OpenCall] = field(default_factory=list)
    tallies: list[Tally] = field(default_factory=list)


DIRECTIONS: Final = tuple(one.value for one in Direction)
COUNTED: Final = (Direction.INBOUND.value, Direction.OUTBOUND.value, Direction.INTERNAL.value)
NO_CALLS: Final = figures_of(())
"""Most agents have no call of most directions."""
TODAYS_KEPT: Final = 8_192
"""Of so many agents the day's figures are not worked out again while they stay as they are; some 2 kB each."""


@lru_cache(TODAYS_KEPT)
def today_of(day: str, tallies: tuple[Tally, ...]) -> Json:
    """The day's figures, from the tallies: the values of a `Today`.

    Kept, because from one answer to the next they change for few agents: what is handed out is not to be changed.
    """
    known: dict[str, list[Tally]] = {}
    for tally in tallies:
        known.setdefault(tally.direction, []).append(tally)
    figures = {name: figures_of(some) for name, some in known.items()}
    directions = {name: figures.get(name, NO_CALLS) for name in DIRECTIONS}
    # Most agents have calls of one direction: its figures are the day's.
    whole = next(iter(figures.values())) if len(figures) == 1 else figures_of(chain.from_iterable(known.values()))
    counts = {name: directions[name]["calls"] for name in COUNTED}
    return {**whole, "day": day, **counts, "directions": directions}


def agent_of(facts: AgentFacts, moment: Moment) -> Json:
    """The agent's status at that moment: the values of an `Agent`, times as datetimes."""
    in_progress = sorted(facts.open_calls, key=lambda call: (call.began_at, call.session_id))
    until = _wrap_up_until(facts, moment)
    if moment.unknown_because is not None:
        status, since = AgentState.UNKNOWN, moment.as_of
    elif in_progress:
        status, since = AgentState.ON_CALL, in_progress[0].began_at
    elif until is not None and until > moment.now:
        status, since = AgentState.WRAP_UP, min(facts.answered_until or moment.now, moment.now)
    else:
        status, since = AgentState.AVAILABLE, _later(facts.free_since, until)
    return {
        "pbx": facts.pbx,
        "extension": facts.extension,
        "email": facts.email,
        "status": status,
        "reason": moment.unknown_because,
        "since": since,
        "wrap_up_until": until if status is AgentState.WRAP_UP else None,
        "calls": [call.session_id for call in in_progress],
        "last_call": facts.last_call,
        "today": today_of(moment.day, tuple(facts.tallies)),
        "as_of": moment.as_of,
    }


def _wrap_up_until(facts: AgentFacts, moment: Moment) -> datetime | None:
    if not moment.wrap_up_s or facts.answered_until is None:
        return None
    return facts.answered_until + timedelta(seconds=moment.wrap_up_s)


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    return max((at for at in (one, other) if at is not None), default=None)
