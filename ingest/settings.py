"""Ingest's settings: names, units, defaults; read once at start."""

from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, Field, SecretStr

from events.kafka import KafkaSettings
from events.pbx import PbxSettings
from ingest.segments import PAYLOAD_BYTES_MAX

Network = IPv4Network | IPv6Network

BODY_BYTES_MAX: Final = PAYLOAD_BYTES_MAX - 1024**2
"""What the journal can hold, beside the longest head."""
WHOLE_S_MAX: Final = 3.4
"""From a request's first byte to its last, at most; with the time for the journal the answer comes within 5 s."""


def networks_of(text: str) -> tuple[Network, ...]:
    """The comma-separated networks in `text`; raises ValueError naming the wrong one."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def _are_networks(text: str) -> str:
    networks_of(text)
    return text


Networks = Annotated[str, AfterValidator(_are_networks)]


class Key(StrEnum):
    """What the records of ``threecx.webhooks`` are keyed by."""

    PBX = "pbx"
    AGENT = "agent"


class IngestSettings(KafkaSettings, PbxSettings):
    """Environment of ``python -m ingest``."""

    ingest_host: str = Field(default="127.0.0.1", description="Address to listen on.")
    ingest_port: int = Field(default=8080, ge=0, le=65_535, description="Port to listen on.")
    ingest_webhook_secrets: SecretStr = Field(
        default=SecretStr(""),
        description="Valid values of X-Webhook-Secret, comma-separated; empty: no authentication.",
    )
    ingest_signature_keys: SecretStr = Field(
        default=SecretStr(""),
        description="Keys of Standard Webhooks signatures (whsec_…), comma-separated; empty: signatures do not count.",
    )
    ingest_allowed_networks: Networks = Field(
        default="", description="Networks that may post, comma-separated (CIDR); empty: all."
    )
    ingest_trusted_proxies: Networks = Field(
        default="", description="Networks whose X-Forwarded-For is believed, comma-separated (CIDR)."
    )
    ingest_body_bytes_max: int = Field(
        default=65_536, ge=1, le=BODY_BYTES_MAX, description="Bytes of a body (15 MiB at most); a longer one gets 413."
    )
    ingest_body_timeout_s: float = Field(default=3.0, gt=0, le=WHOLE_S_MAX, description="Seconds for a body; then 408.")
    ingest_head_bytes_max: int = Field(
        default=16_384, ge=256, le=65_536, description="Bytes of a request's line and headers; longer ones get 431."
    )
    ingest_head_timeout_s: float = Field(
        default=3.0,
        gt=0,
        le=WHOLE_S_MAX,
        description="Seconds for a head, and for the first byte of a connection; then 408.",
    )
    ingest_idle_timeout_s: float = Field(
        default=75.0, gt=0, description="Seconds that a connection may stay open between requests."
    )
    ingest_connections_max: int = Field(default=4_096, ge=1, description="Connections at once; more get 503.")
    ingest_tls_certificate_file: Path | None = Field(
        default=None, description="PEM of the certificate and its chain; empty: plain HTTP."
    )
    ingest_tls_key_file: Path | None = Field(default=None, description="PEM of the certificate's key.")
    ingest_rate_max: float = Field(
        default=0.0, ge=0, description="Webhooks per second and PBX; more get 429; 0: no limit."
    )
    ingest_journal_bytes_max: int = Field(
        default=2 * 1024**3, ge=1024**2, description="Bytes of the journal on disk; at it webhooks get 503."
    )
    ingest_journal_segment_bytes: int = Field(
        default=8 * 1024**2, ge=64 * 1024, description="Bytes of a journal file before the next one is begun."
    )
    ingest_journal_age_max_s: float = Field(
        default=3_600.0,
        gt=0,
        description="Seconds that a record may wait for Kafka; beyond it health says is_behind; nothing is deleted.",
    )
    ingest_key: Key = Field(default=Key.PBX, description="pbx or agent: what records are keyed by.")
    ingest_forward_timeout_s: float = Field(
        default=10.0, gt=0, description="Seconds for Kafka to acknowledge; then the producer is replaced."
    )
    ingest_shutdown_grace_s: float = Field(
        default=5.0, ge=0, description="Seconds at shutdown to forward what the journal still holds."
    )

    @property
    def has_secrets(self) -> bool:
        """Whether whoever posts for a PBX without rights of its own must show who it is."""
        return bool(self.secrets or self.ingest_signature_keys.get_secret_value().strip(", "))

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """The valid secrets; empty when there is no authentication."""
        return secrets_of(self.ingest_webhook_secrets)


def secrets_of(*secrets: SecretStr) -> tuple[bytes, ...]:
    """The non-empty secrets in comma-separated texts, as bytes."""
    words = (word.strip() for secret in secrets for word in secret.get_secret_value().split(","))
    return tuple(word.encode() for word in words if word)
