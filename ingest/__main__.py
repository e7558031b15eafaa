"""``python -m ingest``: accept webhooks until told to stop."""

from events.serving import run
from ingest.app import main
from ingest.settings import IngestSettings

if __name__ == "__main__":
    run("ingest", IngestSettings, main)
