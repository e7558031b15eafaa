"""The alerts: promtool's own tests (each fires and stays silent), faults planted in each, and a runbook page each."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from events.metrics import CATALOGUE, Metrics

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "deploy" / "prometheus"
RULES = yaml.safe_load((FOLDER / "alerts.yaml").read_text("utf-8"))["groups"][0]["rules"]
TESTS = {path: yaml.safe_load(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.test.yaml"))}

Rule = dict[str, Any]


def promtool(*arguments: str | Path, folder: Path = FOLDER) -> tuple[int, str]:
    done = subprocess.run(["promtool", *map(str, arguments)], cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_every_alert_fires_and_stays_silent_as_promtool_sees_it() -> None:
    code, told = promtool("test", "rules", *TESTS)
    assert code == 0, told
    named = {one["name"] for tests in TESTS.values() for one in tests["tests"]}
    assert named == {f"{rule['alert']} {does}" for rule in RULES for does in ("fires", "stays silent")}


def test_promtools_linter_has_nothing_to_say() -> None:
    code, told = promtool("check", "rules", "--lint=all", "--lint-fatal", "alerts.yaml")
    assert code == 0, told


def faults(rule: Rule) -> Iterator[tuple[str, Rule]]:
    """The rule with one thing wrong in it: what a slip of the hand would make of it."""
    expr = rule["expr"]
    if "for" in rule:
        yield "it waits for ever", rule | {"for": "999h"}
    if " and " in expr:
        yield "a condition is missing", rule | {"expr": expr[: expr.index(" and ")]}
    if " or " in expr:
        first = expr[: expr.index(" or ")]
        yield "only the first case", rule | {"expr": first + ")" * (first.count("(") - first.count(")"))}
    yield "never", rule | {"expr": f"({expr}) and on() vector(1) == 2"}
    number = re.search(r"(?<=[>=] )[0-9.]+|(?<=\], )4(?= \*)", expr)
    if number is None:  # it compares with a limit that is a metric, too
        yield "a third of the limit", rule | {"expr": f"{expr} / 3"}
        yield "three times the limit", rule | {"expr": f"{expr} * 3"}
        return
    value = float(number.group())
    for wrong in (value * 3, value / 3) if value else (7_000.0,):
        changed = expr[: number.start()] + f"{wrong:g}" + expr[number.end() :]
        yield f"{wrong:g} in place of {value:g}", rule | {"expr": changed}


FAULTS = [pytest.param(fault, id=f"{rule['alert']}: {name}") for rule in RULES for name, fault in faults(rule)]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_an_alert_is_found_by_its_tests(fault: Rule, tmp_path: Path) -> None:
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump({"groups": [{"name": "faulty", "rules": [fault]}]}), "utf-8")
    for path, content in TESTS.items():
        mine = [one for one in content["tests"] if one["name"].split()[0] == fault["alert"]]
        if mine:
            (tmp_path / path.name).write_text(yaml.safe_dump(content | {"tests": mine}), "utf-8")
            code, told = promtool("test", "rules", path.name, folder=tmp_path)
            assert code == 1, told
            assert "FAILED" in told
            assert "parse" not in told, "it is the test that fails, not the reading of the rule"


def test_every_alert_has_a_severity_and_a_runbook_page_that_shows_its_expression() -> None:
    for rule in RULES:
        name = rule["alert"]
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert {"summary", "description", "runbook_url"} == set(rule["annotations"])
        assert rule["annotations"]["runbook_url"].endswith(f"docs/runbook/{name}.md")
        page = (ROOT / "docs" / "runbook" / f"{name}.md").read_text("utf-8")
        severity, wait = rule["labels"]["severity"], f", after {rule['for']}" if "for" in rule else ""
        assert page.startswith(f"# {name}\n\nSeverity {severity}{wait}: ")
        assert f"```promql\n{rule['expr']}\n```" in page
        assert [line for line in page.splitlines() if line.startswith("## ")] == [
            "## Meaning",
            "## What to look at",
            "## What to do",
        ]
    assert {path.stem for path in (ROOT / "docs" / "runbook").glob("*.md")} == {rule["alert"] for rule in RULES}


def known_series(*, in_prose: bool = False) -> set[str]:
    """The names of every series that the services expose; prose may name a histogram as a whole."""
    families = [family for service in CATALOGUE for family in Metrics(service).registry.collect()]
    suffixes = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
    wholes = {family.name for family in families if family.type == "histogram"} if in_prose else set()
    return wholes | {family.name + suffix for family in families for suffix in suffixes[family.type]}


@pytest.mark.parametrize("path", [FOLDER / "alerts.yaml", *TESTS, *sorted((ROOT / "docs" / "runbook").glob("*.md"))])
def test_alerts_their_tests_and_pages_speak_only_of_metrics_of_the_catalogue(path: Path) -> None:
    text = path.read_text("utf-8").replace("threecx_(ingest|processors)_dead_letters_total", "")
    for name in re.findall(r"\bthreecx_\w+", text):
        assert name in known_series(in_prose=path.suffix == ".md"), name
