"""What is counted of the events that were folded into the views."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from events.envelope import Type
from events.metrics import Metrics, observe_all
from events.session_values import moment
from projections.call_log import Told

ENDS: Final = frozenset({Type.CALL_ENDED, Type.CALL_END_MISSED})


def count(metrics: Metrics, told: Sequence[Told]) -> None:
    """Count the events of a batch, now that it is committed."""
    for kind, number in Counter(one.event["type"] for one in told).items():
        metrics.counter("events_total", kind).inc(number)
    ends = Counter(one.session["ended_at_source"] or "unknown" for one in told if one.event["type"] in ENDS)
    for source, number in ends.items():
        metrics.counter("ends_total", source).inc(number)
    for one in told:
        if one.event["type"] == Type.CALL_CORRECTED:
            _count_correction(metrics, one)
    # The time of a missed end is its start's receipt, hours before it was told.
    received = (one.time for one in told if one.event["type"] != Type.CALL_END_MISSED)
    now = datetime.now(UTC)
    freshness_s = (max(0.0, (now - at).total_seconds()) for at in received)
    observe_all(metrics.histogram("freshness_seconds"), freshness_s)


def _count_correction(metrics: Metrics, told: Told) -> None:
    metrics.counter("corrections_total", told.event["reason"]).inc()
    if told.session["ended_at"] is not None:
        late_s = (told.time - moment(told.session["ended_at"])).total_seconds()
        metrics.histogram("correction_delay_seconds").observe(max(0.0, late_s))
