"""``python -m deploy.local run`` (or ``demo``): Callstream on this machine until Ctrl-C."""

import sys

from deploy.local.supervisor import run
from events.settings import ConfigurationError, exit_with

USAGE = "usage: python -m deploy.local run | demo [options of the demo]\n"


def main(arguments: list[str]) -> None:
    """Run the command in `arguments`; a mistake is one sentence and exit status 2."""
    match arguments:
        case ["run"]:
            command = None
        case ["demo", *options]:
            command = options
        case _:
            sys.stderr.write(USAGE)
            sys.exit(2)
    try:
        run(command)
    except ConfigurationError as error:
        exit_with("callstream", error)


if __name__ == "__main__":
    main(sys.argv[1:])
