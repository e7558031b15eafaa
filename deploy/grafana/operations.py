"""Dashboard: whether it is running, and how fast."""

from typing import Final

from deploy.grafana.model import OURS, Dashboard, Panel, Query, Row
from deploy.grafana.queries import age, largest, quantiles, rate, summed, total_rate

NOW = Row(
    "Now",
    (
        Panel(
            "Services that answer",
            "Targets of the three jobs that Prometheus reaches now.",
            "short",
            (Query(f"sum by (job) (up{{{OURS}}})", "{{job}}"),),
            "stat",
            runbooks=("CallstreamTargetDown",),
        ),
        Panel(
            "Kafka reachable",
            "Whether ingest's last exchange with Kafka succeeded. While it is no, webhooks wait in the journal.",
            "bool_yes_no",
            (Query(f"min(threecx_ingest_kafka_reachable{{{OURS}}})", "reachable"),),
            "stat",
            4,
        ),
        Panel(
            "Journal used",
            "Bytes of the journal as a part of INGEST_JOURNAL_BYTES_MAX; at 100 % webhooks get 503.",
            "percentunit",
            (
                Query(
                    f"max(threecx_ingest_journal_bytes{{{OURS}}} / threecx_ingest_journal_bytes_limit{{{OURS}}})",
                    "used",
                ),
            ),
            "stat",
            4,
            runbooks=("CallstreamJournalNearLimit", "CallstreamJournalGrowing"),
            limits=(0.5, 0.8),
        ),
        Panel(
            "Views as of",
            "Age of the partition of the views that is furthest behind.",
            "s",
            (Query(f"max(time() - threecx_projections_as_of_timestamp_seconds{{{OURS}}})", "age"),),
            "stat",
            4,
            runbooks=("CallstreamViewStale",),
            limits=(10, 60),
        ),
        Panel(
            "Damaged journal files",
            "Files with damage that wait for a person.",
            "short",
            (Query(f"sum(threecx_ingest_journal_set_aside_files{{{OURS}}})", "files"),),
            "stat",
            4,
            runbooks=("CallstreamJournalDamaged",),
            limits=(1, 1),
        ),
    ),
)
INGEST = Row(
    "Ingest",
    (
        Panel(
            "Answers",
            "HTTP answers per second, by status. 202: durable; 4xx: refused; 503: the journal does not take it.",
            "reqps",
            (rate("threecx_ingest_requests_total", "status"),),
            stacked=True,
            runbooks=("CallstreamDoorFails", "CallstreamDoorRefuses", "CallstreamFeedSilent"),
        ),
        Panel(
            "Time to answer a webhook",
            "From the request's headers to its answer, group commit included.",
            "s",
            quantiles("threecx_ingest_answer_seconds"),
        ),
        Panel(
            "Group commit",
            "Time of one write and fsync of the journal.",
            "s",
            quantiles("threecx_ingest_journal_sync_seconds"),
        ),
        Panel(
            "Journal: records that wait",
            "Accepted and not yet acknowledged by Kafka.",
            "short",
            (summed("threecx_ingest_journal_records", "instance"),),
            runbooks=("CallstreamJournalGrowing",),
        ),
        Panel(
            "Journal: oldest record",
            "Age of the oldest accepted record that Kafka has not acknowledged.",
            "s",
            (largest("threecx_ingest_journal_oldest_seconds", "instance"),),
            runbooks=("CallstreamJournalOld", "CallstreamJournalBehind"),
            limits=(10, 60),
        ),
        Panel(
            "Accepted and forwarded",
            "Webhooks made durable, and records that Kafka acknowledged, per second.",
            "ops",
            (
                total_rate("threecx_ingest_accepted_total", "accepted"),
                total_rate("threecx_ingest_forwarded_total", "forwarded"),
            ),
        ),
        Panel(
            "Failures",
            "Times that the disk of the journal failed, and that forwarding had to start again, per second.",
            "ops",
            (
                total_rate("threecx_ingest_journal_sync_failures_total", "journal's disk"),
                total_rate("threecx_ingest_forward_failures_total", "forwarding"),
            ),
            runbooks=("CallstreamJournalDiskFails",),
        ),
        Panel(
            "Last clock tick",
            "Age of the newest tick that Kafka acknowledged. Without ticks no call times out.",
            "s",
            (age("threecx_ingest_last_tick_timestamp_seconds", "instance"),),
            runbooks=("CallstreamNoTicks",),
            limits=(10, 60),
        ),
        Panel(
            "Connections",
            "Open connections; INGEST_CONNECTIONS_MAX is their limit.",
            "short",
            (summed("threecx_ingest_connections", "instance"),),
        ),
    ),
)
PROCESSORS = Row(
    "Processors",
    (
        Panel(
            "Lag in seconds",
            "Age of what each partition works on; 0 while no record waits.",
            "s",
            (largest("threecx_processors_lag_seconds", "partition"),),
            runbooks=("CallstreamProcessorStalled",),
            limits=(10, 60),
        ),
        Panel(
            "Lag in records",
            "Records of threecx.webhooks that wait, by partition.",
            "short",
            (largest("threecx_processors_lag_records", "partition"),),
        ),
        Panel(
            "Records consumed",
            "Records per second, by kind.",
            "ops",
            (rate("threecx_processors_records_total", "kind"),),
            stacked=True,
        ),
        Panel(
            "Transactions",
            "Transactions per second, by outcome.",
            "ops",
            (rate("threecx_processors_transactions_total", "outcome"),),
        ),
        Panel(
            "Time of a transaction",
            "From begin to commit.",
            "s",
            quantiles("threecx_processors_transaction_seconds"),
        ),
        Panel(
            "Records per transaction",
            "The mean; larger when it is busy.",
            "short",
            (
                Query(
                    f"sum(rate(threecx_processors_batch_records_sum{{{OURS}}}[$__rate_interval]))"
                    f" / sum(rate(threecx_processors_batch_records_count{{{OURS}}}[$__rate_interval]))",
                    "records",
                ),
            ),
        ),
        Panel(
            "Partitions and rebalances",
            "Partitions owned, by instance, and assignments received in the shown time.",
            "short",
            (
                summed("threecx_processors_partitions_assigned", "instance"),
                Query(f"sum(increase(threecx_processors_rebalances_total{{{OURS}}}[$__rate_interval]))", "rebalances"),
            ),
        ),
        Panel(
            "Producers thrown away",
            "Per second, by reason: fenced by a new owner, a transaction without an outcome, the broker; and"
            " transactions that the broker left without their markers.",
            "ops",
            (
                rate("threecx_processors_producer_replacements_total", "reason"),
                total_rate("threecx_processors_hanging_transactions_total", "markers missing"),
            ),
        ),
        Panel(
            "Restores",
            "Time to restore a partition's state, p99; restores whose offsets differed, or whose log had lost its end.",
            "s",
            (
                Query(
                    "histogram_quantile(0.99, sum by (le)"
                    f" (increase(threecx_processors_restore_seconds_bucket{{{OURS}}}[$__range])))",
                    "p99",
                ),
                total_rate("threecx_processors_restored_offset_mismatches_total", "mismatches per second"),
                total_rate("threecx_processors_lost_tails_total", "logs that lost their end per second"),
            ),
            runbooks=("CallstreamLostTail",),
        ),
        Panel(
            "Calls in the state",
            "Calls kept: open or lately closed.",
            "short",
            (
                Query(f"sum(threecx_processors_open_calls{{{OURS}}})", "open"),
                Query(f"sum(threecx_processors_kept_calls{{{OURS}}})", "kept"),
            ),
        ),
    ),
)
PROJECTIONS = Row(
    "Projections",
    (
        Panel(
            "Freshness",
            "From a webhook's receipt to its row in the view.",
            "s",
            quantiles("threecx_projections_freshness_seconds"),
            runbooks=("CallstreamFreshness",),
            limits=(1, 5),
        ),
        Panel(
            "Lag",
            "Records between the view and the end of the session topic, by partition.",
            "short",
            (largest("threecx_projections_lag_records", "partition"),),
        ),
        Panel(
            "Lag in seconds",
            "Age of what is folded; 0 while no record waits.",
            "s",
            (largest("threecx_projections_lag_seconds", "partition"),),
            runbooks=("CallstreamViewStale",),
        ),
        Panel(
            "Records behind an open transaction",
            "High watermark minus last stable offset of the session topic, by partition.",
            "short",
            (
                Query(
                    f"max by (partition) (threecx_projections_high_watermark_offset{{{OURS}}}"
                    f" - threecx_projections_last_stable_offset{{{OURS}}})",
                    "{{partition}}",
                ),
            ),
            runbooks=("CallstreamHangingTransaction",),
        ),
        Panel(
            "Log ends lost",
            "Partitions of the session topic that ended before the view and are read again, per second.",
            "ops",
            (total_rate("threecx_projections_lost_tails_total", "logs that lost their end"),),
            runbooks=("CallstreamLostTail",),
        ),
        Panel("Commit", "Time of one database transaction.", "s", quantiles("threecx_projections_commit_seconds")),
        Panel(
            "Database failures",
            "Database transactions that failed and were tried again, per second.",
            "ops",
            (rate("threecx_projections_commit_failures_total", "reason"),),
        ),
        Panel(
            "Database answers",
            "1: it answered the scrape. Without it agents, open calls and the day's figures have no series.",
            "bool_yes_no",
            (Query(f"min(threecx_projections_database_up{{{OURS}}})", "answers"),),
            runbooks=("CallstreamDatabaseAway",),
        ),
        Panel(
            "Rows deleted for their age",
            "Per second, by table.",
            "ops",
            (rate("threecx_projections_expired_rows_total", "table"),),
        ),
        Panel(
            "API: answers",
            "Answers per second, by route.",
            "reqps",
            (rate("threecx_projections_requests_total", "route"),),
            stacked=True,
        ),
        Panel(
            "API: time to answer",
            "p99, by route.",
            "s",
            quantiles("threecx_projections_answer_seconds", "route"),
        ),
        Panel(
            "Event stream",
            "Clients connected, their limit, and clients dropped in the shown time because they read too slowly.",
            "short",
            (
                Query(f"sum(threecx_projections_stream_clients{{{OURS}}})", "clients"),
                Query(f"sum(threecx_projections_stream_clients_limit{{{OURS}}})", "limit"),
                Query(
                    f"sum(increase(threecx_projections_stream_clients_dropped_total{{{OURS}}}[$__range]))", "dropped"
                ),
            ),
        ),
        Panel(
            "Event stream: messages kept",
            "At the limit the oldest are let go of: who missed them gets a new snapshot.",
            "bytes",
            (
                Query(f"max(threecx_projections_stream_bytes{{{OURS}}})", "kept"),
                Query(f"max(threecx_projections_stream_bytes_limit{{{OURS}}})", "limit"),
            ),
        ),
    ),
)
KAFKA = Row(
    "Kafka, as all of them see it",
    (
        Panel(
            "Silent brokers",
            "Connections given up, or not made, per second, because a broker said nothing for KAFKA_SILENCE_S.",
            "ops",
            tuple(
                total_rate(f"threecx_{service}_kafka_silences_total", service)
                for service in ("ingest", "processors", "projections", "poller")
            ),
        ),
    ),
)
OPERATIONS: Final = Dashboard(
    "callstream-operations",
    "Callstream operations",
    "Is it running, and how fast?",
    (NOW, INGEST, PROCESSORS, PROJECTIONS, KAFKA),
)
