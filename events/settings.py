"""Settings from the environment: read once at start, validated, and a mistake is one clear sentence.

Names of the environment are the fields' names in capitals. Secrets are `SecretStr` and never printed.
"""

import sys
from pathlib import Path
from typing import NoReturn, TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

BAD_CONFIGURATION = 2
"""Exit status of a service whose configuration is wrong: starting it again does not help."""


class Settings(BaseSettings):
    """Base of each service's settings; what every service has."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True)

    data_dir: Path = Field(default=Path(".data"), description="Folder for the journal, the local broker and SQLite.")
    log_format: str = Field(default="console", pattern="^(console|json)$", description="console or json.")
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="Least level logged.")
    tracing_endpoint: str | None = Field(
        default=None, pattern="^https?://", description="URL of a collector for OTLP over HTTP; empty: no traces."
    )
    tracing_share: float = Field(default=1.0, ge=0, le=1, description="Part of the webhooks that are traced.")


class ConfigurationError(Exception):
    """The configuration cannot work; the message is one sentence that says what to do."""


SettingsT = TypeVar("SettingsT", bound=Settings)


def load(settings_class: type[SettingsT]) -> SettingsT:
    """The settings of a service; raises ConfigurationError naming each wrong variable and why."""
    try:
        return settings_class()
    except ValidationError as error:
        raise ConfigurationError("; ".join(_sentence(one["loc"], one["msg"]) for one in error.errors())) from None


def _sentence(where: tuple[int | str, ...], what: str) -> str:
    variable = str(where[0]).upper() if where else "settings"
    return f"{variable}: {what.removeprefix('Value error, ')}"


def exit_with(service: str, error: Exception, status: int = BAD_CONFIGURATION) -> NoReturn:
    """End the process with the one sentence on stderr; the status says: do not start me again like this, or do."""
    sys.stderr.write(f"{service}: {error}\n")
    sys.exit(status)
