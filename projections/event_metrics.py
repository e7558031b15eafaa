"""What is counted of the events that were folded into the views."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from events.envelope import Type
from events.metrics import Metrics, observe_all
from events.session_values import moment
from projections.call_log import Told

ENDS: Final = frozenset({Type.CALL_ENDED, Type.CALL_END_MISSED})
_CORRECTED: Final = Type.CALL_CORRECTED
_END_MISSED: Final = Type.CALL_END_MISSED


def count(metrics: Metrics, told: Sequence[Told]) -> None:
    """Count the events of a batch, now that it is committed."""
    now = datetime.now(UTC)
    kinds: dict[str, int] = {}
    ends: dict[str, int] = {}
    freshness_s: list[float] = []
    for one in told:
        kind: str = one.event["type"]
        kinds[kind] = kinds.get(kind, 0) + 1
        if kind in ENDS:
            source: str = one.event["session"]["ended_at_source"] or "unknown"
            ends[source] = ends.get(source, 0) + 1
        elif kind == _CORRECTED:
            _count_correction(metrics, one)
        if kind != _END_MISSED:  # its time is its start's receipt, hours before it was told
            freshness_s.append(max(0.0, (now - moment(one.event["time"])).total_seconds()))
    for kind, number in kinds.items():
        metrics.counter("events_total", kind).inc(number)
    for source, number in ends.items():
        metrics.counter("ends_total", source).inc(number)
    observe_all(metrics.histogram("freshness_seconds"), freshness_s)


def _count_correction(metrics: Metrics, told: Told) -> None:
    metrics.counter("corrections_total", told.event["reason"]).inc()
    if told.session["ended_at"] is not None:
        late_s = (told.time - moment(told.session["ended_at"])).total_seconds()
        metrics.histogram("correction_delay_seconds").observe(max(0.0, late_s))
