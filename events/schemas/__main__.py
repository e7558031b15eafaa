"""``python -m events.schemas``: write the published schemas; refused, with the reasons, if they would break anybody."""

import sys

from events.schemas import published


def main() -> int:
    """0 written, 1 refused."""
    try:
        number = published.publish()
    except published.IncompatibleError as error:
        sys.stderr.write(f"not written, for this is not compatible:\n{error}\n")
        return 1
    sys.stdout.write(f"{published.VERSIONS / str(number)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
