"""``python -m projections``: fold call sessions into the views and serve them until told to stop."""

from events.serving import run
from projections.app import main
from projections.settings import ProjectionsSettings

if __name__ == "__main__":
    run("projections", ProjectionsSettings, main)
