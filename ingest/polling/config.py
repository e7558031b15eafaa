"""What is polled: a JSON file as the seed has it, watched, so that a change takes effect without a restart.

    {"polling": {"enabled": true, "witness": false, "history": false, "interval_s": 1.0, "pbxs": {
      "default": {"url": "https://pbx.example.com", "client_id": "…", "client_secret": "…"}}}}

Everything but `enabled` can be left out: then the environment holds (``POLLING_INTERVAL_S``, ``POLLING_URL``, …). Other
keys of the file's outermost object belong to others and are let be. A file that cannot be read changes nothing, and
says so.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import structlog
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from events.pbx import DEFAULT_PBX, PbxName
from events.settings import ConfigurationError
from ingest.polling.settings import PollSettings, url_of

INTERVAL_S_MIN = 0.2
INTERVAL_S_MAX = 600.0

log = structlog.get_logger()


class Access(BaseModel):
    """Where a PBX's XAPI is, and the client that it knows."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: Annotated[str, AfterValidator(url_of)]
    client_id: str
    client_secret: SecretStr


class Polling(BaseModel):
    """What is to be done."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    enabled: bool
    witness: bool | None = None
    history: bool | None = None
    interval_s: float | None = Field(default=None, ge=INTERVAL_S_MIN, le=INTERVAL_S_MAX)
    pbxs: dict[PbxName, Access] = {}


class _File(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)

    polling: Polling


@dataclass
class Config:
    """The settings and, over them, the file; `look` reads it again when it has changed."""

    settings: PollSettings
    polling: Polling = field(init=False)
    _seen: tuple[int, int, int] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Read for the first time: now a bad file raises ConfigurationError."""
        self.polling = self._of_environment()
        path = self.settings.polling_config
        if path is not None:
            try:
                self._seen = _stamp(path)
                self.polling = _read(path)
            except (OSError, ValidationError) as error:
                raise ConfigurationError(f"POLLING_CONFIG: {_sentence(path, error)}") from None
        if self.polling.enabled and not self.pbxs:
            raise ConfigurationError(
                "POLLING_URL: polling is enabled, but no PBX is named; set it, or `pbxs` in the file"
            )

    @property
    def interval_s(self) -> float:
        """Seconds between two polls of a PBX."""
        return self.polling.interval_s or self.settings.polling_interval_s

    @property
    def witness(self) -> bool:
        """Whether what is polled goes to the processors, too."""
        return self.settings.polling_witness if self.polling.witness is None else self.polling.witness

    @property
    def history(self) -> bool:
        """Whether ends are asked from the PBX's history of calls."""
        return self.settings.polling_history if self.polling.history is None else self.polling.history

    @property
    def pbxs(self) -> dict[str, Access]:
        """What is polled while it is enabled: the file's, else the environment's."""
        return self.polling.pbxs or self._of_environment().pbxs

    def look(self) -> None:
        """Read the file again when it is another one than last time; a bad one leaves all as it was."""
        path = self.settings.polling_config
        if path is None:
            return
        try:
            stamp = _stamp(path)
            if stamp == self._seen:
                return
            self._seen = stamp
            found = _read(path)
        except (OSError, ValidationError) as error:
            if not isinstance(error, OSError) or self._seen is not None:
                log.error(  # noqa: TRY400 - bad configuration has no traceback
                    "the polling configuration cannot be used; the last one holds", why=_sentence(path, error)
                )
            self._seen = None if isinstance(error, OSError) else self._seen
            return
        if found.enabled != self.polling.enabled:
            log.warning("polling is switched on" if found.enabled else "polling is switched off")
        elif found != self.polling:
            log.info("the polling configuration has changed")
        self.polling = found

    def _of_environment(self) -> Polling:
        settings = self.settings
        known: dict[str, Access] = {}
        if settings.polling_url:
            known[DEFAULT_PBX] = Access(
                url=settings.polling_url,
                client_id=settings.polling_client_id,
                client_secret=settings.polling_client_secret,
            )
        return Polling(enabled=settings.polling_enabled, pbxs=known)


def _stamp(path: Path) -> tuple[int, int, int]:
    seen = path.stat()
    return seen.st_mtime_ns, seen.st_size, seen.st_ino


def _read(path: Path) -> Polling:
    return _File.model_validate_json(path.read_bytes()).polling


def _sentence(path: Path, error: OSError | ValidationError) -> str:
    if isinstance(error, OSError):
        return f"{path} cannot be read ({error.strerror})"
    places = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'file'}: {one['msg']}" for one in error.errors())
    return f"{path}: {places}"
