"""Traces: a webhook's way through the services as linked spans, carried in the Kafka header ``traceparent``.

Off by default: then `tracing_of` is null, nothing of OpenTelemetry is imported, and no record has one more header.
"""

from collections.abc import Iterable
from typing import Final, Literal, Protocol

from events.settings import ConfigurationError, Settings

HEADER: Final = "traceparent"
Header = tuple[str, bytes]
Step = Literal["accept", "forward", "process", "project"]


class Tracing(Protocol):
    """What a service tells of its steps. Times are seconds since 1970; attributes: ``__`` stands for a dot."""

    def header(self, ce_id: str, step: Step) -> list[Header]:
        """What a record carries after `step`; nothing for a webhook that is not traced."""

    def header_of(self, session_event: bytes | None) -> list[Header]:
        """The same for a session event that was written: it belongs to the trace of its last cause."""

    def took(self, step: Step, ce_id: str, began_s: float, ended_s: float, **attributes: str | int) -> None:
        """A step of ingest's: what came before it follows from the webhook's id."""

    def followed(
        self, step: Step, headers: Iterable[Header], began_s: float, ended_s: float, **attributes: str | int
    ) -> None:
        """A step on a record: what came before it is in the record's headers; without it there is no span."""

    def close(self) -> None:
        """Export what waits; at the end of a service."""


def tracing_of(service: str, settings: Settings) -> Tracing | None:
    """The traces that the settings ask for, null for none; raises ConfigurationError when the extra is missing."""
    if settings.tracing_endpoint is None:
        return None
    try:
        from events import spans  # noqa: PLC0415 - an extra, and half a second at start
    except ImportError:
        message = "TRACING_ENDPOINT: traces need the extra: pip install callstream[tracing], or empty the variable"
        raise ConfigurationError(message) from None
    return spans.exported(service, settings.tracing_endpoint, settings.tracing_share)
