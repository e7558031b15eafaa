"""Agent status as a fold of the agent's calls: calls in progress are a set, and an end removes one. Pure.

Whoever has an open call is on a call; whoever has none is available; and while the feed of the PBX is silent nobody
knows, so the status is unknown, with the time up to which it was known.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel

from events.session import Direction, Outcome
from events.times import Utc


class AgentState(StrEnum):
    """What a supervisor wants to know first."""

    ON_CALL = "on_call"
    AVAILABLE = "available"
    UNKNOWN = "unknown"


class Today(BaseModel):
    """The agent's calls that began on the PBX's local day; talk time only as reported."""

    day: str
    calls: int = 0
    inbound: int = 0
    outbound: int = 0
    internal: int = 0
    answered: int = 0
    missed: int = 0
    not_answered: int = 0
    inferred_ends: int = 0
    talk_s: int = 0


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


@dataclass(frozen=True, slots=True)
class Tally:
    """So many of the day's calls of one direction, outcome and status, and what they add up to."""

    direction: str
    outcome: str
    status: str
    calls: int
    talk_s: int


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
    today = Today(day=day)
    for tally in tallies:
        today.calls += tally.calls
        today.talk_s += tally.talk_s
        today.inferred_ends += tally.calls if tally.status == "end_missed" else 0
        today.inbound += tally.calls if tally.direction == Direction.INBOUND else 0
        today.outbound += tally.calls if tally.direction == Direction.OUTBOUND else 0
        today.internal += tally.calls if tally.direction == Direction.INTERNAL else 0
        today.answered += tally.calls if tally.outcome == Outcome.ANSWERED else 0
        today.missed += tally.calls if tally.outcome == Outcome.MISSED else 0
        today.not_answered += tally.calls if tally.outcome == Outcome.NOT_ANSWERED else 0
    return today


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
