"""Dashboard: how far the numbers can be believed."""

from typing import Final

from deploy.grafana.model import OURS, Dashboard, Panel, Query, Row
from deploy.grafana.queries import age, largest, quantiles, rate, total_rate

INFERRED = (
    f'sum(increase(threecx_projections_ends_total{{{OURS}, source="inferred"}}[$__range]))'
    f" / sum(increase(threecx_projections_ends_total{{{OURS}}}[$__range]))"
)
QUALITY: Final = Dashboard(
    "callstream-data-quality",
    "Callstream data quality",
    "How far the numbers can be believed",
    (
        Row(
            "In the shown time",
            (
                Panel(
                    "Inferred ends",
                    "Ends that nobody reported, as a part of all: these calls have no duration.",
                    "percentunit",
                    (Query(INFERRED, "inferred"),),
                    "stat",
                    6,
                    runbooks=("CallstreamInferredEnds",),
                    limits=(0.1, 0.2),
                ),
                Panel(
                    "Dead letters",
                    "Records that could not be read, at the door and in the processors.",
                    "short",
                    (
                        Query(f"sum(increase(threecx_ingest_dead_letters_total{{{OURS}}}[$__range]))", "ingest"),
                        Query(
                            f"sum(increase(threecx_processors_dead_letters_total{{{OURS}}}[$__range]))", "processors"
                        ),
                    ),
                    "stat",
                    6,
                    runbooks=("CallstreamDeadLetters",),
                    limits=(1, 10),
                ),
                Panel(
                    "Corrections",
                    "Calls that were told otherwise before.",
                    "short",
                    (
                        Query(
                            f"sum(increase(threecx_projections_corrections_total{{{OURS}}}[$__range]))", "corrections"
                        ),
                    ),
                    "stat",
                    6,
                    runbooks=("CallstreamCorrectionsLate",),
                ),
                Panel(
                    "Clock of each PBX",
                    "Reported times minus their receipt, median. Whole hours: a wrong zone.",
                    "s",
                    (
                        Query(
                            f"max by (pbx) (threecx_processors_clock_skew_seconds{{{OURS}}})",
                            "{{pbx}}",
                        ),
                    ),
                    "stat",
                    6,
                    runbooks=("CallstreamClockSkew",),
                ),
            ),
        ),
        Row(
            "Calls",
            (
                Panel(
                    "Ends by source",
                    "Where the time of an end is from, per second.",
                    "ops",
                    (rate("threecx_projections_ends_total", "source"),),
                    stacked=True,
                    runbooks=("CallstreamInferredEnds",),
                ),
                Panel(
                    "Rules that decided",
                    "Session events written per second, by the rule.",
                    "ops",
                    (rate("threecx_processors_decisions_total", "reason"),),
                    stacked=True,
                ),
                Panel(
                    "Corrections by rule",
                    "Per second, by the rule that decided.",
                    "ops",
                    (rate("threecx_projections_corrections_total", "reason"),),
                    stacked=True,
                ),
                Panel(
                    "Delay of corrections",
                    "From a call's reported end to its correction.",
                    "s",
                    quantiles("threecx_projections_correction_delay_seconds"),
                    runbooks=("CallstreamCorrectionsLate",),
                    limits=(300, 900),
                ),
                Panel(
                    "Session events written",
                    "Per second, by type.",
                    "ops",
                    (rate("threecx_processors_session_events_total", "type"),),
                    stacked=True,
                ),
            ),
        ),
        Row(
            "Evidence",
            (
                Panel(
                    "Repeats",
                    "Records that led to nothing, per second: forwarded twice (sequence), or a start or an end again.",
                    "ops",
                    (rate("threecx_processors_repeats_total", "kind"),),
                ),
                Panel(
                    "Dead letters at the door",
                    "Per second, by reason.",
                    "ops",
                    (rate("threecx_ingest_dead_letters_total", "reason"),),
                    runbooks=("CallstreamDeadLetters",),
                ),
                Panel(
                    "Dead letters of the processors",
                    "Per second, by reason.",
                    "ops",
                    (rate("threecx_processors_dead_letters_total", "reason"),),
                    runbooks=("CallstreamDeadLetters",),
                ),
                Panel(
                    "Steps of ingest's clocks",
                    "Steps that counted no live time, per second: a new instance, a gap, a step back.",
                    "ops",
                    (rate("threecx_processors_clock_alarms_total", "kind"),),
                ),
                Panel(
                    "Unreadable or stale session events",
                    "Records of the session topic that were passed over, per second. More than 0 is a fault.",
                    "ops",
                    (
                        total_rate("threecx_projections_unreadable_total", "unreadable"),
                        total_rate("threecx_projections_stale_events_total", "stale"),
                    ),
                ),
                Panel(
                    "Damage in the journal",
                    "Bytes that are no record any more, and bytes of files set aside.",
                    "bytes",
                    (
                        Query(f"sum(threecx_ingest_journal_damaged_bytes{{{OURS}}})", "damaged"),
                        Query(f"sum(threecx_ingest_journal_set_aside_bytes{{{OURS}}})", "set aside"),
                    ),
                    runbooks=("CallstreamJournalDamaged",),
                ),
            ),
        ),
        Row(
            "Polling beside webhooks, where it is switched on",
            (
                Panel(
                    "Came by webhook",
                    "Of the polled calls of the last day, that should have: the share that did.",
                    "percentunit",
                    (Query(f"min by (pbx) (threecx_projections_parity_completeness_ratio{{{OURS}}})", "{{pbx}}"),),
                    "stat",
                    6,
                    runbooks=("CallstreamWebhooksIncomplete",),
                ),
                Panel(
                    "Calls by who saw them",
                    "Of the last day. Missing: seen by polling, and should have come by webhook.",
                    "short",
                    (largest("threecx_projections_parity_calls", "seen_by"),),
                    runbooks=("CallstreamWebhooksIncomplete",),
                ),
                Panel(
                    "Polls by what came of them",
                    "Per second; only good ones are evidence.",
                    "ops",
                    (
                        rate("threecx_poller_polls_total", "outcome"),
                        total_rate("threecx_poller_histories_total", "for the history"),
                    ),
                    stacked=True,
                ),
                Panel(
                    "Written by the poller",
                    "Lists told to the processors as a witness, and observations that Kafka did not take, per second.",
                    "ops",
                    (
                        total_rate("threecx_poller_lists_told_total", "lists told"),
                        total_rate("threecx_poller_writes_failed_total", "failed"),
                    ),
                ),
                Panel(
                    "Active calls at the PBX",
                    "In the last good answer.",
                    "short",
                    (largest("threecx_poller_active_calls", "pbx"),),
                ),
                Panel(
                    "Last good answer",
                    "How long ago. A PBX that does not answer ends no call.",
                    "s",
                    (age("threecx_poller_last_good_timestamp_seconds", "pbx"),),
                ),
                Panel(
                    "PBXs polled",
                    "And pollers that are switched on.",
                    "short",
                    (
                        Query(f"sum(threecx_poller_pbxs_polled{{{OURS}}})", "polled"),
                        Query(f"sum(threecx_poller_enabled{{{OURS}}})", "switched on"),
                    ),
                ),
                Panel(
                    "Tokens asked for",
                    "Since each poller began. A steep line: they are refused, or another client uses the id.",
                    "short",
                    (largest("threecx_poller_token_renewals", "pbx"),),
                ),
            ),
        ),
    ),
)
