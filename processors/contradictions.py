"""What other calls say of a call: superseded, moved, its party left. Pure.

Contradictions within an agent start a grace; those across agents end a leg at once. A start that came late is judged
as if it had come in time: by the first newer call, the first later leg, the first end of its party.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from events.session import EndReason
from events.session_events import Reason, session_id_of
from events.webhook import Party
from processors.calls import Began, Call, Ended, Inferred, Origin, Superseded, began_of, ended_of, received, was_taken
from processors.kept import Calls, names_of_agent
from processors.sessions import Told, event_of

_REASON = {
    EndReason.TIMEOUT: Reason.TIMEOUT,
    EndReason.SUPERSEDED: Reason.SUPERSEDED,
    EndReason.MOVED: Reason.MOVED,
    EndReason.PARTY_LEFT: Reason.PARTY_LEFT,
    EndReason.ABSENT_FROM_PBX: Reason.ABSENT_FROM_PBX,
}


class Input(NamedTuple):
    """Where an event belongs and when: the record's key and PBX, its origin, and live time."""

    key: str
    pbx: str
    origin: Origin
    live_us: int
    shared_extensions: frozenset[str] = frozenset()

    @property
    def session_id(self) -> str:
        """The id of the session that this record opens, if it opens one; kept already: the record itself came again."""
        return session_id_of(self.origin.ce_id)


def keep(calls: Calls, said: tuple[Call, Told]) -> Told:
    """Put the new version into the state; returns the event that tells of it."""
    call, event = said
    calls.put(call)
    return event


def infer(calls: Calls, call: Call, inferred: Inferred, live_us: int, other_leg: Call | None = None) -> Told:
    """`call.end_missed`: the agent is free at once; no duration, only bounds. `other_leg` is what showed it, if any."""
    linked = None if other_leg is None else other_leg.session_id
    after = call._replace(ended=inferred, superseded=None, closed_us=live_us, linked=linked)
    reason = _REASON[inferred.reason]
    return keep(calls, event_of(call, after, reason, began_of(call).origin, inferred.contradiction))


def mark_superseded(calls: Calls, new: Call, given: Input) -> None:
    """From now on the grace runs for each older open call of the agent, and for the new one if a newer is known.

    Never for the empty agent or a shared or queue extension: there several calls at once are the rule.
    """
    agent = names_of_agent(new.extension, new.email)
    if agent == ("",) or new.extension in given.shared_extensions:
        return
    began = began_of(new)
    lacking = calls.lacking_end(given.key, agent)
    for other in lacking:
        if not other.is_open or other.session_id == new.session_id or other.superseded is not None:
            continue
        if began_of(other).moment <= began.moment:
            calls.put(other._replace(superseded=Superseded(given.live_us, began)))
    newer = _newer(calls, new) if new.is_open else None
    if newer is not None:
        calls.put(new._replace(superseded=Superseded(given.live_us, began_of(newer))))


def _newer(calls: Calls, call: Call) -> Call | None:
    """The agent's first call after this one that it may have taken, whether it goes on or not."""
    began = began_of(call)
    agent = names_of_agent(call.extension, call.email)
    later = (one for one in calls.begun_since(call.key, agent, began.moment) if began_of(one).moment > began.moment)
    return min(filter(was_taken, later), key=_when, default=None)


def withdraw_superseded(calls: Calls, missed: Call, given: Input) -> None:
    """A call that was not taken does not show that the agent left another: the grace runs from the next one, if any."""
    if missed.began is None:
        return
    for call in calls.lacking_end(given.key, names_of_agent(missed.extension, missed.email)):
        if not call.is_open or call.superseded is None or call.superseded.began != missed.began:
            continue
        newer = _newer(calls, call)
        mark = None if newer is None else Superseded(newer.opened_us, began_of(newer))
        calls.put(call._replace(superseded=mark))


def _when(call: Call) -> tuple[datetime, datetime, str]:
    """By the start's time; of equal times the first come is older."""
    return began_of(call).moment, *received(call)


def move(calls: Calls, new: Call, given: Input) -> Iterator[Told]:
    """The same external party starts with another agent (a transfer, or ring-all): the earlier leg has moved.

    A start that came late is judged as if it had come in time: by the first later start, else by the end of the party.
    """
    party = new.external
    if party is None:
        return
    began = began_of(new)
    legs = [leg for leg in calls.legs_with(given.key, party) if not _same_agent(leg, new.extension, new.email)]
    for leg in legs:
        if began_of(leg).moment <= began.moment:
            moved = Inferred(EndReason.MOVED, began_of(leg).moment, began.moment, given.origin)
            yield infer(calls, leg, moved, given.live_us, new)
    if not new.is_open:
        return
    later = _leg_that_followed(calls, legs, new, party, began)
    parted = None if later is not None else _leg_that_ended(calls, new, party, began)
    if later is not None:
        moved = Inferred(EndReason.MOVED, began.moment, began_of(later).moment, began_of(later).origin)
        yield infer(calls, new, moved, given.live_us, later)
    elif parted is not None:
        left = ended_of(parted)
        gone = Inferred(EndReason.PARTY_LEFT, began.moment, left.moment, left.origin)
        yield infer(calls, new, gone, given.live_us, parted)


def _leg_that_followed(calls: Calls, open_legs: Sequence[Call], new: Call, party: Party, began: Began) -> Call | None:
    """The leg of that party with another agent that was the first to begin after this start that came late."""
    later = [leg for leg in open_legs if began_of(leg).moment > began.moment]
    for leg in calls.met_since(new.key, party, began.moment):
        if later and began_of(leg).moment > began_of(min(later, key=_when)).moment:
            break
        if began_of(leg).moment > began.moment and not _same_agent(leg, new.extension, new.email):
            later.append(leg)
    return min(later, key=_when, default=None)


def _leg_that_ended(calls: Calls, new: Call, party: Party, began: Began) -> Call | None:
    """The leg of that party with another agent that was the first to end, not before this start that came late."""
    first: Call | None = None
    for leg in calls.parted_since(new.key, party, began.moment):
        if first is not None and ended_of(leg).moment > ended_of(first).moment:
            break
        if not _same_agent(leg, new.extension, new.email) and (first is None or received(leg) < received(first)):
            first = leg
    return first


def party_left(calls: Calls, told: Call, ended: Ended, given: Input) -> Iterator[Told]:
    """An end of that party came with another agent: legs still open that began not after it have ended too."""
    if told.external is None:
        return
    for leg in calls.legs_with(given.key, told.external):
        if not _same_agent(leg, told.extension, told.email) and began_of(leg).moment <= ended.moment:
            gone = Inferred(EndReason.PARTY_LEFT, began_of(leg).moment, ended.moment, given.origin)
            yield infer(calls, leg, gone, given.live_us, told)


def _same_agent(call: Call, extension: str | None, email: str | None) -> bool:
    if call.extension is not None and extension is not None:
        return call.extension == extension
    if call.email is not None and email is not None:
        return call.email.lower() == email.lower()
    return call.extension is extension is None and call.email is email is None
