"""``python -m deploy.grafana``: write the dashboards anew."""

import json
from pathlib import Path

from deploy.grafana.calls import CALLS
from deploy.grafana.model import document
from deploy.grafana.operations import OPERATIONS
from deploy.grafana.quality import QUALITY

DASHBOARDS = (OPERATIONS, CALLS, QUALITY)
FOLDER = Path(__file__).parent / "dashboards"


def files() -> dict[Path, str]:
    """Each dashboard's file and what must stand in it."""
    return {
        FOLDER / f"{one.uid}.json": json.dumps(
            document(one, [other for other in DASHBOARDS if other is not one]), indent=2, ensure_ascii=False
        )
        + "\n"
        for one in DASHBOARDS
    }


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text, "utf-8")
