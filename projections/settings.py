"""The projections' settings: names, units, defaults; read once at start."""

from pydantic import Field, SecretStr
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from events.kafka import KafkaSettings
from events.pbx import PbxSettings
from events.settings import ConfigurationError
from projections.access import FULL, MASKED
from projections.targets import Targets, targets_of

ROLES = (FULL, MASKED)
DRIVERS = {"postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg", "sqlite": "sqlite+aiosqlite"}


class ProjectionsSettings(KafkaSettings, PbxSettings):
    """Environment of ``python -m projections``."""

    projections_host: str = Field(default="127.0.0.1", description="Address to listen on.")
    projections_port: int = Field(default=8081, ge=0, le=65_535, description="Port to listen on.")
    projections_database_url: SecretStr | None = Field(
        default=None, description="postgresql://… or sqlite:///…; empty: SQLite under DATA_DIR."
    )
    projections_database_wait_s: float = Field(
        default=300.0,
        ge=0,
        description="Seconds that a start waits for a database that is away; then it ends with exit status 1.",
    )
    projections_api_tokens: SecretStr = Field(
        default=SecretStr(""), description="Bearer tokens, comma-separated: TOKEN, or TOKEN:masked; empty: none."
    )
    projections_feed_silent_s: float = Field(
        default=30.0, gt=0, description="Seconds without progress after which agents are unknown."
    )
    projections_feed_lagging_s: float = Field(
        default=10.0, gt=0, description="Age in seconds of the newest progress beyond which a feed is lagging."
    )
    projections_feed_quiet_s: float = Field(
        default=900.0, gt=0, description="Seconds without a webhook after which a PBX is quiet."
    )
    projections_wrap_up_s: float = Field(
        default=0.0, ge=0, le=86_400, description="Seconds of wrap-up after an answered call; 0: none."
    )
    projections_calls_kept_days: int = Field(
        default=0, ge=0, description="Days after which closed calls leave the views; 0: never."
    )
    projections_revisions_kept_days: int = Field(
        default=0, ge=0, description="Days after which the history of closed calls leaves the views; 0: never."
    )
    projections_application: str = Field(
        default="callstream-projections",
        pattern=r"^[a-zA-Z0-9._-]{1,200}$",
        description="Consumer group that mirrors the views' position, for lag tools.",
    )
    projections_batch_records_max: int = Field(default=1_000, ge=1, description="Records per commit at the most.")
    projections_session_timeout_s: float = Field(
        default=15.0, ge=1, description="Seconds after which a silent projector loses its partitions."
    )
    projections_instance: str = Field(
        default="",
        max_length=200,
        description="A name that this process keeps over restarts and no other of its group has: killed, it has its"
        " partitions again at once, not after the session timeout. Empty: none.",
    )
    projections_stream_clients_max: int = Field(default=2_000, ge=1, description="Event streams at once; more get 503.")
    projections_stream_queue_max: int = Field(
        default=1_000, ge=1, description="Messages that wait for one client; a slower one is dropped and reconnects."
    )
    projections_stream_history_max: int = Field(
        default=5_000, ge=0, description="Messages kept for clients that resume by Last-Event-ID."
    )
    projections_stream_bytes_max: int = Field(
        default=67_108_864,
        ge=1,
        description="Bytes of all messages kept for clients of the event stream; beyond it the oldest are let go of,"
        " never the newest. What masked clients are sent counts, too.",
    )

    projections_exports_max: int = Field(default=4, ge=1, description="Files of calls sent at once; more get 503.")
    projections_parity_window_s: int = Field(
        default=86_400, ge=0, le=604_800, description="Seconds back that polling and webhooks are compared; 0: not."
    )
    projections_parity_settled_s: int = Field(
        default=120, ge=0, description="Seconds for a webhook to come before its polled call is compared."
    )
    projections_parity_least: float = Field(
        default=0.999, gt=0, le=1, description="Share of polled calls that must have come by webhook."
    )
    projections_targets: str = Field(
        default="", description="What is wanted of figures: [PBX:]FIGURE<=NUMBER or >=, comma-separated."
    )

    @property
    def targets(self) -> Targets:
        """The targets of the figures; raises ConfigurationError with what to write."""
        try:
            return targets_of(self.projections_targets)
        except ValueError as error:
            message = f"PROJECTIONS_TARGETS: {error}"
            raise ConfigurationError(message) from None

    @property
    def tokens(self) -> dict[bytes, str]:
        """The valid bearer tokens, each with its role; empty when there is no authentication."""
        found: dict[bytes, str] = {}
        for word in self.projections_api_tokens.get_secret_value().split(","):
            token, _, role = word.strip().partition(":")
            if role not in {"", *ROLES} or (role and not token):
                message = f"PROJECTIONS_API_TOKENS: a token is TOKEN or TOKEN:ROLE; roles: {', '.join(ROLES)}"
                raise ConfigurationError(message)
            if token:
                found[token.encode()] = role or FULL
        return found

    @property
    def database_url(self) -> URL:
        """The database's URL with the asyncio driver; raises ConfigurationError for one that is no URL."""
        if self.projections_database_url is None:
            return make_url(f"sqlite+aiosqlite:///{self.data_dir.absolute() / 'projections.sqlite'}")
        try:
            url = make_url(self.projections_database_url.get_secret_value())
        except ArgumentError:
            message = "PROJECTIONS_DATABASE_URL: not a database URL; use postgresql://user:password@host/database"
            raise ConfigurationError(message) from None
        driver = DRIVERS.get(url.drivername, url.drivername)
        if driver not in DRIVERS.values():
            message = f"PROJECTIONS_DATABASE_URL: {url.drivername} is not supported; use postgresql:// or sqlite:///"
            raise ConfigurationError(message)
        return url.set(drivername=driver)
