"""The fields of a call in a body: which keys carry them, and what of a value counts as sent. Pure.

Missing is: absent, null, empty, blank; an unresolved ``[Variable]`` is missing too, but remembered as such. Texts lose
control characters, lone surrogates and marks that only change the direction of writing, so that nothing downstream
meets them; a text beyond its limit is unreadable, never cut. Source: the design, section 4; 3cx.md, sections 1 and 4.
"""

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import lru_cache
from itertools import product
from operator import itemgetter
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from events.digits import Number

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
    value: str | Number | None
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
_READ: Final = State.READ
_NOTHING: Final = frozenset(("null", "none", "undefined", "nil"))
_NOTHING_AS_SENT: Final = frozenset(
    ("", *("".join(cases) for word in _NOTHING for cases in product(*zip(word, word.upper(), strict=True))))
)
"""Every way to write them, so that a whole body's values are looked up in one go; and the empty text."""
_LAYOUTS_MAX: Final = 64
_LAYOUT_KEYS_MAX: Final = 32
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


def _place(key: str) -> _Place | None:
    found = _PLACES.get(key)
    return found if found is not None or len(key) > KEY_CHARACTERS_MAX else _PLACES.get(_folded(key))


class _Layout(NamedTuple):
    """Of the keys of a body: the best one for each field, and how to get their values in one go."""

    best: tuple[tuple[str, str, int], ...]
    values_of: Callable[[Mapping[str, Any]], tuple[Any, ...]]


@lru_cache(_LAYOUTS_MAX)
def _layout(keys: tuple[str, ...]) -> _Layout | None:
    """A template's bodies all have the same keys; null for keys too few or too many to be looked at so."""
    best: dict[str, tuple[str, str, int]] = {}
    for key in keys[:_LAYOUT_KEYS_MAX]:
        place = _place(key)
        if place is not None and (place.name not in best or place.rank < best[place.name][2]):
            best[place.name] = place.name, key, place.rank
    if len(best) < 2 or len(keys) > _LAYOUT_KEYS_MAX:  # noqa: PLR2004 -- itemgetter gives a tuple from two on
        return None
    return _Layout(tuple(best.values()), itemgetter(*(key for _, key, _ in best.values())))


def known(sent: Mapping[str, Any]) -> dict[str, Field]:
    """The fields in `sent` by name; of several keys for one the best that holds something.

    Most bodies have plain texts alone, and this is the hot path: nothing to clean, no blank, no bracket, no word for
    nothing in any of the best. That is seen of all of them at once.
    """
    layout = _layout(tuple(sent))
    if layout is None:
        return _known(sent)
    values = layout.values_of(sent)
    try:
        said = "".join(values)
    except TypeError:  # not a text
        return _known(sent)
    if (
        said.isprintable()
        and " " not in said
        and "[" not in said
        and _NOTHING_AS_SENT.isdisjoint(values)
        and max(map(len, values)) <= TEXT_CHARACTERS_MAX
    ):
        return {name: _new(Field, (key, sent[key], _READ, rank)) for name, key, rank in layout.best}
    return _known(sent)


def _known(sent: Mapping[str, Any]) -> dict[str, Field]:
    """The same for any body, a key after the other."""
    found: dict[str, Field] = {}
    for key, value in sent.items():
        place = _place(key)
        if place is not None:
            field = _field(key, value, place)
            if place.name not in found or _order(field) < _order(found[place.name]):
                found[place.name] = field
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


def _number(value: object) -> Number | State:
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
