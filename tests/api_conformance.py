"""Schemathesis, all its phases, against the projections as they really run: ``python -m tests.api_conformance``.

The service is filled from a real Kafka. The event stream has no end and is left out here; its shapes are checked in
``test_stream.py``. Options after the module's name go to schemathesis as they are, ``--max-examples 500`` for one.
"""

import asyncio
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import httpx

from deploy.local.brokers import running
from events.kafka import KafkaSettings, ensure_topics
from tests.system import System, append
from tests.test_projections_on_kafka import session_records
from tests.waiting import eventually

CALLS = 40
PHASES = "examples,coverage,fuzzing,stateful"
TOKEN = "conformance"


async def filled(kafka: KafkaSettings, folder: Path) -> System:
    """The projections with some calls, all of them read."""
    system = System(kafka, folder, PROJECTIONS_API_TOKENS=TOKEN)
    records = session_records(CALLS)
    await append(kafka, records, kafka.topic_set.call_sessions)
    system.start("projections")
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {TOKEN}"}) as client:

        async def calls() -> int:
            try:
                return len((await client.get(f"{system.board}/api/v1/calls?limit=1000")).json()["calls"])
            except (httpx.TransportError, KeyError):
                return 0

        await eventually(calls, lambda seen: seen == CALLS, 60)
    return system


def attacked(system: System, *options: str) -> subprocess.CompletedProcess[str]:
    """What schemathesis says; its exit status is 0 when it found nothing."""
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{system.board}/openapi.json"]
    command += ["--phases", PHASES, "--exclude-path", "/api/v1/stream", "--header", f"Authorization: Bearer {TOKEN}"]
    command += ["--no-color", "--generation-database", "none", "--warnings", "off", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


async def _run(servers: str, folder: Path, options: list[str]) -> int:
    kafka = KafkaSettings(
        kafka_bootstrap_servers=servers,
        kafka_topic_prefix=f"conformance-{uuid.uuid4().hex[:8]}",
        kafka_topic_partitions=4,
    )
    await ensure_topics(kafka)
    system = await filled(kafka, folder)
    try:
        said = await asyncio.to_thread(attacked, system, *options)
    finally:
        system.kill()
    print(said.stdout, said.stderr)
    return said.returncode


def main(options: list[str]) -> int:
    """Start a broker, run, print what was found; the exit status is schemathesis' own."""
    with (
        tempfile.TemporaryDirectory(prefix="callstream-conformance-") as folder,
        running(Path(folder) / "kafka") as broker,
    ):
        return asyncio.run(_run(broker.bootstrap_servers, Path(folder), options))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["--max-examples", "200"]))
