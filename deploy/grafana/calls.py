"""Dashboard: what goes on, in calls, agents and feeds."""

from typing import Final

from deploy.grafana.model import Dashboard, Panel, Query, Row
from deploy.grafana.queries import PER_PBX, age, rate, summed

FEED_STATES: Final = (
    ("1", "live", "green"),
    ("2", "quiet", "blue"),
    ("3", "lagging", "yellow"),
    ("4", "silent", "red"),
)

CALLS: Final = Dashboard(
    "callstream-calls",
    "Callstream calls",
    "What goes on: calls, agents and feeds",
    (
        Row(
            "Now",
            (
                Panel(
                    "Open calls",
                    "Calls that are open in the view.",
                    "short",
                    (summed("threecx_projections_open_calls", "pbx", PER_PBX),),
                    "stat",
                    6,
                ),
                Panel(
                    "Agents",
                    "Agents by status.",
                    "short",
                    (summed("threecx_projections_agents", "status", PER_PBX),),
                    "stat",
                    10,
                ),
                Panel(
                    "Last webhook",
                    "How long ago each PBX sent its newest webhook.",
                    "s",
                    (age("threecx_projections_last_webhook_timestamp_seconds", "pbx", PER_PBX),),
                    "stat",
                    8,
                    runbooks=("CallstreamFeedSilent",),
                ),
                Panel(
                    "Figures of today",
                    "The same as on the wallboard, over the calls that began on its local day; seconds and shares.",
                    "none",
                    (
                        Query(
                            f"max by (pbx, figure) (threecx_projections_today{{{PER_PBX}}})",
                            "{{pbx}}: {{figure}}",
                        ),
                    ),
                    "stat",
                    24,
                ),
                Panel(
                    "Feeds",
                    "The state of each PBX's feed: live, quiet (it sends nothing), lagging, silent (nobody knows).",
                    "none",
                    (
                        Query(
                            " + ".join(
                                f'{number} * max by (pbx) (threecx_projections_feed{{{PER_PBX}, status="{word}"}})'
                                for number, word, _ in FEED_STATES
                            ),
                            "{{pbx}}",
                        ),
                    ),
                    "state-timeline",
                    24,
                    runbooks=("CallstreamFeedSilent", "CallstreamNoTicks", "CallstreamViewStale"),
                    words=FEED_STATES,
                ),
            ),
        ),
        Row(
            "Over time",
            (
                Panel(
                    "Webhooks",
                    "Webhooks accepted per second, by PBX.",
                    "ops",
                    (rate("threecx_ingest_accepted_total", "pbx", PER_PBX),),
                    width=12,
                    runbooks=("CallstreamFeedSilent",),
                ),
                Panel(
                    "Open calls",
                    "Calls that are open in the view, by PBX.",
                    "short",
                    (summed("threecx_projections_open_calls", "pbx", PER_PBX),),
                    width=12,
                ),
                Panel(
                    "Agents",
                    "Agents by status.",
                    "short",
                    (summed("threecx_projections_agents", "status", PER_PBX),),
                    width=12,
                    stacked=True,
                ),
                Panel(
                    "What happened to calls",
                    "Session events folded into the views per second, by type; all PBXs.",
                    "ops",
                    (rate("threecx_projections_events_total", "type"),),
                    width=12,
                    stacked=True,
                ),
            ),
        ),
    ),
    with_pbx=True,
)
