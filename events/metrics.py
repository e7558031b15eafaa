"""The metric catalogue: every metric declared once, with its meaning and what bounds its labels: no number, no id.

A service builds its part with `Metrics(service)`, in a registry of its own: no global state, nothing at import. Where
a label's values are known beforehand they are there from the start, at 0: a counter's first step is then seen as one.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import groupby, product
from typing import Final, Literal, assert_never

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from events.session import EndedAtSource
from events.session_events import Reason

Kind = Literal["counter", "gauge", "histogram"]
Service = Literal["ingest", "processors", "projections", "poller"]

ANSWER_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0)
FRESHNESS_S: Final = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 300.0, 3600.0)
DELAY_S: Final = (1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0)
STEP_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Label:
    """A label and what bounds it: the `values` themselves, or in words what there can be no more of."""

    name: str
    bound: str = ""
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its name without the prefix ``threecx_{service}_``, meaning, labels and buckets (seconds)."""

    kind: Kind
    name: str
    meaning: str
    labels: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()


def one_of(name: str, values: Iterable[str]) -> Label:
    """A label whose values are known beforehand."""
    return Label(name, "", tuple(values))


PARTITION: Final = Label("partition", "`KAFKA_TOPIC_PARTITIONS`")
PBX: Final = Label("pbx", "the PBXs of the settings")
FIGURE: Final = Label("figure", "the figures of `projections/figures.py`")
ROUTE: Final = Label("route", "the service's routes, and `none`")
STATUS: Final = Label("status", "the HTTP statuses that are answered")
ERROR: Final = Label("reason", "classes of errors")
TOPIC: Final = Label("topic", "the webhooks' topic and the dead letters'")
AGENT_STATUS: Final = Label("status", "the statuses of an agent")
OUTCOME: Final = Label("outcome", "the outcomes of a poll")
REASON: Final = one_of("reason", Reason)
CALL_EVENT: Final = one_of("type", ("call.started", "call.ended", "call.end_missed", "call.corrected"))
SILENCES: Final = Metric(
    "counter",
    "kafka_silences_total",
    "Times that a broker said nothing for KAFKA_SILENCE_S, connecting or owing a prompt answer, and was connected to"
    " anew.",
)

INGEST: Final = (
    Metric(
        "counter",
        "requests_total",
        "Answers of the door, by route and status; those of the alerts begin at 0.",
        (ROUTE, STATUS),
    ),
    Metric("histogram", "answer_seconds", "Time from the request's headers to the answer.", (ROUTE,), ANSWER_S),
    Metric("gauge", "connections", "Connections that are open; INGEST_CONNECTIONS_MAX is their limit."),
    Metric("counter", "accepted_total", "Webhooks that were made durable and answered 202.", (PBX,)),
    Metric("gauge", "journal_records", "Records in the journal that Kafka has not acknowledged."),
    Metric("gauge", "journal_bytes", "Bytes of the journal on disk."),
    Metric("gauge", "journal_bytes_limit", "INGEST_JOURNAL_BYTES_MAX: at it, webhooks get 503."),
    Metric("gauge", "journal_oldest_seconds", "Age of the oldest record that Kafka has not acknowledged."),
    Metric("gauge", "journal_age_limit_seconds", "INGEST_JOURNAL_AGE_MAX_S: beyond it health says is_behind."),
    Metric("gauge", "journal_damaged_bytes", "Bytes of the journal that were found to be damaged since the start."),
    Metric(
        "gauge", "journal_set_aside_files", "Files with damage, kept for a person after Kafka had the rest of them."
    ),
    Metric("gauge", "journal_set_aside_bytes", "Bytes of those files; they count towards the limit."),
    Metric("histogram", "journal_sync_seconds", "Time of one group commit (write and fsync).", (), STEP_S),
    Metric(
        "counter",
        "journal_sync_failures_total",
        "Times that the journal's disk failed: a write (done once more; after a second failure: 503) or a deletion.",
    ),
    Metric("counter", "forwarded_total", "Records that Kafka acknowledged.", (TOPIC,)),
    Metric(
        "counter",
        "dead_letters_total",
        "Records that Kafka acknowledged in the dead letters, by reason.",
        (one_of("reason", ("body", "size", "undecodable")),),
    ),
    Metric("counter", "forward_failures_total", "Times that forwarding had to start again.", (ERROR,)),
    Metric("gauge", "kafka_reachable", "1 while the last exchange with Kafka succeeded."),
    Metric("counter", "ticks_total", "Clock ticks that Kafka acknowledged."),
    Metric("gauge", "last_tick_timestamp_seconds", "When the newest acknowledged tick was made."),
    SILENCES,
)
PROCESSORS: Final = (
    Metric("gauge", "partitions_assigned", "Partitions that this process owns now."),
    Metric(
        "counter",
        "records_total",
        "Records of threecx.webhooks consumed, by kind.",
        (one_of("kind", ("start", "end", "tick", "listing", "history", "unreadable")),),
    ),
    Metric("counter", "session_events_total", "Session events written, by type.", (CALL_EVENT,)),
    Metric("counter", "decisions_total", "Session events written, by the rule that decided.", (REASON,)),
    Metric(
        "counter",
        "repeats_total",
        "Records that were recognised as repeats and led to nothing: forwarded twice, or the same start or end again.",
        (one_of("kind", ("sequence", "start", "end", "listing")),),
    ),
    Metric(
        "counter",
        "dead_letters_total",
        "Records sent to the dead letters, by reason.",
        (one_of("reason", ("envelope", "body", "type", "bug")),),
    ),
    Metric(
        "counter",
        "clock_alarms_total",
        "Steps of an ingest clock that counted no live time.",
        (one_of("kind", ("new_instance", "gap", "step_back")),),
    ),
    Metric("gauge", "clock_skew_seconds", "Reported times minus their receipt, median; hours: wrong zone.", (PBX,)),
    Metric("gauge", "open_calls", "Calls open in the state.", (PARTITION,)),
    Metric("gauge", "kept_calls", "Calls kept in the state, open or lately closed.", (PARTITION,)),
    Metric("gauge", "lag_records", "Records between this process and the end of its partition.", (PARTITION,)),
    Metric(
        "gauge",
        "lag_seconds",
        "Age of what is worked on; 0 while no record waits; at least the time since which a partition is taken over.",
        (PARTITION,),
    ),
    Metric("gauge", "stream_timestamp_seconds", "Latest received time seen on the partition.", (PARTITION,)),
    Metric(
        "counter",
        "transactions_total",
        "Transactions, by outcome.",
        (one_of("outcome", ("committed", "failed", "fenced")),),
    ),
    Metric("histogram", "transaction_seconds", "Time of one transaction, begin to commit.", (), STEP_S),
    Metric("histogram", "batch_records", "Records per transaction.", (), (1, 2, 5, 10, 50, 100, 500, 1000, 5000)),
    Metric("histogram", "restore_seconds", "Time to restore one partition's state.", (), FRESHNESS_S),
    Metric("counter", "restored_offset_mismatches_total", "Restores whose changelog and committed offset differed."),
    Metric(
        "counter",
        "lost_tails_total",
        "Partitions of threecx.webhooks found to end before what was worked out: the broker lost their last records.",
    ),
    Metric(
        "counter",
        "hanging_transactions_total",
        "Transactions that the broker left without their markers, by what they were settled as; completed: those it"
        " committed in one topic and aborted in another; what was aborted is written again.",
        (one_of("outcome", ("committed", "aborted", "completed")),),
    ),
    Metric(
        "counter",
        "producer_replacements_total",
        "Producers thrown away, by reason.",
        (one_of("reason", ("fenced", "transaction", "broker")),),
    ),
    Metric("counter", "rebalances_total", "Assignments received from the consumer group."),
    SILENCES,
)
PROJECTIONS: Final = (
    Metric("counter", "events_total", "Session events folded, by type.", (CALL_EVENT,)),
    Metric("counter", "stale_events_total", "Records of the session topic that the view already had."),
    Metric(
        "counter", "unreadable_total", "Records of the session topic that are no events, or that no database takes."
    ),
    Metric(
        "counter",
        "lost_tails_total",
        "Partitions of the session topic found to end before the view: they are read again from their beginning.",
    ),
    Metric("histogram", "commit_seconds", "Time of one database transaction of rows and offsets.", (), STEP_S),
    Metric("counter", "commit_failures_total", "Database transactions that failed and were tried again.", (ERROR,)),
    Metric(
        "histogram",
        "freshness_seconds",
        "From a webhook's receipt to its row in the view; ends that no webhook told are left out.",
        (),
        FRESHNESS_S,
    ),
    Metric("gauge", "lag_records", "Records between the view and the end of the partition.", (PARTITION,)),
    Metric("gauge", "lag_seconds", "Age of what is folded; 0 while no record waits.", (PARTITION,)),
    Metric("gauge", "high_watermark_offset", "End of the session topic's partition.", (PARTITION,)),
    Metric("gauge", "last_stable_offset", "Where its first undecided transaction begins, else its end.", (PARTITION,)),
    Metric(
        "counter",
        "ends_total",
        "Ends folded, by where the time is from.",
        (one_of("source", (*EndedAtSource, "unknown")),),
    ),
    Metric("counter", "corrections_total", "Corrections folded, by the rule that decided.", (REASON,)),
    Metric("histogram", "correction_delay_seconds", "From a call's reported end to the correction.", (), DELAY_S),
    Metric("counter", "rebalances_total", "Assignments received from the consumer group."),
    Metric("gauge", "as_of_timestamp_seconds", "Stream time up to which the view is known.", (PARTITION,)),
    Metric(
        "gauge",
        "feed",
        "1 for the state that the feed of the PBX is in.",
        (PBX, one_of("status", ("live", "quiet", "lagging", "silent"))),
    ),
    Metric("gauge", "last_webhook_timestamp_seconds", "When the PBX's newest known webhook was received.", (PBX,)),
    Metric(
        "gauge", "database_up", "Whether the database answers; without it agents, open_calls and today say nothing."
    ),
    Metric("gauge", "agents", "Agents in the view, by status.", (PBX, AGENT_STATUS)),
    Metric("gauge", "open_calls", "Open calls in the view.", (PBX,)),
    Metric("gauge", "today", "Figures of the calls that began on the PBX's local day, by name.", (PBX, FIGURE)),
    Metric(
        "gauge",
        "parity_calls",
        "Calls compared with polling (PROJECTIONS_PARITY_WINDOW_S), by who saw them; missing: by polling, and should"
        " have come by webhook.",
        (PBX, one_of("seen_by", ("both", "webhooks_only", "polling_only", "missing"))),
    ),
    Metric("gauge", "parity_completeness_ratio", "Share of polled calls that came by webhook; NaN: no calls.", (PBX,)),
    Metric("counter", "requests_total", "Answers of the API, by route and status.", (ROUTE, STATUS)),
    Metric("histogram", "answer_seconds", "Time to answer an API request.", (ROUTE,), ANSWER_S),
    Metric(
        "counter",
        "expired_rows_total",
        "Rows deleted because their days are over, by table.",
        (one_of("table", ("calls", "revisions", "agents")),),
    ),
    Metric("gauge", "stream_clients", "Clients connected to the event stream."),
    Metric("gauge", "stream_clients_limit", "PROJECTIONS_STREAM_CLIENTS_MAX: at it, clients get 503."),
    Metric(
        "gauge", "stream_bytes", "Bytes of the messages kept for the clients of the event stream, masked ones, too."
    ),
    Metric("gauge", "stream_bytes_limit", "PROJECTIONS_STREAM_BYTES_MAX: at it, the oldest messages are let go of."),
    Metric("counter", "stream_clients_dropped_total", "Clients dropped because they read too slowly."),
    SILENCES,
)
POLLER: Final = (
    Metric("gauge", "enabled", "1 while polling is switched on."),
    Metric("gauge", "pbxs_polled", "PBXs that this process polls now."),
    Metric("counter", "polls_total", "Polls, by what came of them; only good ones are evidence.", (PBX, OUTCOME)),
    Metric("gauge", "active_calls", "Active calls in the last good answer.", (PBX,)),
    Metric("gauge", "token_renewals", "Tokens asked for since the poller began.", (PBX,)),
    Metric("gauge", "last_good_timestamp_seconds", "When the last good answer was there.", (PBX,)),
    Metric("counter", "histories_total", "Askings for the history of calls, by what came of them.", (PBX, OUTCOME)),
    Metric("counter", "lists_told_total", "Lists of active calls written for the processors, as a witness.", (PBX,)),
    Metric("counter", "writes_failed_total", "Observations that could not be written to Kafka.", (PBX,)),
    SILENCES,
)
CATALOGUE: Final[Mapping[Service, tuple[Metric, ...]]] = {
    "ingest": INGEST,
    "processors": PROCESSORS,
    "projections": PROJECTIONS,
    "poller": POLLER,
}


def observe_all(histogram: Histogram, values: Iterable[float]) -> None:
    """Observe each, at a third of what it costs one by one; the histogram's child for its labels."""
    bounds = histogram._upper_bounds  # noqa: SLF001 - there is no public way; a test compares with `observe`
    buckets = histogram._buckets  # noqa: SLF001
    total = 0.0
    for bucket, found in groupby(sorted(values), partial(bisect_left, bounds)):
        counted = list(found)
        buckets[bucket].inc(len(counted))
        total += sum(counted)
    histogram._sum.inc(total)  # noqa: SLF001


class Metrics:
    """One service's metrics, by their catalogue name; a name that is not in the catalogue is a bug (KeyError)."""

    def __init__(self, service: Service) -> None:
        """Build every metric of `service` in a fresh registry."""
        disable_created_metrics()
        self.registry = CollectorRegistry()
        self._catalogue = CATALOGUE[service]
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        for metric in self._catalogue:
            self._add(f"threecx_{service}_{metric.name}", metric)

    def _add(self, full_name: str, metric: Metric) -> None:
        labels = [label.name for label in metric.labels]
        built: Counter | Gauge | Histogram
        match metric.kind:
            case "counter":
                built = self._counters[metric.name] = Counter(full_name, metric.meaning, labels, registry=self.registry)
            case "gauge":
                built = self._gauges[metric.name] = Gauge(full_name, metric.meaning, labels, registry=self.registry)
            case "histogram":
                built = self._histograms[metric.name] = Histogram(
                    full_name, metric.meaning, labels, buckets=metric.buckets, registry=self.registry
                )
            case _:
                assert_never(metric.kind)
        if labels:
            for values in product(*(label.values for label in metric.labels)):
                built.labels(*values)

    def counter(self, name: str, *labels: str) -> Counter:
        """The counter (or its child for `labels`)."""
        counter = self._counters[name]
        return counter.labels(*labels) if labels else counter

    def gauge(self, name: str, *labels: str) -> Gauge:
        """The gauge (or its child for `labels`)."""
        gauge = self._gauges[name]
        return gauge.labels(*labels) if labels else gauge

    def histogram(self, name: str, *labels: str) -> Histogram:
        """The histogram (or its child for `labels`)."""
        histogram = self._histograms[name]
        return histogram.labels(*labels) if labels else histogram

    def forget(self, label: Label, value: str) -> None:
        """Drop what the gauges by `label` say of `value`: it is not ours any more, and would stand still for ever."""
        for metric in self._catalogue:
            if metric.kind == "gauge" and metric.labels == (label,):
                self._gauges[metric.name].remove(value)

    def empty(self, *gauges: str) -> None:
        """Drop what these gauges say, of everybody: it cannot be known now."""
        for name in gauges:
            self._gauges[name].clear()
