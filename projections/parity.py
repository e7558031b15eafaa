"""Webhooks against polling, call by call: what both saw, what only one saw and why, and one verdict. Pure.

A polled call and a session are the same when the agent's extension is on one of its sides, or the outside number in the
text of one, and their times overlap (with `TOLERANCE`); of several sessions the one whose beginning is nearest. Each
session is matched once, best pairs first.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from statistics import quantiles
from typing import Final

from projections.polled import PolledCall
from projections.queue_doubles import Place, queue_doubles

TOLERANCE: Final = timedelta(seconds=30)
NUMBER_DIGITS_MIN: Final = 7
_PERCENTILES: Final = (50, 95, 99)


class PollingOnly(StrEnum):
    """Why a call that polling saw has no session; only `MISSING` speaks against the webhooks."""

    INTERNAL = "internal"
    QUEUE_DOUBLE = "queue_double"
    AT_THE_EDGE = "at_the_edge"
    MISSING = "missing"


class WebhookOnly(StrEnum):
    """Why a session was not seen by polling."""

    SHORTER_THAN_INTERVAL = "shorter_than_interval"
    NOT_TAKEN = "not_taken"
    AT_THE_EDGE = "at_the_edge"
    UNSEEN = "unseen"


@dataclass(frozen=True, slots=True)
class Session:
    """A session as far as it is compared. `closed_at`: null while it is open; `taken`: it was not missed."""

    session_id: str
    pbx: str
    extension: str | None
    caller_digits: str
    callee_digits: str
    began_at: datetime
    first_received_at: datetime
    closed_at: datetime | None
    taken: bool = True


@dataclass(frozen=True, slots=True)
class Pair:
    """One call, seen by both."""

    polled: PolledCall
    session: Session

    @property
    def start_difference_s(self) -> float:
        """First seen by polling minus the session's beginning."""
        return (self.polled.first_seen_at - self.session.began_at).total_seconds()

    @property
    def end_difference_s(self) -> float | None:
        """First absent for polling minus the session's end; null unless both have ended."""
        if self.polled.first_absent_at is None or self.session.closed_at is None:
            return None
        return (self.polled.first_absent_at - self.session.closed_at).total_seconds()

    @property
    def webhook_delay_s(self) -> float:
        """From the call's beginning to its first webhook."""
        return (self.session.first_received_at - self.session.began_at).total_seconds()


@dataclass(slots=True)
class Parity:
    """The comparison. `least` is the share of polled calls that must have come by webhook."""

    least: float
    both: list[Pair] = field(default_factory=list)
    polling_only: list[tuple[PolledCall, PollingOnly]] = field(default_factory=list)
    webhook_only: list[tuple[Session, WebhookOnly]] = field(default_factory=list)

    @property
    def missing(self) -> int:
        """Calls that polling saw and that should have come by webhook, and did not."""
        return sum(reason is PollingOnly.MISSING for _, reason in self.polling_only)

    @property
    def expected(self) -> int:
        """Polled calls that should have come by webhook."""
        return len(self.both) + self.missing

    @property
    def completeness(self) -> float | None:
        """The share of them that did; null where there were none."""
        return len(self.both) / self.expected if self.expected else None

    @property
    def holds(self) -> bool:
        """Whether the poller can be switched off: enough calls came, and there were any."""
        return self.completeness is not None and self.completeness >= self.least

    @property
    def sentence(self) -> str:
        """The verdict."""
        if self.completeness is None:
            return "no call was polled: nothing can be said"
        seen = f"{len(self.both):,} of {self.expected:,} polled calls came by webhook"
        return f"{seen}; {'safe' if self.holds else 'NOT safe'} to switch off"


def compare(
    polled: Sequence[PolledCall],
    sessions: Sequence[Session],
    begin: datetime,
    end: datetime,
    interval: timedelta,
    least: float,
) -> Parity:
    """Compare what began between `begin` and `end`; what both lists hold around that is matched, and not told."""
    pairs = _pairs(polled, sessions)
    matched_polled = {id(pair.polled) for pair in pairs}
    matched_sessions = {pair.session.session_id for pair in pairs}
    result = Parity(least, [pair for pair in pairs if begin <= pair.session.began_at < end])
    known = _known(polled, sessions, pairs)
    for call in polled:
        if id(call) not in matched_polled and begin <= call.first_seen_at < end:
            result.polling_only.append((call, known.why(call, begin, end)))
    for session in sessions:
        if session.session_id not in matched_sessions and begin <= session.began_at < end:
            result.webhook_only.append((session, _why_webhook(session, begin, end, interval)))
    return result


def distribution(values: Iterable[float]) -> dict[str, float] | None:
    """Least, greatest and percentiles of some seconds; null of none."""
    known = sorted(values)
    if not known:
        return None
    cuts = quantiles(known, n=100, method="inclusive") if len(known) > 1 else [known[0]] * 99
    return {"min": known[0], **{f"p{one}": cuts[one - 1] for one in _PERCENTILES}, "max": known[-1]}


def _pairs(polled: Sequence[PolledCall], sessions: Sequence[Session]) -> list[Pair]:
    """Best pairs first, each call and each session once."""
    candidates: list[tuple[bool, float, int, int]] = []
    by_name: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    for number, session in enumerate(sessions):
        for name in _names(session):
            by_name[session.pbx, name].add(number)
    for place, call in enumerate(polled):
        agents, parties = [f"x{extension}" for extension in call.extensions], _numbers_in(call)
        with_agent = {number for name in agents for number in by_name.get((call.pbx, name), ())}
        with_number = {number for name in parties for number in by_name.get((call.pbx, name), ())}
        for number in with_agent | with_number:
            session = sessions[number]
            if _overlap(call, session):
                apart_s = abs((call.first_seen_at - session.began_at).total_seconds())
                has_both = number in with_agent and number in with_number
                candidates.append((not has_both, apart_s, place, number))
    used_polled: set[int] = set()
    used_sessions: set[int] = set()
    pairs: list[Pair] = []
    for _, _, place, number in sorted(candidates):
        if place not in used_polled and number not in used_sessions:
            used_polled.add(place)
            used_sessions.add(number)
            pairs.append(Pair(polled[place], sessions[number]))
    return sorted(pairs, key=lambda pair: (pair.session.began_at, pair.session.session_id))


def _names(session: Session) -> Iterator[str]:
    """By what a polled call can show a session: its agent, and the end of either number."""
    if session.extension is not None:
        yield f"x{session.extension}"
    for digits in (session.caller_digits, session.callee_digits):
        if len(digits) >= NUMBER_DIGITS_MIN:
            yield digits[-NUMBER_DIGITS_MIN:]


def _numbers_in(call: PolledCall) -> list[str]:
    """The text holds the extension's digits before the number's: so the number's end is looked for."""
    texts = ["".join(one for one in text if one.isdigit()) for text in (call.caller, call.callee)]
    return [text[-NUMBER_DIGITS_MIN:] for text in texts if len(text) >= NUMBER_DIGITS_MIN]


def _overlap(call: PolledCall, session: Session) -> bool:
    begins_in_time = session.began_at <= call.last_seen_at + TOLERANCE
    return begins_in_time and (session.closed_at is None or session.closed_at >= call.first_seen_at - TOLERANCE)


@dataclass(frozen=True, slots=True)
class _Known:
    """What tells why a call has no session: the extensions that have some, and the rows that show a call twice."""

    extensions: Mapping[str, set[str]]
    doubles: set[int]

    def why(self, call: PolledCall, begin: datetime, end: datetime) -> PollingOnly:
        if len(call.extensions) > 1 and call.extensions <= self.extensions.get(call.pbx, set()):
            return PollingOnly.INTERNAL
        if id(call) in self.doubles:
            return PollingOnly.QUEUE_DOUBLE
        if call.before_at is None or call.first_seen_at - begin < TOLERANCE or end - call.first_seen_at < TOLERANCE:
            return PollingOnly.AT_THE_EDGE
        return PollingOnly.MISSING


def _known(polled: Sequence[PolledCall], sessions: Sequence[Session], pairs: Sequence[Pair]) -> _Known:
    extensions: defaultdict[str, set[str]] = defaultdict(set)
    for session in sessions:
        if session.extension is not None:
            extensions[session.pbx].add(session.extension)
    told = {id(pair.polled): pair.polled for pair in pairs}
    alone = (call for call in polled if id(call) not in told)
    return _Known(extensions, queue_doubles(alone, told.values(), _agents(polled, pairs)))


def _agents(polled: Sequence[PolledCall], pairs: Sequence[Pair]) -> set[Place]:
    """The extensions of which most polled calls came as their own. A queue is none: only calls that die in it do."""
    shown = Counter((call.pbx, extension) for call in polled for extension in call.extensions)
    own = Counter((pair.session.pbx, extension) for pair in pairs for extension in _own(pair))
    return {place for place, count in own.items() if 2 * count >= shown[place]}


def _own(pair: Pair) -> frozenset[str]:
    """The session's extension, where the polled call shows it."""
    return pair.polled.extensions & {pair.session.extension}


def _why_webhook(session: Session, begin: datetime, end: datetime, interval: timedelta) -> WebhookOnly:
    if session.closed_at is not None and session.closed_at - session.began_at <= 2 * interval:
        return WebhookOnly.SHORTER_THAN_INTERVAL
    if not session.taken:
        return WebhookOnly.NOT_TAKEN
    if session.began_at - begin < TOLERANCE or end - session.began_at < TOLERANCE:
        return WebhookOnly.AT_THE_EDGE
    return WebhookOnly.UNSEEN
