"""``python -m ingest``: accept webhooks until told to stop; ``journal``: what waits; ``template``: files for 3CX."""

import sys

from ingest.commands import main

if __name__ == "__main__":
    main(sys.argv[1:])
