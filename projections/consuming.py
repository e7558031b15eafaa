"""How the projector reads the session topic: aiokafka's options, and FastStream's terms for the connection."""

from typing import Any, Final

from faststream.kafka import KafkaBroker
from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

from events.kafka import KafkaSettings, committed_reader, connection, patience
from projections.settings import ProjectionsSettings

FETCH_MAX_WAIT_MS: Final = 50
"""aiokafka asks a broker one thing at a time. What it asks for the other partitions while one has records at hand is
answered only after so long when those have none, and then the records of the one are used up: at 250 ms that was a
quarter of a catching-up."""


def reader_options(settings: ProjectionsSettings) -> dict[str, Any]:
    """The profile of a reader, as far as FastStream does not set it itself."""
    profile = _profile(settings)
    kept = ("isolation_level", "auto_offset_reset", "max_partition_fetch_bytes")
    of_group = ("session_timeout_ms", "heartbeat_interval_ms", "rebalance_timeout_ms")
    return {**{name: profile[name] for name in (*kept, *of_group)}, "fetch_max_wait_ms": FETCH_MAX_WAIT_MS}


def broker_of(settings: ProjectionsSettings) -> KafkaBroker:
    """FastStream's broker; nothing is connected before its start."""
    profile = _profile(settings)
    return KafkaBroker(
        profile["bootstrap_servers"],
        security=_security(settings),
        **{name: profile[name] for name in ("request_timeout_ms", "metadata_max_age_ms")},
        allow_auto_create_topics=False,  # ours are created with their partitions and configs
        apply_types=False,
        logger=None,
        graceful_timeout=5.0,
    )


def _profile(settings: ProjectionsSettings) -> dict[str, Any]:
    """A reader's, with the group's patience, which is a setting."""
    return committed_reader(settings) | patience(settings.projections_session_timeout_s)


def _security(settings: KafkaSettings) -> BaseSecurity | None:
    """The same connection as everywhere, in FastStream's terms."""
    options = connection(settings)
    context = options.get("ssl_context")
    if settings.kafka_security_protocol.startswith("SASL"):
        mechanisms = {"PLAIN": SASLPlaintext, "SCRAM-SHA-256": SASLScram256, "SCRAM-SHA-512": SASLScram512}
        return mechanisms[options["sasl_mechanism"]](
            options["sasl_plain_username"] or "",
            options["sasl_plain_password"] or "",
            ssl_context=context,
            use_ssl=context is not None,
        )
    return BaseSecurity(ssl_context=context, use_ssl=True) if context is not None else None
