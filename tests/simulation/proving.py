"""Which start and end are one call, in the model: the design's "Matching an end to a start", one by one."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from tests.simulation.calls import End, Leg, Start
from tests.simulation.comparing import Proof, compare_sides, tells_nobody

ZERO = timedelta(0)


class Spans(Protocol):
    """The settings of the rules, in seconds."""

    @property
    def call_duration_max_s(self) -> int: ...
    @property
    def superseded_grace_s(self) -> int: ...
    @property
    def ring_max_s(self) -> int: ...
    @property
    def tolerance_s(self) -> int: ...
    @property
    def closed_kept_s(self) -> int: ...
    @property
    def repeat_window_s(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Pair:
    """A kept call with the start and the end that would become one."""

    leg: Leg
    start: Start
    end: End
    reason: str = ""


def best(pairs: Sequence[Pair], event: Leg, spans: Spans, *, taken: bool) -> Pair | None:
    """The pair that the evidence favours: by call id, else by party, else the only one where nothing tells."""
    possible = [pair for pair in pairs if compare_sides(pair.leg.sides, event.sides) is not Proof.DIFFERENT]
    same_id = [
        p for p in possible if _both_have_ids(p.leg, event) and p.leg.call_id == event.call_id and _by_id(p, spans)
    ]
    if same_id:
        return _nearest(same_id, "end_matched_by_call_id")
    near = [pair for pair in possible if not _both_have_ids(pair.leg, event) and _in_window(pair, spans)]
    proven = [pair for pair in near if compare_sides(pair.leg.sides, event.sides) is Proof.SAME]
    if proven:
        return _nearest(proven, "end_matched_by_party")
    # Nothing tells. A call that was not taken needs both sides withheld, for the agent may be on another.
    unproven = [p for p in near if taken or (tells_nobody(p.leg.sides) and tells_nobody(event.sides))]
    only = [pair for pair in unproven if pair.leg.is_open] or unproven
    return _nearest(only, "end_matched_withheld") if len(only) == 1 else None


def _both_have_ids(leg: Leg, event: Leg) -> bool:
    return leg.call_id is not None and event.call_id is not None


def _is_backwards(pair: Pair) -> bool:
    """One clock reported the start later than the end."""
    start_at, end_at = pair.start.started_at, pair.end.ended_at
    return start_at is not None and end_at is not None and start_at > end_at


def _by_id(pair: Pair, spans: Spans) -> bool:
    late = pair.start.moment - pair.end.moment
    return not _is_backwards(pair) and late <= timedelta(seconds=spans.tolerance_s)


def _in_window(pair: Pair, spans: Spans) -> bool:
    if _is_backwards(pair):
        return False
    tolerance = timedelta(seconds=spans.tolerance_s)
    if pair.end.duration_s is None or pair.end.outcome in ("missed", "not_answered"):  # no talk is known of
        heard_in_order = pair.start.origin.received_at <= pair.end.origin.received_at
        if pair.start.moment > pair.end.moment + (tolerance if heard_in_order else ZERO):
            return False
    if pair.end.duration_s is None:
        return True
    answered = _answered(pair.end)
    return answered - timedelta(seconds=spans.ring_max_s) <= pair.start.moment <= answered + tolerance


def _answered(end: End) -> datetime:
    return end.moment - timedelta(seconds=end.duration_s or 0)


def _nearest(pairs: Sequence[Pair], reason: str) -> Pair:
    """The nearest to `end - duration`, ties to the earlier; without a duration the latest start before the end."""

    def order(pair: Pair) -> tuple[bool, timedelta, timedelta, datetime, str]:
        off = pair.start.moment - _answered(pair.end)
        is_after = pair.end.duration_s is None and off > ZERO
        return is_after, abs(off), off, pair.leg.first_received_at, pair.leg.session_id

    found = min(pairs, key=order)
    return Pair(found.leg, found.start, found.end, reason)


# Repeats


def is_same_start(leg: Leg, event: Leg, start: Start, spans: Spans) -> bool:
    """The same party, call id and reported time; without a time the same body within the window."""
    if leg.start is None:
        return False
    if leg.start.origin.body == start.origin.body and leg.start.started_at == start.started_at:
        # Whatever else the call has learnt: it is the very same start.
        return start.started_at is not None or _close(leg.start, start, spans)
    if start.started_at is None or leg.call_id != event.call_id or not _are_compatible(leg, event):
        return False
    return leg.start.started_at == start.started_at


def is_same_end(leg: Leg, event: Leg, end: End, spans: Spans) -> bool:
    """The same party, call id and reported times, what one of them lacks aside; without times as for a start."""
    kept = leg.end
    if kept is None:
        return False
    if kept.origin.body == end.origin.body and kept.ended_at == end.ended_at:
        return kept.ended_at is not None or _close(kept, end, spans)
    if not _are_compatible(leg, event):
        return False
    if not (_agree(kept.started_at, end.started_at) and _agree(kept.duration_s, end.duration_s)):
        return False
    if kept.ended_at is None or end.ended_at is None:
        return leg.call_id is not None and leg.call_id == event.call_id
    return kept.ended_at == end.ended_at


def is_late_recording(leg: Leg, event: Leg, end: End, spans: Spans) -> bool:
    """A recording without any time, of a call of that party which ended within the window before."""
    kept = leg.end
    if kept is None or end.recording_url is None or end.ended_at is not None or end.duration_s is not None:
        return False
    since = end.origin.received_at - kept.origin.received_at
    return (
        _agree(kept.recording_url, end.recording_url)
        and _agree(leg.call_id, event.call_id)
        and compare_sides(leg.sides, event.sides) is Proof.SAME
        and ZERO <= since <= timedelta(seconds=spans.ring_max_s)
    )


def is_overtaken_end(leg: Leg, event: Leg, end: End, spans: Spans) -> bool:
    """The end proper of a call of which a recording came just before, without any time, and stood for its end."""
    kept = leg.end
    if kept is None or kept.recording_url is None or kept.ended_at is not None or kept.duration_s is not None:
        return False
    if (end.ended_at is None and end.duration_s is None) or end.outcome in ("missed", "not_answered"):
        return False
    if leg.start is not None and not _in_window(Pair(leg, leg.start, end), spans):
        return False
    return (
        _close(kept, end, spans)
        and kept.origin.received_at <= end.origin.received_at
        and end.recording_url in (None, kept.recording_url)
        and _agree(leg.call_id, event.call_id)
        and compare_sides(leg.sides, event.sides) is Proof.SAME
    )


def _are_compatible(leg: Leg, event: Leg) -> bool:
    found = compare_sides(leg.sides, event.sides)
    texts = _agree(leg.caller.text, event.caller.text) and _agree(leg.callee.text, event.callee.text)
    return _agree(leg.call_id, event.call_id) and (found is Proof.SAME or (found is Proof.NOTHING and texts))


def _agree(one: object, other: object) -> bool:
    return one is None or other is None or one == other


def _close(kept: Start | End, again: Start | End, spans: Spans) -> bool:
    return abs(again.origin.received_at - kept.origin.received_at) <= timedelta(seconds=spans.repeat_window_s)
