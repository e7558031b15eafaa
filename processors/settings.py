"""The processors' settings: names, units, defaults; read once at start."""

from pydantic import Field

from events.kafka import KafkaSettings
from events.pbx import PbxSettings
from processors.rules import Rules


class ProcessorsSettings(KafkaSettings, PbxSettings):
    """Environment of ``python -m processors``."""

    processors_host: str = Field(default="127.0.0.1", description="Address for /metrics and /health.")
    processors_port: int = Field(default=8082, ge=0, le=65_535, description="Port for /metrics and /health.")
    processors_application: str = Field(
        default="callstream-processors",
        pattern=r"^[a-zA-Z0-9._-]{1,200}$",
        description="Consumer group, and first part of each transactional id.",
    )
    processors_call_duration_max_s: int = Field(
        default=14_400, ge=1, description="Seconds of live time after which a call without an end is end_missed."
    )
    processors_superseded_grace_s: int = Field(
        default=900, ge=0, description="Seconds of live time that a call may go on beside a newer one of its agent."
    )
    processors_absence_grace_s: int = Field(
        default=60, ge=0, description="Seconds of live time after two lists of the PBX without an open call."
    )
    processors_ring_max_s: int = Field(
        default=3_600, ge=0, description="Seconds that a start may lie before end - duration (ringing, queueing)."
    )
    processors_tolerance_s: int = Field(
        default=120, ge=0, description="Seconds that a start may lie after end - duration (clocks, rounding)."
    )
    processors_closed_kept_s: int = Field(
        default=86_400, ge=1, description="Seconds of live time that closed calls are kept for late evidence."
    )
    processors_clock_skew_warn_s: float = Field(
        default=1_800, gt=0, description="Seconds that a PBX's clock may differ from ours before a warning."
    )
    processors_batch_records_max: int = Field(default=2_000, ge=1, description="Records per transaction at the most.")
    processors_session_timeout_s: float = Field(
        default=15.0, ge=1, description="Seconds after which a silent processor loses its partitions."
    )
    processors_instance: str = Field(
        default="",
        max_length=200,
        description="A name that this process keeps over restarts and no other of its group has: killed, it has its"
        " partitions again at once, not after the session timeout. Empty: none.",
    )

    @property
    def rules(self) -> Rules:
        """The numbers of the pairing rules."""
        return Rules(
            call_duration_max_s=self.processors_call_duration_max_s,
            superseded_grace_s=self.processors_superseded_grace_s,
            ring_max_s=self.processors_ring_max_s,
            tolerance_s=self.processors_tolerance_s,
            closed_kept_s=self.processors_closed_kept_s,
            absence_grace_s=self.processors_absence_grace_s,
        )

    @property
    def transaction_timeout_s(self) -> float:
        """Below the session timeout: what a dead owner left is aborted before its partition has a new owner."""
        return max(1.0, self.processors_session_timeout_s * 0.6)

    def transactional_id(self, partition: int) -> str:
        """The static id of an input partition's producer: who starts it fences whoever had the partition before."""
        return f"{self.processors_application}-{self.topic_set.webhooks}-{partition}"
