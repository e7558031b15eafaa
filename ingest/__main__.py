"""``python -m ingest``: accept webhooks until told to stop; ``journal``: look at what waits, or send it; ``template``: for 3CX."""

import sys

from ingest.commands import main

if __name__ == "__main__":
    main(sys.argv[1:])
