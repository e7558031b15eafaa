"""Agent status as a fold of the agent's calls: calls in progress are a set, and an end removes one. Pure.

Whoever has an open call is on a call; whoever has none is available; and while the feed of the PBX is silent nobody
knows, so the status is unknown, with the time up to which it was known.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel

from events.session import Direction
from events.times import Utc
from projections.figures import Tally, figures_of, of_direction


class AgentState(StrEnum):
    """What a supervisor wants to know first."""

    ON_CALL = "on_call"
    AVAILABLE = "available"
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
    """An agent as the API shows it."""

    pbx: str
    extension: str
    email: str | None
    status: AgentState
    since: Utc | None
    calls: list[str]
    last_call: str | None
    today: Today
    as_of: Utc | None


@dataclass(frozen=True, slots=True)
class OpenCall:
    """A call in progress."""

    session_id: str
    began_at: datetime


@dataclass(slots=True)
class AgentFacts:
    """What the calls of one agent say, however they were gathered."""

    pbx: str
    extension: str
    email: str | None
    last_call: str | None
    free_since: datetime | None
    open_calls: list[OpenCall] = field(default_factory=list)
    tallies: list[Tally] = field(default_factory=list)


def today_of(day: str, tallies: Iterable[Tally]) -> Today:
    """The day's figures, from the tallies."""
    known = list(tallies)
    directions = {one.value: figures_of(of_direction(known, one)) for one in Direction}
    counts = {name: directions[name]["calls"] for name in ("inbound", "outbound", "internal")}
    return Today.model_validate({"day": day, **figures_of(known), **counts, "directions": directions})


def agent_of(facts: AgentFacts, day: str, as_of: datetime | None, *, silent: bool) -> Agent:
    """The agent's status; `as_of`: up to when the feed of the PBX is known, `silent`: that this is too long ago."""
    in_progress = sorted(facts.open_calls, key=lambda call: (call.began_at, call.session_id))
    if silent:
        status, since = AgentState.UNKNOWN, as_of
    elif in_progress:
        status, since = AgentState.ON_CALL, in_progress[0].began_at
    else:
        status, since = AgentState.AVAILABLE, facts.free_since
    return Agent(
        pbx=facts.pbx,
        extension=facts.extension,
        email=facts.email,
        status=status,
        since=since,
        calls=[call.session_id for call in in_progress],
        last_call=facts.last_call,
        today=today_of(day, facts.tallies),
        as_of=as_of,
    )
