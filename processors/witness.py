"""The witness: what a PBX's list of its active calls says of the calls that are open. Pure.

A list comes as a record of ``threecx.webhooks``, in the partition of its PBX, as a tick does: there is one log and one
order, so a replay meets each list between the same two webhooks. A list moves no live time and ends no call by itself:
it moves deadlines, and `pairing.on_deadline` decides. A PBX that is away or fails gives no list, and changes nothing.

For each list: 1. a call that is listed under the id by which it is known claims that entry; 2. an open call that was
never listed claims an entry that shows its agent and its party and was no other call's, the latest begun first (of
two alike the earlier one has ended, if any); one whose number is withheld an entry of its agent without a number, if
there is but one such call and one such entry; 3. if there is none, it shares the entry of an earlier call alike: a
redial that was listed before its webhook came, or has the id of the call before a restart of the PBX. Which of the
two goes on cannot be told, so both are listed, and of the earlier one it is not known how long it was; 4. a call
whose id is gone is still listed while an entry that nobody claimed may be it (from a queue to its agent: another id;
a transfer: another agent), but when it was last surely seen stands still; 5. else it is absent: the second of two
lists in a row without it makes it suspect; 6. the grace beside a newer call begins anew for a call that was never
listed while an entry that nobody claimed may be it.

What was never listed is never absent: of a PBX that names its agents otherwise the witness knows, and says, nothing.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from events import times
from events.active_calls import ActiveCall, Listing, extensions_in
from events.numbers import SUFFIX_DIGITS_MIN, same_number
from events.session import EndReason
from events.webhook import Party
from processors.calls import (
    Call,
    Ended,
    Inferred,
    Listed,
    Origin,
    Superseded,
    began_of,
    external_of,
    number_name,
    received,
)
from processors.changelog import LastList
from processors.kept import Calls, names_of_agent

OUT_OF_ORDER_US_MAX: Final = 3_600_000_000
"""Of a list that was asked for before the last one: by so much at most it is late; by more, a clock was set."""

LISTED_LONG: Final = timedelta(hours=4)
"""Calls that began earlier than this before another are not looked at for the ids that were theirs."""

LIST_LAG: Final = timedelta(seconds=10)
"""So long after its end a call may be in a list: a PBX may take it out of the list after it has sent the webhook."""


def is_late(asked_us: int, last: LastList | None) -> bool:
    """Whether it is the last list again, or an older one of a poller that was frozen: no evidence."""
    return last is not None and 0 <= last.asked_us - asked_us <= OUT_OF_ORDER_US_MAX


def on_listing(calls: Calls, pbx: str, listing: Listing, origin: Origin, now: LastList, last: LastList) -> None:
    """Take note of a list of `pbx`; `now` is this one, `last` the one before it (itself when it is the first)."""
    entries = _Entries(listing.calls)
    opened = calls.open_of(pbx)
    missing: list[tuple[Call, Listed]] = []
    for call in opened:
        known = call.listed
        if known is not None and not entries.claim_own(call, known):
            missing.append((call, known))
        elif known is not None and (back := _back(call, known, now)) != known:
            calls.put(call._replace(listed=back))
    _look_for_new(calls, entries, [one for one in opened if one.listed is None], now)
    for call, known in missing:
        seen = known if known.seen_at is not None else known._replace(seen_at=times.from_us(last.asked_us))
        after = _perhaps(seen, now) if entries.has_perhaps(call) else _absent(seen, origin, now, last)
        if after != known:
            calls.put(call._replace(listed=after))


def _look_for_new(calls: Calls, entries: "_Entries", opened: Iterable[Call], now: LastList) -> None:
    """Rules 2, 3 and 6 for calls that were never listed."""
    new = sorted(opened, key=_begun, reverse=True)
    nameless = Counter(one.extension for one in new if not any(_parties(one)))
    unknown: list[tuple[Call, Superseded]] = []
    for call in new:
        identity = entries.claim(call, _listed_before(calls, call, now), is_only=nameless[call.extension] == 1)
        if identity is None and began_of(call).origin.received_at <= times.from_us(now.asked_us):
            identity = _share(calls, entries, call)
        if identity is not None:
            calls.put(call._replace(listed=Listed(identity, now.live_us)))
        elif call.superseded is not None:
            unknown.append((call, call.superseded))
    for call, superseded in unknown:
        if entries.has_perhaps(call):
            calls.put(call._replace(superseded=superseded._replace(since_us=now.live_us)))


def _share(calls: Calls, entries: "_Entries", call: Call) -> str | None:
    """Rule 3; gives the entry's id."""
    earlier = entries.owner_before(call)
    if earlier is None or (known := calls[earlier.session_id].listed) is None:
        return None
    calls.put(earlier._replace(listed=known._replace(seen_at=began_of(earlier).moment)))
    return known.id


def _back(call: Call, known: Listed, now: LastList) -> Listed:
    """It is listed: surely seen, unless it shares its id with a later call."""
    if known.seen_at is None:
        return known
    is_shared = known.seen_at <= began_of(call).moment
    if is_shared and known.absent is None:
        return known
    return Listed(known.id, now.live_us, known.seen_at if is_shared else None)


def _perhaps(known: Listed, now: LastList) -> Listed:
    """It may be listed under another id: not absent, nor surely seen."""
    return known if known.absent is None else Listed(known.id, now.live_us, known.seen_at)


def _absent(known: Listed, origin: Origin, now: LastList, last: LastList) -> Listed:
    if known.absent is None:
        return Listed(known.id, last.live_us, known.seen_at, origin)
    return known if known.suspect_us is not None else known._replace(suspect_us=now.live_us)


def _listed_before(calls: Calls, call: Call, now: LastList) -> list[Call]:
    """Its agent's calls that were listed, and may be in this list still: one that has just ended is in a slow one."""
    agent = names_of_agent(call.extension, call.email)
    others = calls.begun_since(call.key, agent, began_of(call).moment - LISTED_LONG)
    asked_at = times.from_us(now.asked_us)
    return [one for one in others if one.listed is not None and not _was_over(one, asked_at)]


def _was_over(call: Call, moment: datetime) -> bool:
    """Whether it was known by then to have ended: what is listed under its id is a later call, ids restart."""
    if isinstance(call.ended, Ended):
        return call.ended.origin.received_at + LIST_LAG < moment
    return isinstance(call.ended, Inferred) and call.ended.reason is EndReason.ABSENT_FROM_PBX


def _begun(call: Call) -> tuple[datetime, datetime, str]:
    return began_of(call).moment, *received(call)


@dataclass(frozen=True, slots=True)
class _Entry:
    id: str
    extensions: frozenset[str]
    numbers: tuple[Party, ...]

    def has_party(self, call: Call) -> bool:
        return any(same_number(mine, theirs) for mine in self.numbers for theirs in _parties(call))

    def is_of(self, call: Call) -> bool:
        """Its agent, and its party: the same number, or none in either."""
        return call.extension in self.extensions and (self.has_party(call) or not (self.numbers or any(_parties(call))))

    def was_of(self, call: Call) -> bool:
        """Whether that call was listed by it."""
        return call.listed is not None and call.listed.id == self.id and self.is_of(call)

    def may_be(self, call: Call) -> bool:
        """Its party, whoever speaks to it; or its agent, and no other party than its own."""
        if self.has_party(call):
            return True
        return call.extension in self.extensions and not (self.numbers and any(_parties(call)))


class _Entries:
    """The calls in a list, found by id, extension and number, and which call claimed each (of several the latest)."""

    def __init__(self, listed: Iterable[ActiveCall]) -> None:
        self._by_id: dict[str, _Entry] = {}
        self._owners: dict[str, Call] = {}
        self._by_name: defaultdict[str, list[_Entry]] = defaultdict(list)
        for one in listed:
            numbers = tuple(party for text in (one.caller, one.callee) if (party := _number(text)) is not None)
            entry = self._by_id[one.id] = _Entry(one.id, extensions_in(one.caller, one.callee), numbers)
            for name in {*(f"x{extension}" for extension in entry.extensions), *map(number_name, numbers)}:
                self._by_name[name].append(entry)

    def claim_own(self, call: Call, known: Listed) -> bool:
        """Claim the entry under the call's own id, unless that is another call's now: ids restart with the PBX."""
        entry = self._by_id.get(known.id)
        if entry is None or not entry.is_of(call):
            return False
        owner = self._owners.get(entry.id)
        if owner is None or _begun(owner) < _begun(call):
            self._owners[entry.id] = call
        return True

    def claim(self, call: Call, others: Collection[Call], *, is_only: bool) -> str | None:
        """Claim an entry for a call that was never listed; gives its id.

        `others`: that have had an entry. `is_only`: of its agent's calls without a number.
        """
        found = [one for one in self._left(call) if one.is_of(call) and not any(map(one.was_of, others))]
        if not found or not (found[0].has_party(call) or (is_only and len(found) == 1)):
            return None
        self._owners[found[0].id] = call
        return found[0].id

    def owner_before(self, call: Call) -> Call | None:
        """Of the calls that claimed an entry which shows this one's agent and party: one that began before."""
        shown = (one for one in self._named(call) if one.is_of(call) and one.has_party(call))
        owners = (self._owners[one.id] for one in shown if one.id in self._owners)
        return next((one for one in owners if _begun(one) < _begun(call)), None)

    def has_perhaps(self, call: Call) -> bool:
        """Whether an entry that nobody claimed may be the call."""
        return any(one.may_be(call) for one in self._left(call))

    def _left(self, call: Call) -> Iterator[_Entry]:
        return (one for one in self._named(call) if one.id not in self._owners)

    def _named(self, call: Call) -> Iterator[_Entry]:
        for name in (f"x{call.extension}", *map(number_name, _parties(call))):
            yield from self._by_name.get(name, ())


def _parties(call: Call) -> Iterator[Party]:
    """The call's outside numbers: of the external party, or of both sides where that is not known."""
    external = external_of(call.direction, call.caller, call.callee)
    for party in (call.caller, call.callee) if external is None else (external,):
        if len(party.digits) >= SUFFIX_DIGITS_MIN:
            yield party


def _number(text: str) -> Party | None:
    """The outside number in ``"<dn> <name or number>"``: what digits there are after the first word, seven or more."""
    words = text.split(maxsplit=1)
    digits = "".join(one for one in words[-1] if one in "0123456789").lstrip("0") if words else ""
    return Party(text, None, digits, withheld=False) if len(digits) >= SUFFIX_DIGITS_MIN else None
