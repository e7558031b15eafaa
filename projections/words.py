"""The words of the query parameters: which filters there are, and what they may say. Pure."""

from collections.abc import Mapping
from typing import Final

from events.session import Direction, Outcome, Status

WORDS: Final[Mapping[str, type[Direction | Status | Outcome]]] = {
    "direction": Direction,
    "status": Status,
    "outcome": Outcome,
}
SWITCHES: Final = ("closed", "inferred", "has_duration")
FILTERS: Final = ("pbx", "agent", *WORDS, "number", "from", "to", "day", *SWITCHES)
SPREADSHEET: Final = "spreadsheet"
RAW: Final = "raw"
FORMS: Final = (SPREADSHEET, RAW)
"""Of a CSV: no cell runs as a formula, or every cell as it is."""
CURSOR: Final = "^[0-9]{1,16}-[0-9a-zA-Z]{1,64}$"
"""Of a page: microseconds of the last call's first receipt, and its session_id."""
