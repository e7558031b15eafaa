"""``python -m deploy.local run`` or ``demo``: Callstream on this machine until Ctrl-C; ``jars``: only the download."""

import sys

from deploy.local.broker import java_is_there, resolve_jars, say_on_stderr
from deploy.local.supervisor import run
from events.away import GAVE_UP, AwayError
from events.settings import BAD_CONFIGURATION, ConfigurationError, exit_with

USAGE = "usage: python -m deploy.local run | demo [options of the demo] | jars\n"


def main(arguments: list[str]) -> None:
    """Run the command in `arguments`; a mistake is one sentence and exit status 2, a failing disk one and 1."""
    try:
        match arguments:
            case ["run"]:
                run()
            case ["demo", *options]:
                run(options)
            case ["jars"]:
                if java_is_there():
                    resolve_jars(say_on_stderr)
            case _:
                sys.stderr.write(USAGE)
                sys.exit(BAD_CONFIGURATION)
    except ConfigurationError as error:
        exit_with("callstream", error)
    except AwayError as error:
        exit_with("callstream", error, GAVE_UP)


if __name__ == "__main__":
    main(sys.argv[1:])
