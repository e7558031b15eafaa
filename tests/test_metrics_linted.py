"""The catalogue as promtool's linter sees it."""

import subprocess

import pytest
from prometheus_client import generate_latest

from events.metrics import Metrics, Service


@pytest.mark.parametrize("service", ["ingest", "processors", "projections"])
def test_promtool_finds_nothing_to_say_about_the_catalogue(service: Service) -> None:
    text = generate_latest(Metrics(service).registry)
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
