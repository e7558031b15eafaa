"""A system that has been through calls, faults and restarts, as Prometheus and the logs saw it."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.brokers import running
from events.metrics import CATALOGUE, Label, Metric, Service
from tests.observed import CANARIES, Observed, observed
from tests.test_dashboards import DASHBOARDS, panels

pytestmark = pytest.mark.timeout(300)
"""The run itself is a part of the first test's time."""

GUARDS = {
    "kafka_silences_total": "seen when a broker is silent (tests/test_silent_brokers.py)",
    "stale_events_total": "the consumer seeks to the view's position: only a broken client would bring older ones",
    "hanging_transactions_total": "seen when the broker leaves markers out (tests/test_hanging_on_kafka.py)",
    "lost_tails_total": "seen when a log is cut or made anew (tests/test_{lost_tail,projections}_on_kafka.py)",
    "expired_rows_total": "nothing is old enough in a run of two minutes",
    "producer_replacements_total": "seen when the broker is killed in the middle of a transaction, which is chance",
}
"""Counters of what must not happen, or need not in this run: exposed, at 0 or above."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    folder = tmp_path_factory.mktemp("observed")
    with running(tmp_path_factory.mktemp("own-kafka")) as broker, observed(broker, folder) as found:
        yield found


ONLY_WHERE_POLLED = ("poller_", "projections_parity_")
"""Off by default, and here: tests/test_parity_on_kafka.py has a poller."""
ALL = [
    (service, metric)
    for service in CATALOGUE
    for metric in CATALOGUE[service]
    if not f"{service}_{metric.name}".startswith(ONLY_WHERE_POLLED)
]


@pytest.mark.parametrize(("service", "metric"), ALL, ids=[f"{service}_{metric.name}" for service, metric in ALL])
def test_every_metric_of_the_catalogue_is_fed_by_a_running_system(
    run: Observed, service: Service, metric: Metric
) -> None:
    name = f"threecx_{service}_{metric.name}"
    match metric.kind:
        case "counter":
            expression = f"sum(max_over_time({name}[1h])) > 0"
        case "histogram":
            expression = f"sum(max_over_time({name}_count[1h])) > 0"
        case "gauge":
            expression = f"sum(max_over_time({name}[1h]))"
    fed = run.prometheus.query(expression)
    assert fed or metric.name in GUARDS
    if metric.name in GUARDS:
        assert run.prometheus.query(f"max_over_time({name}[1h])")


def test_no_metric_outside_the_catalogue_is_exposed_and_every_label_is_one_of_its_own(run: Observed) -> None:
    labels: dict[str, tuple[Label, ...]] = {}
    for service, metric in ALL:
        name = f"threecx_{service}_{metric.name}"
        for suffix in ("_bucket", "_count", "_sum") if metric.kind == "histogram" else ("",):
            labels[name + suffix] = metric.labels
    for series in run.prometheus.labels():
        name = series["__name__"]
        assert name in labels
        assert set(series) - {"__name__", "instance", "job", "le"} == {label.name for label in labels[name]}, name
        for label in labels[name]:
            assert not label.values or series[label.name] in label.values, (name, label.name, series[label.name])
    assert {name for name in labels if name in {one["__name__"] for one in run.prometheus.labels()}} == set(labels)


def test_no_number_address_secret_or_text_of_a_caller_is_in_a_log_or_a_metric(run: Observed) -> None:
    """At DEBUG, through every fault of the run."""
    assert set(run.logs) >= {"ingest", "processors", "projections"}
    for name, text in run.logs.items():
        assert len(text.splitlines()) > 3, name
        for canary in CANARIES:
            hits = [line for line in text.splitlines() if canary in line]
            assert not hits, (name, canary, hits[:3])
    for series in run.prometheus.labels():
        assert not any(canary in value for value in series.values() for canary in CANARIES), series


def test_the_run_went_where_errors_are_logged(run: Observed) -> None:
    """Or there would be nothing to find."""
    told = "\n".join(run.logs.values())
    for event in (
        "the database does not take the views",
        "Kafka is not taking records",
        "unreadable session event",
        "the changelog's offset holds",
        "journal recovered",
    ):
        assert event in told, event


def test_every_alert_can_be_judged_on_real_series(run: Observed) -> None:
    (group,) = run.prometheus.groups()
    for rule in group["rules"]:
        assert rule["health"] == "ok", rule


QUERIES = [
    pytest.param(target["expr"], id=f"{name}: {panel['title']}: {target['refId']}")
    for name, dashboard in DASHBOARDS.items()
    for panel in panels(dashboard)
    for target in panel["targets"]
    if not any(f"threecx_{name}" in target["expr"] for name in ONLY_WHERE_POLLED)
]


@pytest.mark.parametrize("expression", QUERIES)
def test_every_query_of_the_dashboards_returns_series(run: Observed, expression: str) -> None:
    variables = {"$job": ".+", "$instance": ".+", "$pbx": ".+", "$__rate_interval": "15s", "$__range": "10m"}
    for name, value in variables.items():
        expression = expression.replace(name, value)
    assert run.prometheus.values(expression)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_variable_of_the_dashboards_has_values(run: Observed, name: str) -> None:
    for variable in DASHBOARDS[name]["templating"]["list"]:
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
            assert found is not None
            series, label = found.groups()
            expression = series.replace("$job", ".+").replace("$instance", ".+")
            assert all(one["metric"].get(label) for one in run.prometheus.query(f"count by ({label}) ({expression})"))
            assert run.prometheus.query(expression)


def test_the_service_levels_of_the_page_can_be_asked_for(run: Observed) -> None:
    page = (Path(__file__).parent.parent / "docs" / "monitoring.md").read_text("utf-8")
    levels = [line.split(" | ")[2].strip(" |`") for line in page.splitlines() if "[30d]" in line]
    assert len(levels) == 4
    for expression in levels:
        (share,) = run.prometheus.query(expression.replace("\\|", "|").replace("30d", "10m"))
        assert 0 < float(share["value"][1]) <= 1, expression
