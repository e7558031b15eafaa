"""The dashboards as they are committed: what the script writes, with the rules of Grafana's dashboard-linter.

Its rules here: template-datasource, template-job, template-instance, template-on-time-change-reload, panel-datasource,
panel-title-description, panel-units, panel-no-targets, target-job, target-instance, target-rate-interval,
target-counter-agg, uneditable-dashboard. Its template-label-promql and target-promql are held by a real Prometheus in
`tests/test_observed.py`. Its rules on LogQL have nothing to judge here.
"""

import json
import re
import typing
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.grafana import model
from deploy.grafana.__main__ import files
from tests import grafana_types
from tests.test_alerts import RULES, known_series

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "deploy" / "grafana"
DASHBOARDS = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted((FOLDER / "dashboards").glob("*.json"))}
Json = dict[str, Any]


def panels(dashboard: Json) -> list[Json]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


PANELS = [
    pytest.param(panel, id=f"{name}: {panel['title']}") for name, one in DASHBOARDS.items() for panel in panels(one)
]


def test_what_is_committed_is_what_the_script_writes() -> None:
    assert {path: path.read_text("utf-8") for path in (FOLDER / "dashboards").glob("*.json")} == files()


@pytest.mark.parametrize("dashboard", DASHBOARDS.values(), ids=DASHBOARDS)
def test_variables_and_links_are_as_the_linter_wants_them(dashboard: Json) -> None:
    variables = {one["name"]: one for one in dashboard["templating"]["list"]}
    source = variables["datasource"]
    assert (source["type"], source["query"], source["label"]) == ("datasource", "prometheus", "Data source")
    for name in ("job", "instance"):
        one = variables[name]
        assert (one["type"], one["label"], one["datasource"]["uid"]) == ("query", name.capitalize(), "${datasource}")
        assert (one["multi"], one["includeAll"], one["allValue"]) == (True, True, ".+")
    assert all(one["refresh"] == 2 for one in variables.values() if one["type"] == "query")
    assert dashboard["editable"] is False
    others = {f"/d/{uid}" for uid in DASHBOARDS if uid != dashboard["uid"]}
    assert others < {link["url"] for link in dashboard["links"]}
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_is_as_the_linter_wants_it(panel: Json) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["datasource"]["uid"] == "${datasource}"
    assert panel["fieldConfig"]["defaults"]["unit"] in typing.get_args(model.Unit)
    assert panel["targets"]
    refs = [target["refId"] for target in panel["targets"]]
    assert len(set(refs)) == len(refs)


@pytest.mark.parametrize("panel", PANELS)
def test_a_query_is_as_the_linter_wants_it(panel: Json) -> None:
    for target in panel["targets"]:
        expr = target["expr"]
        assert target["datasource"]["uid"] == "${datasource}"
        selectors = re.findall(r"\b(threecx_\w+|up)(\{[^}]*\})?(\[[^\]]*\])?", expr)
        assert selectors
        for name, matchers, interval in selectors:
            assert name == "up" or name in known_series()
            assert 'job=~"$job"' in matchers
            assert 'instance=~"$instance"' in matchers
            counts = name.endswith(("_total", "_bucket", "_sum", "_count"))
            assert bool(interval) == counts, "a counter is only ever looked at by its steps"
        for function, interval in re.findall(r"\b(rate|irate|increase)\([^\[]*\[([^\]]*)\]\)", expr):
            # A share or a count of the whole shown time is the one thing that wants all of it.
            assert interval == "$__rate_interval" or (function, interval) == ("increase", "$__range")


def test_panels_lie_side_by_side_and_within_the_page() -> None:
    for dashboard in DASHBOARDS.values():
        taken: set[tuple[int, int]] = set()
        for panel in dashboard["panels"]:
            at = panel["gridPos"]
            cells = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
            assert not cells & taken, panel["title"]
            assert at["x"] + at["w"] <= model.COLUMNS
            taken |= cells


def test_every_alert_is_linked_by_a_panel_and_every_link_leads_to_a_page() -> None:
    links = [link["url"] for one in DASHBOARDS.values() for panel in panels(one) for link in panel["links"]]
    linked = {re.sub(r"^\$\{docs\}/runbook/(\w+)\.md$", r"\1", url) for url in links}
    assert linked == {rule["alert"] for rule in RULES}
    for one in DASHBOARDS.values():
        for link in one["links"]:
            if link["url"].startswith("${docs}/"):
                assert (ROOT / "docs" / link["url"].removeprefix("${docs}/")).is_file()


def test_every_metric_of_the_catalogue_is_on_a_dashboard_or_is_a_limit_of_one() -> None:
    shown = " ".join(target["expr"] for one in DASHBOARDS.values() for p in panels(one) for target in p["targets"])
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in known_series()}
    hidden = {name for name in families if not re.search(rf"\b{name}(_bucket|_sum)?\b", shown)}
    assert hidden == {
        "threecx_ingest_journal_age_limit_seconds",  # told by the alert
        "threecx_ingest_ticks_total",  # the age of the last one says more
        "threecx_processors_stream_timestamp_seconds",  # the lag says more
        "threecx_projections_rebalances_total",  # the processors' say it
    }


def test_provisioning_names_the_folder_and_the_data_source() -> None:
    sources = yaml.safe_load((FOLDER / "provisioning" / "datasources" / "prometheus.yaml").read_text("utf-8"))
    assert [one["type"] for one in sources["datasources"]] == ["prometheus"]
    providers = yaml.safe_load((FOLDER / "provisioning" / "dashboards" / "callstream.yaml").read_text("utf-8"))
    path = providers["providers"][0]["options"]["path"]
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text("utf-8"))
    assert f"./grafana/dashboards:{path}:ro" in compose["services"]["grafana"]["volumes"]


if grafana_types.is_installed():

    def test_the_json_has_grafanas_types() -> None:
        """Once `python -m tests.grafana_types` has been run: it needs Node, and packages from npm."""
        assert not grafana_types.complaints(files().values())
