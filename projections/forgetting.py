"""Numbers that were forgotten: recognised by digests, and taken out of whatever is folded. Pure.

Two numbers are the same as everywhere (events/numbers.py): equal digits, or the digits of one, seven or more, are the
end of the other's. So of a number its whole digits are kept, and each end of them, as digests under a salt of the
database. They hide a number from who reads the table, not from who tries all numbers with the salt. What is forgotten
is what was received until then; who calls again later is shown again.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from events import numbers
from events.session_values import Json, moment
from projections.call_log import Told, told_in

PARTIES: Final = ("caller", "caller_e164", "callee", "callee_e164")
RECORDING: Final = "recording_url"


@dataclass(frozen=True, slots=True)
class Entry:
    """A digest of so many `digits`: of a `whole` number, or of the end of one; `forgotten_at`: when."""

    digest: str
    digits: int
    whole: bool
    forgotten_at: datetime


def entries_of(number: str, country: str | None, salt: str, at: datetime) -> list[Entry]:
    """What is kept of a number, in any spelling; none: it has no digits."""
    digits = numbers.party(number, country).digits
    if not digits:
        return []
    ends = range(1, len(digits) - numbers.SUFFIX_DIGITS_MIN + 1)
    whole = Entry(digest_of(digits, salt), len(digits), whole=True, forgotten_at=at)
    return [whole, *(Entry(digest_of(digits[n:], salt), len(digits) - n, whole=False, forgotten_at=at) for n in ends)]


def digest_of(digits: str, salt: str) -> str:
    """The digest of digits."""
    return hashlib.blake2b(digits.encode(), digest_size=16, key=bytes.fromhex(salt), person=b"forgotten").hexdigest()


class Forgotten:
    """All who were forgotten."""

    def __init__(self, salt: str, entries: Iterable[Entry]) -> None:
        """`salt`: hexadecimal, of this database."""
        self.entries: Mapping[str, Entry] = {entry.digest: entry for entry in entries}
        self.salt = salt
        wholes = {entry.digits for entry in self.entries.values() if entry.whole}
        self._lengths = sorted(length for length in wholes if length >= numbers.SUFFIX_DIGITS_MIN)

    def covers(self, number: str | None, received_at: datetime) -> bool:
        """Whether this number, of a call received then, was forgotten."""
        if number is None or not self.entries:
            return False
        digits = numbers.digits_of(number)
        if not digits:
            return False
        exact = self.entries.get(digest_of(digits, self.salt))
        found = [] if exact is None else [exact]
        for length in self._lengths:
            if length < len(digits):
                entry = self.entries.get(digest_of(digits[-length:], self.salt))
                found += [entry] if entry is not None and entry.whole else []
        return any(received_at <= entry.forgotten_at for entry in found)

    def redacted(self, told: Told) -> Told:
        """The event without the number, its E.164 form and its recording; itself when it tells of nobody forgotten."""
        if not self._concerns(told):
            return told
        event, at = orjson.loads(told.value), told.first_received_at
        sides = [event["session"], *self._sides(event.get("changed", {}))]
        for side in sides:
            for name in PARTIES:
                if self.covers(side.get(name), at):
                    side[name] = None
        event["session"][RECORDING] = None
        if RECORDING in event.get("changed", {}):
            event["changed"][RECORDING] = {"before": None, "after": None}
        for name in PARTIES:
            if name in event.get("changed", {}):
                event["changed"][name] = {"before": sides[1].get(name), "after": sides[2].get(name)}
        return told_in(told.partition, orjson.dumps(event), told.feed_at)

    def redacted_call(self, session: Json) -> Json:
        """The call without the number, its E.164 form and its recording; itself when it is of nobody forgotten."""
        at = moment(session["first_received_at"])
        covered = [name for name in PARTIES if self.covers(session[name], at)]
        return {**session, **dict.fromkeys((*covered, RECORDING))} if covered else session

    @staticmethod
    def _sides(changed: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [{name: changed[name][side] for name in PARTIES if name in changed} for side in ("before", "after")]

    def _concerns(self, told: Told) -> bool:
        if not self.entries:
            return False
        at, changed = told.first_received_at, told.event.get("changed", {})
        said = [told.session[name] for name in PARTIES]
        said += [value for name in PARTIES if name in changed for value in changed[name].values()]
        return any(self.covers(one, at) for one in said if one is None or isinstance(one, str))


NOBODY: Final = Forgotten("00", ())
