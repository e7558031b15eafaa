"""The fields of a call in a body: which keys carry them, and what of a value counts as sent. Pure.

Missing is: absent, null, empty, blank; an unresolved ``[Variable]`` is missing too, but remembered as such. Texts lose
control characters, lone surrogates and marks that only change the direction of writing, so that nothing downstream
meets them; a text beyond its limit is unreadable, never cut. Source: the design, section 4; 3cx.md, sections 1 and 4.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, NamedTuple

TEXT_CHARACTERS_MAX: Final = 256
"""The longest call id, extension, e-mail, number, date or duration."""
URL_CHARACTERS_MAX: Final = 2_048
"""The longest link to a recording."""
KEY_CHARACTERS_MAX: Final = 64
"""A longer key is not looked at."""

NAMES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "call_id": ("callId", "CallID", "id"),
        "caller": ("caller", "CallerNumber", "from"),
        "callee": ("callee", "CalledNumber", "CalleeNumber", "to"),
        "number": ("Number", "PhoneNumber", "phone"),
        "extension": ("agentExt", "AgentNumber", "AgentExtension", "Agent", "extension"),
        "email": ("agentMail", "AgentEmail", "email"),
        "direction": ("direction", "CallDirection"),
        "call_type": ("CallType", "type", "event"),
        "duration": ("duration", "CallDuration", "DurationSeconds"),
        "recording": ("wav", "RecordingUrl", "RecordingURL", "recording"),
        "started_at": (
            "CallStartTimeUTCMillis",
            "startTime",
            "startUtc",
            "CallStartTimeUTC",
            "CallStartTime",
            "CallStartTimeLocal",
        ),
        "answered_at": ("CallEstablishedTimeUTCMillis", "CallEstablishedTimeUTC", "CallEstablishedTime"),
        "ended_at": (
            "CallEndTimeUTCMillis",
            "endUtc",
            "endTime",
            "CallEndTimeUTC",
            "CallEndTime",
            "CallEndTimeLocal",
        ),
    }
)
"""Each field and the keys that carry it, best first; case and all but letters and digits do not matter."""


class State(StrEnum):
    """How a field arrived; `GUESSED`: it can be read in several ways, and one was chosen."""

    READ = "read"
    MISSING = "missing"
    UNRESOLVED = "unresolved"
    UNREADABLE = "unreadable"
    GUESSED = "guessed"


class Field(NamedTuple):
    """A field as it arrived: the key as sent, the cleaned value (null unless `state` is `READ`)."""

    key: str | None
    value: str | int | float | None
    state: State
    rank: int

    @property
    def says_utc(self) -> bool:
        """Whether the key says that the time is UTC."""
        return self.key is not None and "utc" in self.key.lower()

    @property
    def text(self) -> str | None:
        """The value as text, however it was sent."""
        return None if self.value is None else str(self.value)


_new: Final = tuple.__new__
"""As `Field(...)`, at a third of the time: this is the hot path."""
ABSENT: Final = Field(None, None, State.MISSING, 0)

_NUMBERS: Final = frozenset(("caller", "callee", "number"))
_WHOLE_MAX: Final = 10**18
_WORD_CHARACTERS_MAX: Final = 4
_NOTHING: Final = frozenset(("null", "none", "undefined", "nil"))
_VARIABLE: Final = re.compile(r"\[.*\](?:\.\w{1,40}\(.{0,40}\))?", re.DOTALL)
_VARIABLE_INSIDE: Final = re.compile(r"\[[A-Z]\w{2,40}\]")
_BLANK: Final = dict.fromkeys((9, 10, 11, 12, 13, 0x85, 0x2028, 0x2029), " ")
_UNWANTED: Final[dict[int, str | None]] = {
    **dict.fromkeys((*range(32), *range(127, 160), *range(0xD800, 0xE000))),
    **dict.fromkeys((0x061C, 0x200B, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFEFF)),
    **_BLANK,
}


def _folded(key: str) -> str:
    return "".join(filter(str.isalnum, key.lower()))


class _Place(NamedTuple):
    name: str
    rank: int
    characters_max: int


def _places() -> dict[str, _Place]:
    """Where each key belongs, by its spellings of every day and by its folded form."""
    found: dict[str, _Place] = {}
    for name, keys in NAMES.items():
        for rank, key in enumerate(keys):
            place = _Place(name, rank, URL_CHARACTERS_MAX if name == "recording" else TEXT_CHARACTERS_MAX)
            for spelling in (key, key[0].lower() + key[1:], key[0].upper() + key[1:], _folded(key)):
                found.setdefault(spelling, place)
    return found


_PLACES: Final = _places()


def known(sent: Mapping[str, Any]) -> dict[str, Field]:
    """The fields in `sent` by name; of several keys for one the best that holds something."""
    found: dict[str, Field] = {}
    for key, value in sent.items():
        place = _PLACES.get(key)
        if place is None:
            place = _PLACES.get(_folded(key)) if len(key) <= KEY_CHARACTERS_MAX else None
            if place is None:
                continue
        name, rank, characters_max = place
        # Most texts are plain, and this is the hot path: nothing to clean, no blank, no bracket, no word for nothing
        # (these are short or begin with a u).
        if (
            isinstance(value, str)
            and len(value) <= characters_max
            and (len(value) > _WORD_CHARACTERS_MAX or value.isdigit())
            and value.isprintable()
            and " " not in value
            and "[" not in value
            and value[0] not in "uU"
        ):
            field = _new(Field, (key, value, State.READ, rank))
        else:
            field = _field(key, value, place)
        if name not in found or _order(field) < _order(found[name]):
            found[name] = field
    return found


def _order(field: Field) -> tuple[bool, int]:
    return field.state is not State.READ, field.rank


def _field(key: str, value: object, place: _Place) -> Field:
    cleaned = clean(value, place.characters_max) if isinstance(value, str) else _number(value)
    if isinstance(cleaned, State):
        return Field(key, None, cleaned, place.rank)
    if isinstance(cleaned, str) and place.name not in _NUMBERS:
        # The blank before a number is a plus that a form decoded: it is for `numbers` to see.
        cleaned = cleaned.lstrip()
        if "[" in cleaned and _VARIABLE_INSIDE.search(cleaned):
            return Field(key, None, State.UNRESOLVED, place.rank)
    return Field(key, cleaned, State.READ, place.rank)


def _number(value: object) -> int | float | State:
    if value is None:
        return State.MISSING
    if isinstance(value, bool) or not isinstance(value, int | float):
        return State.UNREADABLE
    if not -_WHOLE_MAX < value < _WHOLE_MAX:  # nor is NaN a value
        return State.UNREADABLE
    return int(value) if value == int(value) else value


def clean(text: str, characters_max: int) -> str | State:
    """The text without what must not travel on and without blanks at its end, or why there is none."""
    if not text.isprintable():
        text = text.translate(_UNWANTED)
    text = text.rstrip()
    if len(text) > characters_max:
        return State.UNREADABLE
    bare = text.lstrip()
    if not bare or bare.lower() in _NOTHING:
        return State.MISSING
    if bare[0] == "[" and _VARIABLE.fullmatch(bare):
        return State.UNRESOLVED
    return text


def unknown(sent: Mapping[str, Any], keys_max: int) -> list[str]:
    """The keys that carry no field of a call, cleaned and shortened for show."""
    others = (key for key in sent if key not in _PLACES and _folded(key[:KEY_CHARACTERS_MAX]) not in _PLACES)
    shown = (key.translate(_UNWANTED)[:KEY_CHARACTERS_MAX] for key in others)
    return sorted(dict.fromkeys(shown))[:keys_max]
