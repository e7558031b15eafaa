"""The running projections against their own OpenAPI document, by schemathesis: a short run of what the command does."""

import asyncio
from pathlib import Path

import pytest

from events.kafka import KafkaSettings
from tests.api_conformance import attacked, filled


@pytest.mark.timeout(300)
async def test_schemathesis_finds_nothing(kafka: KafkaSettings, tmp_path: Path) -> None:
    system = await filled(kafka, tmp_path)
    try:
        options = ("--max-examples", "4", "--seed", "20261125")
        said = await asyncio.to_thread(attacked, system, *options)
    finally:
        system.kill()
    assert said.returncode == 0, said.stdout[-6_000:] + said.stderr[-2_000:]
