"""Ingest's composition root: journal, forwarder, HTTP; started in this order and stopped in the reverse."""

import asyncio
import contextlib
import sys
from datetime import UTC, datetime
from typing import Final

import structlog

from events.kafka_client import count_silences
from events.memory import collect_garbage_seldom, give_large_buffers_back
from events.metrics import Metrics
from events.pbx import pbxs_of
from events.serving import ensure_data_dir, listen
from events.settings import ConfigurationError
from events.tracing import tracing_of
from ingest.connections import connections
from ingest.forwarder import Forwarder
from ingest.http import Door
from ingest.journal import open_journal
from ingest.requests import Limits
from ingest.settings import IngestSettings
from ingest.tls import Tls

GRACE_S: Final = 5.0
DURABLE_TIMEOUT_S: Final = 1.5
SWITCH_S: Final = 0.0005

log = structlog.get_logger()


def now() -> datetime:
    """The wall clock, read here and nowhere else in the accept path."""
    return datetime.now(UTC)


def limits_of(settings: IngestSettings) -> Limits:
    """The limits of the door's connections."""
    return Limits(
        settings.ingest_connections_max,
        settings.ingest_head_bytes_max,
        settings.ingest_body_bytes_max,
        settings.ingest_head_timeout_s,
        settings.ingest_body_timeout_s,
        settings.ingest_idle_timeout_s,
        DURABLE_TIMEOUT_S,
    )


def tls_of(settings: IngestSettings) -> Tls | None:
    """TLS, when both files are set; raises ConfigurationError when only one is, or they cannot be used."""
    certificate, key = settings.ingest_tls_certificate_file, settings.ingest_tls_key_file
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise ConfigurationError("INGEST_TLS_CERTIFICATE_FILE, INGEST_TLS_KEY_FILE: set both, or none")
    return Tls(certificate, key)


async def main(settings: IngestSettings) -> None:
    """Run until cancelled; raises ConfigurationError for what no retry can help.

    At the end: 1. stop accepting and answer what is in flight; 2. sync the journal; 3. forward what can be forwarded
    within the grace; what cannot stays in the journal for the next start.
    """
    # The journal's thread comes back from the disk and waits for the interpreter: 5 ms, longer than the disk took.
    sys.setswitchinterval(SWITCH_S)
    collect_garbage_seldom()
    give_large_buffers_back()
    pbxs = pbxs_of(settings)
    ensure_data_dir(settings)
    tls = tls_of(settings)
    if not settings.has_secrets and not all(pbx.webhook_secrets or pbx.signature_keys for pbx in pbxs.values()):
        log.warning("NO AUTHENTICATION: anybody who reaches this port can post; set INGEST_WEBHOOK_SECRETS")
    listener = listen(settings.ingest_host, settings.ingest_port, "INGEST_PORT")
    journal, recovery = open_journal(
        settings.data_dir / "journal", settings.ingest_journal_bytes_max, settings.ingest_journal_segment_bytes
    )
    if recovery.records or recovery.damaged_bytes or recovery.torn_bytes:
        log.warning(
            "journal recovered",
            records=recovery.records,
            damaged_bytes=recovery.damaged_bytes,
            torn_bytes=recovery.torn_bytes,
        )
    metrics = Metrics("ingest")
    count_silences(metrics.counter("kafka_silences_total").inc)
    journal.observe_sync = metrics.histogram("journal_sync_seconds").observe
    tracing = tracing_of("ingest", settings)
    forwarder = Forwarder(settings, journal, metrics, now, tracing=tracing)
    door = Door(settings, pbxs, journal, forwarder, metrics, now, tracing)
    opened = metrics.gauge("connections").set
    watching = asyncio.create_task(tls.watch()) if tls is not None else None
    committing = asyncio.create_task(journal.run())
    forwarding = asyncio.create_task(forwarder.run())
    try:
        async with connections(
            door, limits_of(settings), listener, None if tls is None else tls.context, GRACE_S, opened
        ):
            log.info("accepting", host=settings.ingest_host, port=settings.ingest_port, pbxs=len(pbxs))
            # Neither ever ends by itself: if one does, it is a broken invariant, and the process must not go on.
            done, _ = await asyncio.wait({committing, forwarding}, return_when=asyncio.FIRST_COMPLETED)
            done.pop().result()
    finally:
        if watching is not None:
            await _stopped(watching)
        await _stopped(committing)
        with contextlib.suppress(TimeoutError):
            if not forwarding.done():
                await asyncio.wait_for(forwarder.drained(), settings.ingest_shutdown_grace_s)
        await _stopped(forwarding)
        journal.close()
        if tracing is not None:
            tracing.close()


async def _stopped(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait({task})
