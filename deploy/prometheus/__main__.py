"""``python -m deploy.prometheus``: write docs/metrics.md anew from the catalogue."""

from collections.abc import Iterator
from pathlib import Path

from events.metrics import CATALOGUE, Label, Metric, Service

PAGE = Path(__file__).parent.parent.parent / "docs" / "metrics.md"
HEAD = """# Metrics

Written by `python -m deploy.prometheus` from `events/metrics.py`, where each metric is declared once. A test runs a
whole system through calls, faults and restarts and sees that each one is fed, and that there is no other one. Labels
are bounded: by the values given, or by what is named. Those with given values are there from the start, at 0. No
label ever holds a number, an agent or an id. [monitoring.md](monitoring.md) tells what to do with them.
"""


def page() -> str:
    """The page's text."""
    return "\n".join([HEAD, *(line for service in CATALOGUE for line in _section(service))])


def _section(service: Service) -> Iterator[str]:
    yield f"## {service.capitalize()}\n"
    yield "| metric | kind | labels | meaning |"
    yield "|---|---|---|---|"
    for metric in CATALOGUE[service]:
        labels = "; ".join(map(_bound, metric.labels))
        yield f"| `threecx_{service}_{metric.name}` | {_kind(metric)} | {labels} | {metric.meaning} |"
    yield ""


def _kind(metric: Metric) -> str:
    return f"histogram: {', '.join(f'{one:g}' for one in metric.buckets)}" if metric.buckets else metric.kind


def _bound(label: Label) -> str:
    return f"`{label.name}`: {label.bound or ', '.join(label.values)}"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
