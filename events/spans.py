"""The spans of `events.tracing`, by OpenTelemetry's SDK: imported only where traces are on.

A trace is named by its webhook: the trace id is the ``ce_id``, and the id of each step's span follows from it. Nothing
has to be remembered between two steps, a restart breaks no trace, and a step that is done twice is the same span twice.
Source: W3C Trace Context for the header; OpenTelemetry's semantic conventions for the names of attributes.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Final

import orjson
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, set_span_in_context

from events.tracing import HEADER, Header, Step

EXPORT_DELAY_MS: Final = 1_000
_KINDS: Final = {
    "accept": SpanKind.SERVER,
    "forward": SpanKind.PRODUCER,
    "process": SpanKind.CONSUMER,
    "project": SpanKind.CONSUMER,
}
_BEFORE: Final[Mapping[Step, Step]] = {"forward": "accept"}
_CARRIED = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-01")
_TRACE = re.compile(r"[0-9a-f]{32}")


class _Ids(IdGenerator):
    """The ids that were set just before: a span is begun without anything in between."""

    def __init__(self) -> None:
        self.trace = 0
        self.span = 0

    def generate_trace_id(self) -> int:
        return self.trace

    def generate_span_id(self) -> int:
        return self.span


class Spans:
    """`events.tracing.Tracing` for real."""

    def __init__(self, service: str, share: float, processor: SpanProcessor) -> None:
        """`share` of the webhooks are traced; spans go to `processor`."""
        self._ids = _Ids()
        self._share = TraceIdRatioBased(share)
        self._provider = TracerProvider(
            sampler=self._share,
            resource=Resource.create({"service.name": f"callstream-{service}"}),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("callstream")

    def header(self, ce_id: str, step: Step) -> list[tuple[str, bytes]]:
        """What a record carries after `step`; nothing for a webhook that is not traced."""
        if not _TRACE.fullmatch(ce_id) or not self._is_sampled(int(ce_id, 16)):
            return []
        return [(HEADER, b"00-%s-%016x-01" % (ce_id.encode(), _span_of(ce_id, step)))]

    def header_of(self, session_event: bytes | None) -> list[tuple[str, bytes]]:
        """The same for a session event that was written: it belongs to the trace of its last cause."""
        causes = orjson.loads(session_event or b"{}").get("causes")
        return self.header(causes[-1]["ce_id"], "process") if causes else []

    def took(self, step: Step, ce_id: str, began_s: float, ended_s: float, **attributes: str | int) -> None:
        """A step of ingest's: what came before it follows from the webhook's id."""
        if self.header(ce_id, step):
            before = _BEFORE.get(step)
            led = None if before is None else _span_of(ce_id, before)
            self._tell(step, ce_id, _span_of(ce_id, step), led, began_s, ended_s, attributes)

    def followed(
        self, step: Step, headers: Iterable[Header], began_s: float, ended_s: float, **attributes: str | int
    ) -> None:
        """A step on a record: what came before it is in the headers; without it, or an id, there is no span."""
        said = dict(headers)
        found, ce_id = _CARRIED.fullmatch(said.get(HEADER) or b""), said.get("ce_id")
        if found is not None and ce_id:
            trace, before = found.groups()
            # Of its own id: one webhook can lead to several session events.
            own = _span_of(ce_id.decode("utf-8", "replace"), step)
            self._tell(step, trace.decode(), own, int(before, 16), began_s, ended_s, attributes)

    def close(self) -> None:
        """Export what waits; at the end of a service."""
        self._provider.shutdown()

    def _is_sampled(self, trace: int) -> bool:
        return self._share.should_sample(None, trace, "").decision is Decision.RECORD_AND_SAMPLE

    def _tell(
        self,
        step: Step,
        trace: str,
        own: int,
        before: int | None,
        began_s: float,
        ended_s: float,
        attributes: Mapping[str, str | int],
    ) -> None:
        self._ids.trace, self._ids.span = int(trace, 16), own
        context = None
        if before is not None:
            carried = SpanContext(self._ids.trace, before, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
            context = set_span_in_context(NonRecordingSpan(carried))
        named = {name.replace("__", "."): value for name, value in attributes.items()}
        span = self._tracer.start_span(step, context, _KINDS[step], named, start_time=int(began_s * 1e9))
        span.end(int(max(began_s, ended_s) * 1e9))


def _span_of(ce_id: str, step: Step) -> int:
    digest = hashlib.blake2b(f"{ce_id}/{step}".encode(), digest_size=8, person=b"span").digest()
    return int.from_bytes(digest, "big") or 1


def exported(service: str, endpoint: str, share: float) -> Spans:
    """Spans for a collector that takes OTLP over HTTP at `endpoint`; what it does not take in time is dropped."""
    exporter = OTLPSpanExporter(endpoint=endpoint, timeout=5)
    return Spans(service, share, BatchSpanProcessor(exporter, schedule_delay_millis=EXPORT_DELAY_MS))
