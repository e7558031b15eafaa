"""The poller's settings: names, units, defaults; read once at start. What may change meanwhile is in its file."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from events.kafka import KafkaSettings
from events.pbx import PbxSettings
from ingest.settings import Key


def url_of(text: str) -> str:
    """The address of a PBX without a slash at its end; raises ValueError for what is none."""
    if text and not text.startswith(("https://", "http://")):
        message = "write it as https://pbx.example.com"
        raise ValueError(message)
    return text.rstrip("/")


class PollSettings(KafkaSettings, PbxSettings):
    """Environment of ``python -m ingest poll``."""

    polling_enabled: bool = Field(default=False, description="Whether to poll, where no POLLING_CONFIG says it.")
    polling_config: Path | None = Field(
        default=None, description='JSON file {"polling": {"enabled": …}}, watched: a change needs no restart.'
    )
    polling_url: Annotated[str, AfterValidator(url_of)] = Field(default="", description="Of the default PBX.")
    polling_client_id: str = Field(default="", description="XAPI client of the default PBX.")
    polling_client_secret: SecretStr = Field(default=SecretStr(""), description="Its secret.")
    polling_interval_s: float = Field(
        default=1.0, ge=0.2, le=600, description="Seconds between two polls: 1 beside webhooks, 30 as a witness."
    )
    polling_witness: bool = Field(
        default=False, description="Whether lists of active calls go to the processors, where the file does not say."
    )
    polling_witness_interval_s: float = Field(
        default=30.0, ge=1, le=600, description="Seconds between two lists for the processors, however often is polled."
    )
    polling_history: bool = Field(
        default=False, description="Whether ends are asked from CallHistoryView, where the file does not say."
    )
    polling_history_interval_s: float = Field(
        default=60.0, ge=5, le=3_600, description="Seconds between two askings for the history of calls."
    )
    polling_history_back_s: int = Field(
        default=7_200, ge=60, le=86_400, description="Seconds back that the history of calls is asked for."
    )
    ingest_key: Key = Field(default=Key.PBX, description="pbx or agent: what records are keyed by.")
    polling_timeout_s: float = Field(default=5.0, gt=0, le=60, description="Seconds for a request to the PBX.")
    polling_backoff_s_max: float = Field(default=60.0, gt=0, description="Seconds between tries after failures.")
    polling_answer_bytes_max: int = Field(
        default=900_000, ge=1_000, description="Bytes of an answer; a longer one is no evidence, and is counted."
    )
    polling_host: str = Field(default="127.0.0.1", description="Address for /metrics and /health.")
    polling_port: int = Field(default=8083, ge=0, le=65_535, description="Port for /metrics and /health.")
    polling_application: str = Field(
        default="callstream-poller",
        pattern=r"^[a-zA-Z0-9._-]{1,200}$",
        description="Consumer group whose members share the PBXs, and first part of each transactional id.",
    )
    polling_session_timeout_s: float = Field(
        default=15.0, ge=1, description="Seconds after which another poller takes a silent one's PBXs."
    )
