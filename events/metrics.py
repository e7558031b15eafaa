"""The metric catalogue: every metric declared once, with its meaning. Labels are bounded: never a number or an id.

A service builds its part with `Metrics(service)`, in a registry of its own: no global state, nothing at import.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

Kind = Literal["counter", "gauge", "histogram"]
Service = Literal["ingest", "processors", "projections"]

ANSWER_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0)
FRESHNESS_S: Final = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 300.0, 3600.0)
DELAY_S: Final = (1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0)
STEP_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its name without the prefix ``threecx_{service}_``, meaning, labels and buckets (seconds)."""

    kind: Kind
    name: str
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


INGEST: Final = (
    Metric("counter", "requests_total", "Answers of the door, by route and status.", ("route", "status")),
    Metric("histogram", "answer_seconds", "Time from the request's headers to the answer.", ("route",), ANSWER_S),
    Metric("gauge", "connections", "Connections that are open; INGEST_CONNECTIONS_MAX is their limit."),
    Metric("counter", "accepted_total", "Webhooks that were made durable and answered 202.", ("pbx",)),
    Metric("counter", "refused_total", "Webhooks refused after authentication, by reason.", ("reason",)),
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
    Metric("counter", "journal_sync_failures_total", "Group commits that failed; their requests got 503."),
    Metric("counter", "forwarded_total", "Records that Kafka acknowledged.", ("topic",)),
    Metric("counter", "undecodable_total", "Records of the journal that are no webhook; now dead letters."),
    Metric("counter", "forward_failures_total", "Times that forwarding had to start again.", ("reason",)),
    Metric("gauge", "kafka_reachable", "1 while the last exchange with Kafka succeeded."),
    Metric("counter", "ticks_total", "Clock ticks that Kafka acknowledged."),
    Metric("gauge", "last_tick_timestamp_seconds", "When the newest acknowledged tick was made."),
)
PROCESSORS: Final = (
    Metric("gauge", "partitions_assigned", "Partitions that this process owns now."),
    Metric("counter", "records_total", "Records of threecx.webhooks consumed, by kind.", ("kind",)),
    Metric("counter", "session_events_total", "Session events written, by type.", ("type",)),
    Metric("counter", "decisions_total", "Session events written, by the rule that decided.", ("reason",)),
    Metric("counter", "repeats_total", "Records that were recognised as repeats and led to nothing.", ("kind",)),
    Metric("counter", "dead_letters_total", "Records sent to the dead letters, by reason.", ("reason",)),
    Metric("counter", "clock_alarms_total", "Steps of an ingest clock that counted no live time.", ("kind",)),
    Metric("gauge", "clock_skew_seconds", "Reported times minus their receipt, median; hours: wrong zone.", ("pbx",)),
    Metric("gauge", "open_calls", "Calls open in the state.", ("partition",)),
    Metric("gauge", "kept_calls", "Calls kept in the state, open or lately closed.", ("partition",)),
    Metric("gauge", "lag_records", "Records between this process and the end of its partition.", ("partition",)),
    Metric("gauge", "lag_seconds", "Age of what is worked on; 0 while no record waits.", ("partition",)),
    Metric("gauge", "stream_timestamp_seconds", "Latest received time seen on the partition.", ("partition",)),
    Metric("counter", "transactions_total", "Transactions, by outcome.", ("outcome",)),
    Metric("histogram", "transaction_seconds", "Time of one transaction, begin to commit.", (), STEP_S),
    Metric("histogram", "batch_records", "Records per transaction.", (), (1, 2, 5, 10, 50, 100, 500, 1000, 5000)),
    Metric("histogram", "restore_seconds", "Time to restore one partition's state.", (), FRESHNESS_S),
    Metric("counter", "restored_offset_mismatches_total", "Restores whose changelog and committed offset differed."),
    Metric("counter", "producer_replacements_total", "Producers thrown away, by reason.", ("reason",)),
    Metric("counter", "rebalances_total", "Assignments received from the consumer group."),
)
PROJECTIONS: Final = (
    Metric("counter", "events_total", "Session events folded, by type.", ("type",)),
    Metric("counter", "stale_events_total", "Records of the session topic that the view already had."),
    Metric("counter", "unreadable_total", "Records of the session topic that could not be read."),
    Metric("histogram", "commit_seconds", "Time of one database transaction of rows and offsets.", (), STEP_S),
    Metric("counter", "commit_failures_total", "Database transactions that failed and were tried again.", ("reason",)),
    Metric("histogram", "freshness_seconds", "From a webhook's receipt to its row in the view.", (), FRESHNESS_S),
    Metric("gauge", "lag_records", "Records between the view and the end of the partition.", ("partition",)),
    Metric("gauge", "high_watermark_offset", "End of the session topic's partition.", ("partition",)),
    Metric(
        "gauge", "last_stable_offset", "Where its first undecided transaction begins, else its end.", ("partition",)
    ),
    Metric("counter", "ends_total", "Ends folded, by where the time is from.", ("source",)),
    Metric("counter", "corrections_total", "Corrections folded, by the rule that decided.", ("reason",)),
    Metric("histogram", "correction_delay_seconds", "From a call's reported end to the correction.", (), DELAY_S),
    Metric("counter", "rebalances_total", "Assignments received from the consumer group."),
    Metric("gauge", "as_of_timestamp_seconds", "Stream time up to which the view is known.", ("partition",)),
    Metric("gauge", "agents", "Agents in the view, by status.", ("pbx", "status")),
    Metric("gauge", "open_calls", "Open calls in the view.", ("pbx",)),
    Metric("counter", "requests_total", "Answers of the API, by route and status.", ("route", "status")),
    Metric("histogram", "answer_seconds", "Time to answer an API request.", ("route",), ANSWER_S),
    Metric("gauge", "stream_clients", "Clients connected to the event stream."),
    Metric("counter", "stream_clients_dropped_total", "Clients dropped because they read too slowly."),
)
CATALOGUE: Final[Mapping[Service, tuple[Metric, ...]]] = {
    "ingest": INGEST,
    "processors": PROCESSORS,
    "projections": PROJECTIONS,
}


class Metrics:
    """One service's metrics, by their catalogue name; a name that is not in the catalogue is a bug (KeyError)."""

    def __init__(self, service: Service) -> None:
        """Build every metric of `service` in a fresh registry."""
        disable_created_metrics()
        self.registry = CollectorRegistry()
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        for metric in CATALOGUE[service]:
            self._add(f"threecx_{service}_{metric.name}", metric)

    def _add(self, full_name: str, metric: Metric) -> None:
        match metric.kind:
            case "counter":
                self._counters[metric.name] = Counter(full_name, metric.meaning, metric.labels, registry=self.registry)
            case "gauge":
                self._gauges[metric.name] = Gauge(full_name, metric.meaning, metric.labels, registry=self.registry)
            case "histogram":
                self._histograms[metric.name] = Histogram(
                    full_name, metric.meaning, metric.labels, buckets=metric.buckets, registry=self.registry
                )

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
