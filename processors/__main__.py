"""``python -m processors``: pair webhooks into call sessions until told to stop; ``replay`` and ``diff``: commands."""

import sys

from processors.commands import main

if __name__ == "__main__":
    main(sys.argv[1:])
