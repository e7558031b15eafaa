"""``python -m tests.chaos.clocked_ingest``: the real ingest, whose clock is off by the seconds that a file says.

The clock is handed in where ingest reads it, and nothing else is changed.
"""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import ingest.app
from events.serving import run
from ingest.settings import IngestSettings

OFFSET = Path(os.environ["CHAOS_CLOCK_FILE"])


def now() -> datetime:
    """The wall clock, and what it is off by."""
    return datetime.now(UTC) + timedelta(seconds=float(OFFSET.read_text("ascii")))


if __name__ == "__main__":
    ingest.app.now = now
    run("ingest", IngestSettings, ingest.app.main)
