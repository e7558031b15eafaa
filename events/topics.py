"""The topics: one table of names, cleanup and retention. See the design, section 2.4."""

from dataclasses import dataclass
from types import MappingProxyType

MINUTE_MS = 60 * 1000
DAY_MS = 24 * 60 * MINUTE_MS


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it is created: `suffix` follows the prefix, `configs` are Kafka topic configs."""

    suffix: str
    holds: str
    configs: MappingProxyType[str, str]


def _topic(suffix: str, holds: str, **configs: str) -> Topic:
    return Topic(suffix, holds, MappingProxyType({name.replace("_", "."): value for name, value in configs.items()}))


WEBHOOKS = _topic(
    "webhooks",
    "raw webhooks and clock ticks, as ingest received them; the truth that everything is rebuilt from",
    cleanup_policy="delete",
    retention_ms=str(400 * DAY_MS),
    # The received time is in ce_time; the broker's own append time drives retention, whatever a clock says.
    message_timestamp_type="LogAppendTime",
)
CALL_SESSIONS = _topic(
    "call-sessions",
    "session events, for everybody; and feed progress, for the projections",
    cleanup_policy="delete",
    retention_ms=str(400 * DAY_MS),
    message_timestamp_type="LogAppendTime",
)
CHANGELOG = _topic(
    "call-sessions.changelog",
    "the processors' state: one record per kept call, one per known e-mail, one per partition",
    cleanup_policy="compact",
    # What keeps the restore short. The segment that is written to is never compacted, and a tombstone that was is kept
    # for as long as a reader may take from what it deletes to the tombstone itself: a million calls take a minute.
    segment_bytes=str(8 * 1024 * 1024),
    min_cleanable_dirty_ratio="0.2",
    delete_retention_ms=str(10 * MINUTE_MS),
    # Not the newest, though: who takes over writes again what was aborted of a torn transaction (`processors/torn.py`).
    min_compaction_lag_ms=str(MINUTE_MS),
    message_timestamp_type="LogAppendTime",
)
DEAD_LETTERS = _topic(
    "dead-letters",
    "records that could not be used, whole, with origin and reason in headers",
    cleanup_policy="delete",
    retention_ms=str(400 * DAY_MS),
    message_timestamp_type="LogAppendTime",
)

POLLED_CALLS = _topic(
    "polled-calls",
    "what a PBX that is polled answered: its active calls, byte for byte; only where polling is switched on",
    cleanup_policy="delete",
    retention_ms=str(30 * DAY_MS),
    message_timestamp_type="LogAppendTime",
)

OUTPUTS = (CALL_SESSIONS, CHANGELOG, DEAD_LETTERS)
ALL = (WEBHOOKS, *OUTPUTS)


@dataclass(frozen=True, slots=True)
class TopicSet:
    """The names of one co-partitioned set of topics; another prefix is another set (a replay, a test).

    `webhooks_prefix`: whose webhooks are read, for a set that was replayed from another one's; null: the set's own.
    """

    prefix: str
    webhooks_prefix: str | None = None

    def name(self, topic: Topic) -> str:
        """The topic's full name, such as ``threecx.webhooks``."""
        prefix = self.webhooks_prefix if topic is WEBHOOKS and self.webhooks_prefix is not None else self.prefix
        return f"{prefix}.{topic.suffix}"

    @property
    def webhooks(self) -> str:
        """Raw webhooks and ticks."""
        return self.name(WEBHOOKS)

    @property
    def call_sessions(self) -> str:
        """Session events and feed progress."""
        return self.name(CALL_SESSIONS)

    @property
    def changelog(self) -> str:
        """The processors' state."""
        return self.name(CHANGELOG)

    @property
    def dead_letters(self) -> str:
        """What could not be used."""
        return self.name(DEAD_LETTERS)

    @property
    def polled_calls(self) -> str:
        """Answers of the PBXs that are polled."""
        return self.name(POLLED_CALLS)
