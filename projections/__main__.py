"""``python -m projections``: fold call sessions into the views and serve them until told to stop; or a command."""

import sys

from projections.commands import main

if __name__ == "__main__":
    main(sys.argv[1:])
