"""Traces on a real Kafka, told to a collector: one webhook, four linked spans; and nothing at all when off."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from events.kafka import KafkaSettings
from events.settings import Settings
from events.spans import Spans
from events.tracing import HEADER, tracing_of
from tests.builders import end, start, zulu
from tests.system import System, read_committed
from tests.waiting import eventually

STEPS = ("accept", "forward", "process", "project")


class Collector(HTTPServer):
    """Takes OTLP over HTTP and keeps the spans, each with the service that told it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Taking)
        self.spans: list[tuple[str, Span]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/traces"

    def of(self, trace: str) -> dict[str, tuple[str, Span]]:
        """The spans of a trace, by their names."""
        return {span.name: (service, span) for service, span in self.spans if span.trace_id.hex() == trace}


class _Taking(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert isinstance(self.server, Collector)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            said = {one.key: one.value.string_value for one in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.server.spans += [(said["service.name"], span) for span in scope.spans]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Not on the test's output."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


async def post(client: httpx.AsyncClient, system: System, body: dict[str, object]) -> str:
    answer = await client.post(f"{system.door}/webhook/3cx/call-event", json=body)
    return str(answer.json()["id"])


async def test_a_webhook_is_one_trace_of_four_linked_spans_through_the_kafka_headers(
    kafka: KafkaSettings, tmp_path: Path, collector: Collector
) -> None:
    system = System(kafka, tmp_path, TRACING_ENDPOINT=collector.url)
    system.start()
    try:
        await system.ready()
        now = zulu(datetime.now(UTC))
        party = "+41790077123"
        async with httpx.AsyncClient() as client:
            began = await post(client, system, start(party=party, startTime=now))
            ended = await post(client, system, end(party=party, endUtc=now))

        async def told() -> list[set[str]]:
            return [set(collector.of(trace)) for trace in (began, ended)]

        await eventually(told, lambda seen: seen == [set(STEPS)] * 2)
        for trace in (began, ended):
            _is_linked(collector.of(trace))
        assert party.encode() not in b"".join(span.SerializeToString() for _, span in collector.spans)
        webhooks = await read_committed(kafka, kafka.topic_set.webhooks)
        carried = [dict(one.headers)[HEADER].decode() for one in webhooks if one.value]
        assert [one.split("-")[1] for one in carried] == [began, ended]
    finally:
        system.kill()


def _is_linked(spans: dict[str, tuple[str, Span]]) -> None:
    """Each one's parent is the step before, and none begins before it."""
    assert [spans[step][0] for step in STEPS] == [
        "callstream-ingest",
        "callstream-ingest",
        "callstream-processors",
        "callstream-projections",
    ]
    before: Span | None = None
    for step in STEPS:
        span = spans[step][1]
        assert span.parent_span_id == (b"" if before is None else before.span_id), step
        assert span.start_time_unix_nano <= span.end_time_unix_nano
        assert before is None or span.start_time_unix_nano >= before.start_time_unix_nano
        before = span
    assert len({span.span_id for _, span in spans.values()}) == len(STEPS)


async def test_a_collector_that_is_away_holds_up_nothing(kafka: KafkaSettings, tmp_path: Path) -> None:
    system = System(kafka, tmp_path, TRACING_ENDPOINT="http://127.0.0.1:9/v1/traces")
    system.start()
    try:
        await system.ready()
        async with httpx.AsyncClient() as client:
            await post(client, system, end())

            async def calls() -> int:
                return len((await client.get(f"{system.board}/api/v1/calls")).json()["calls"])

            await eventually(calls, lambda count: count == 1)
        assert await asyncio.to_thread(system.stop) == {"ingest": 0, "processors": 0, "projections": 0}
    finally:
        system.kill()


def test_a_share_of_the_webhooks_is_the_same_share_at_every_step() -> None:
    exporter = InMemorySpanExporter()
    spans = Spans("test", 0.25, SimpleSpanProcessor(exporter))
    ids = [f"{number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128:032x}" for number in range(1, 1001)]
    traced = [one for one in ids if spans.header(one, "forward")]
    assert 200 < len(traced) < 300
    for one in ids:
        spans.took("accept", one, 1.0, 2.0)
        spans.followed("process", [*spans.header(one, "forward"), ("ce_id", one.encode())], 2.0, 3.0)
    told = exporter.get_finished_spans()
    assert [f"{span.context.trace_id:032x}" for span in told if span.context] == [one for one in traced for _ in "12"]
    carried = spans.header(traced[0], "forward")
    for headers in (carried, [*carried, ("ce_id", None)], [("ce_id", b"a"), (HEADER, None)]):
        spans.followed("process", headers, 2.0, 3.0)  # type: ignore[arg-type]  # anybody can write such a record
    assert len(exporter.get_finished_spans()) == len(told)
    assert spans.header("not an id of ours", "forward") == []
    assert spans.header_of(b'{"type":"threecx.feed.progress"}') == []


def test_without_the_setting_there_is_no_tracing_and_our_spans_are_not_imported() -> None:
    assert tracing_of("ingest", Settings()) is None
    program = "import ingest.app, processors.app, projections.app, sys; sys.exit('events.spans' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
