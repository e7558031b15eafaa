"""``python -m processors``: pair webhooks into call sessions until told to stop."""

from events.serving import run
from processors.app import main
from processors.settings import ProcessorsSettings

if __name__ == "__main__":
    run("processors", ProcessorsSettings, main)
