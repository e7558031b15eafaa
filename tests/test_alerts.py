"""The alerts: promtool's own tests (each fires and stays silent), and a runbook page for each."""

import subprocess
from pathlib import Path

import yaml

from events.metrics import CATALOGUE, Metrics

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "deploy" / "prometheus"
RULES = yaml.safe_load((FOLDER / "alerts.yaml").read_text("utf-8"))["groups"][0]["rules"]


def test_every_alert_fires_and_stays_silent_as_promtool_sees_it() -> None:
    done = subprocess.run(
        ["promtool", "test", "rules", "alerts.test.yaml"], cwd=FOLDER, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    named = {one["name"] for one in yaml.safe_load((FOLDER / "alerts.test.yaml").read_text("utf-8"))["tests"]}
    assert named == {f"{rule['alert']} {does}" for rule in RULES for does in ("fires", "stays silent")}


def test_every_alert_has_a_severity_and_a_runbook_page() -> None:
    for rule in RULES:
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        page = (ROOT / rule["annotations"]["runbook"]).read_text("utf-8")
        assert all(f"## {part}" in page for part in ("Meaning", "What to look at", "What to do"))
    assert {path.stem for path in (ROOT / "docs" / "runbook").glob("*.md")} == {rule["alert"] for rule in RULES}


def test_every_alert_asks_for_metrics_of_the_catalogue() -> None:
    known = {
        name
        for service in CATALOGUE
        for metric in Metrics(service).registry.collect()
        for name in (metric.name, f"{metric.name}_total")
    }
    for rule in RULES:
        asked = {
            word
            for word in "".join(c if c.isalnum() or c == "_" else " " for c in rule["expr"]).split()
            if word.startswith("threecx_")
        }
        assert asked <= known, rule["alert"]
