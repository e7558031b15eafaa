"""A dashboard as data, and the JSON that Grafana reads of it.

Source: Grafana's published schema (npm `@grafana/schema`), which `python -m tests.grafana_types` checks the JSON with.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

Json = dict[str, Any]
Unit = Literal["short", "s", "bytes", "percentunit", "reqps", "ops", "none", "bool_yes_no"]
Look = Literal["timeseries", "stat", "state-timeline"]

DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
SCHEMA_VERSION: Final = 41
COLUMNS: Final = 24
PANEL_HEIGHT: Final = 8
STAT_HEIGHT: Final = 4
TAG: Final = "callstream"
OURS: Final = 'job=~"$job", instance=~"$instance"'
"""The matchers that every query has."""


@dataclass(frozen=True, slots=True)
class Query:
    """One query and how its series are called, by Grafana's ``{{label}}``."""

    expr: str
    legend: str = "__auto"


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel; `runbooks` are the alerts that watch what it shows; `width` in 24ths of the page.

    `limits`: from which value on it is yellow, and red. `least` and `most` bound the axis.
    """

    title: str
    description: str
    unit: Unit
    queries: tuple[Query, ...]
    look: Look = "timeseries"
    width: int = 8
    runbooks: tuple[str, ...] = ()
    limits: tuple[float, float] | None = None
    stacked: bool = False
    most: float | None = None
    words: tuple[tuple[str, str, str], ...] = ()
    """For a state: a value, its word and its colour."""


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A page; `with_pbx`: its queries may be narrowed to some PBXs."""

    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]
    with_pbx: bool = False


def document(dashboard: Dashboard, others: Sequence[Dashboard]) -> Json:
    """The dashboard as Grafana's JSON; `others` are linked."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": [TAG],
        "schemaVersion": SCHEMA_VERSION,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "links": [*(_page_link(one) for one in others), _docs_link()],
        "templating": {"list": list(_variables(dashboard))},
        "annotations": {"list": [_alerts_shown()]},
        "panels": list(_placed(dashboard.rows)),
    }


def _page_link(dashboard: Dashboard) -> Json:
    return _link(dashboard.title, f"/d/{dashboard.uid}", dashboard.description) | {
        "keepTime": True,
        "includeVars": True,
    }


def _docs_link() -> Json:
    return _link("Monitoring, and what each alert asks for", "${docs}/monitoring.md", "Set the variable Docs") | {
        "targetBlank": True
    }


def _link(title: str, url: str, tooltip: str) -> Json:
    return {
        "type": "link",
        "title": title,
        "url": url,
        "tooltip": tooltip,
        "icon": "external link",
        "tags": [],
        "asDropdown": False,
        "targetBlank": False,
        "includeVars": False,
        "keepTime": False,
    }


def _variables(dashboard: Dashboard) -> Iterator[Json]:
    yield {"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus", "hide": 0}
    yield _values_of("job", "Job", 'label_values(up{job=~"callstream-.*"}, job)')
    yield _values_of("instance", "Instance", 'label_values(up{job=~"$job"}, instance)')
    if dashboard.with_pbx:
        yield _values_of("pbx", "PBX", f"label_values(threecx_ingest_accepted_total{{{OURS}}}, pbx)")
    yield {
        "type": "textbox",
        "name": "docs",
        "label": "Docs",
        "description": "Where the folder docs/ of the repository can be read",
        "query": "/docs",
        "current": {"text": "/docs", "value": "/docs"},
        "hide": 0,
    }


def _values_of(name: str, label: str, query: str) -> Json:
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": DATASOURCE,
        "query": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"text": ["All"], "value": ["$__all"]},
        "hide": 0,
    }


def _alerts_shown() -> Json:
    return {
        "name": "Alerts",
        "enable": True,
        "iconColor": "red",
        "datasource": DATASOURCE,
        "target": {"refId": "alerts", "expr": 'ALERTS{alertname=~"Callstream.*", alertstate="firing"}'},
    }


def _placed(rows: Sequence[Row]) -> Iterator[Json]:
    """Rows from top to bottom, panels from left to right; a line is as high as its highest panel."""
    number, y = 0, 0
    for row in rows:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "panels": [],
            "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
        }
        y += 1
        x = height = 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, height = 0, y + height, 0
            number += 1
            own = STAT_HEIGHT if panel.look == "stat" else PANEL_HEIGHT
            yield _panel(panel, number) | {"gridPos": {"x": x, "y": y, "w": panel.width, "h": own}}
            x, height = x + panel.width, max(height, own)
        y += height


def _panel(panel: Panel, number: int) -> Json:
    return {
        "id": number,
        "type": panel.look,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": DATASOURCE,
                "expr": query.expr,
                "legendFormat": query.legend,
                "range": panel.look != "stat",
                "instant": panel.look == "stat",
            }
            for index, query in enumerate(panel.queries)
        ],
        "links": [
            _link(f"Runbook: {alert}", f"${{docs}}/runbook/{alert}.md", "What it means, and what to do")
            | {"targetBlank": True}
            for alert in panel.runbooks
        ],
        "fieldConfig": {"defaults": _field(panel), "overrides": []},
        "options": _OPTIONS[panel.look],
    }


def _field(panel: Panel) -> Json:
    steps: list[Json] = [{"color": "green", "value": None}]
    if panel.limits is not None:
        steps += [{"color": "yellow", "value": panel.limits[0]}, {"color": "red", "value": panel.limits[1]}]
    field: Json = {
        "unit": panel.unit,
        "min": 0,
        "thresholds": {"mode": "absolute", "steps": steps},
        "color": {"mode": "palette-classic" if panel.look == "timeseries" else "thresholds"},
    }
    if panel.most is not None:
        field["max"] = panel.most
    if panel.words:
        options = {
            value: {"text": word, "color": color, "index": i} for i, (value, word, color) in enumerate(panel.words)
        }
        field["mappings"] = [{"type": "value", "options": options}]
    if panel.look == "timeseries":
        field["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 10,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "line" if panel.limits else "off"},
        }
    return field


_OPTIONS: Final[dict[Look, Json]] = {
    "timeseries": {
        "legend": {"showLegend": True, "displayMode": "list", "placement": "bottom", "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "graphMode": "none",
        "colorMode": "value",
        "justifyMode": "auto",
        "textMode": "auto",
        "orientation": "auto",
        "wideLayout": True,
        "showPercentChange": False,
        "percentChangeColorMode": "standard",
    },
    "state-timeline": {
        "legend": {"showLegend": False, "displayMode": "list", "placement": "bottom", "calcs": []},
        "tooltip": {"mode": "single", "sort": "none"},
        "showValue": "auto",
        "rowHeight": 0.9,
        "mergeValues": True,
        "alignValue": "left",
    },
}
