"""Every setting of the services, from their code: ``python -m deploy.settings`` writes docs/settings.md."""

from pathlib import Path
from typing import Final

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from events.pbx import Pbx
from events.settings import Settings
from ingest.polling.settings import PollSettings
from ingest.settings import IngestSettings
from processors.settings import ProcessorsSettings
from projections.settings import ProjectionsSettings

PAGE: Final = Path(__file__).parent.parent / "docs" / "settings.md"
SERVICES: Final[dict[str, type[Settings]]] = {
    "ingest": IngestSettings,
    "processors": ProcessorsSettings,
    "projections": ProjectionsSettings,
    "poller": PollSettings,
}
HEAD: Final = """# Settings

Environment variables, read once at start; a wrong one ends the service with one sentence and exit status 2. Written by
`python -m deploy.settings`; edit the descriptions in the code.
"""


def page() -> str:
    """The page."""
    every = {name: field for one in SERVICES.values() for name, field in one.model_fields.items()}
    users = {name: [service for service, one in SERVICES.items() if name in one.model_fields] for name in every}
    parts = [HEAD]
    for title, wanted in (("Of several services", None), *((f"Of {one}", one) for one in SERVICES)):
        mine = [name for name in every if (users[name] == [wanted] if wanted else len(users[name]) > 1)]
        parts.append(f"## {title}\n\n| variable | default | |\n|---|---|---|\n")
        parts[-1] += "".join(_row(name.upper(), every[name]) for name in sorted(mine))
    parts.append("## Of one PBX, in the file that `PBX_CONFIG` names\n\n")
    parts[-1] += "What is not set here is the service's own.\n\n| key in `[pbx.NAME]` | default |\n|---|---|\n"
    parts[-1] += "".join(f"| `{name}` | {_shown(field)} |\n" for name, field in Pbx.model_fields.items())
    return "\n".join(parts)


def _row(variable: str, field: FieldInfo) -> str:
    return f"| `{variable}` | {_shown(field)} | {(field.description or '').replace('|', '&#124;')} |\n"


def _shown(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    return "none" if value in (None, "", (), frozenset()) else f"`{value}`"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
