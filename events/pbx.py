"""What is known about each PBX beforehand: its zone and habits (for reading), its secrets and networks (for the door).

One PBX: `PBX_TIMEZONE`, `PBX_DATE_ORDER`, `PBX_COUNTRY`. Several: a TOML file named by `PBX_CONFIG`:

    [pbx.geneva]
    timezone = "Europe/Zurich"
    date_order = "dmy"
    country = "CH"
    shared_extensions = ["800"]
    webhook_secrets = ["…"]
    signature_keys = ["whsec_…"]
    allowed_networks = ["192.0.2.0/24"]
    rate_max = 50
    wrap_up_s = 20
    quiet_s = 3600
"""

import tomllib
from collections.abc import Mapping
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo, available_timezones

import phonenumbers
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, StringConstraints, ValidationError

from events.settings import ConfigurationError, Settings

DEFAULT_PBX = "default"

PbxName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]


class DateOrder(StrEnum):
    """Which of day, month and year comes first where a date's digits do not tell."""

    AUTO = "auto"
    DMY = "dmy"
    MDY = "mdy"
    YMD = "ymd"


def _known_zone(name: str) -> str:
    if name not in available_timezones():
        message = f"{name!r} is not a time zone; use a name of the IANA list such as Europe/Zurich"
        raise ValueError(message)
    return name


def _known_country(code: str | None) -> str | None:
    if code is not None and code not in phonenumbers.SUPPORTED_REGIONS:
        message = f"{code!r} is not a country; use two capital letters (ISO 3166) such as CH"
        raise ValueError(message)
    return code


ZoneName = Annotated[str, AfterValidator(_known_zone)]
CountryCode = Annotated[str | None, AfterValidator(_known_country)]


class Pbx(BaseModel):
    """One PBX. What is empty or null here: the services' own settings apply (secrets and keys together)."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    timezone: ZoneName = "UTC"
    date_order: DateOrder = DateOrder.AUTO
    country: CountryCode = None
    shared_extensions: frozenset[str] = frozenset()
    webhook_secrets: tuple[SecretStr, ...] = ()
    signature_keys: tuple[SecretStr, ...] = ()
    allowed_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    rate_max: float | None = Field(default=None, ge=0)
    wrap_up_s: float | None = Field(default=None, ge=0, le=86_400)
    quiet_s: float | None = Field(default=None, gt=0)
    calls_kept_days: int | None = Field(default=None, ge=0)
    revisions_kept_days: int | None = Field(default=None, ge=0)

    @property
    def zone(self) -> ZoneInfo:
        """The zone of times that the PBX sends without one (cached by zoneinfo)."""
        return ZoneInfo(self.timezone)


class PbxSettings(Settings):
    """The variables about PBXs, for every service that reads webhooks or shows local days."""

    pbx_timezone: ZoneName = Field(default="UTC", description="IANA zone of the default PBX.")
    pbx_date_order: DateOrder = Field(default=DateOrder.AUTO, description="auto, dmy, mdy or ymd, of the default PBX.")
    pbx_country: CountryCode = Field(default=None, description="ISO 3166 country of the default PBX, for numbers.")
    pbx_config: Path | None = Field(default=None, description="TOML file with one table [pbx.NAME] per PBX.")


class _PbxFile(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    pbx: dict[PbxName, Pbx]


def pbxs_of(settings: PbxSettings) -> Mapping[str, Pbx]:
    """Every configured PBX by name, the default one always among them; raises ConfigurationError."""
    default = Pbx(timezone=settings.pbx_timezone, date_order=settings.pbx_date_order, country=settings.pbx_country)
    return {DEFAULT_PBX: default, **(_read(settings.pbx_config) if settings.pbx_config else {})}


def _read(path: Path) -> dict[str, Pbx]:
    try:
        return dict(_PbxFile.model_validate(tomllib.loads(path.read_text("utf-8"))).pbx)
    except OSError as error:
        message = f"PBX_CONFIG: {path} cannot be read ({error.strerror}); name a readable TOML file"
        raise ConfigurationError(message) from None
    except ValidationError as error:
        places = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        message = f"PBX_CONFIG: {path}: {places}"
        raise ConfigurationError(message) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        message = f"PBX_CONFIG: {path} is not TOML ({error})"
        raise ConfigurationError(message) from None
