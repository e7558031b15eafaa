"""Telephone numbers as parties of a call: kept as sent, E.164 where it can be had, compared tolerantly.

Two numbers are the same when they normalise to the same E.164 number, or when the digits of one, leading zeros
removed, are a suffix of the other's, seven digits or more; shorter ones only exactly. A withheld or missing number
proves neither sameness nor difference. Source: the design, section 4.
"""

import re
from enum import Enum
from functools import lru_cache

import phonenumbers

from events.webhook import Party

SUFFIX_DIGITS_MIN = 7
TEXT_CHARACTERS_MAX = 256
_CACHE_SIZE = 65_536

_WITHHELD = frozenset(
    (
        *("anonymous", "anonyme", "anonym", "unknown", "unbekannt", "inconnu", "withheld", "private", "restricted"),
        *("unavailable", "blocked", "hidden", "noname", "nocallerid", "unknowncaller", "privatecaller"),
        "privatenumber",
    )
)
_IN_BRACKETS = re.compile(r"<([^<>]*)>")
_NAME_IN_PARENTHESES = re.compile(r"\([^()]*[^\W\d_][^()]*\)")
_SCHEME = re.compile(r"^(?:sips?|tel|callto):", re.IGNORECASE)

NOBODY = Party(text=None, e164=None, digits="", withheld=True)
"""The party of which nothing was said."""


class Comparison(Enum):
    """What two parties' numbers say about each other."""

    SAME = "same"
    DIFFERENT = "different"
    UNKNOWN = "unknown"


@lru_cache(_CACHE_SIZE)
def party(text: str | None, country: str | None) -> Party:
    """The party named by `text` (null or empty: nobody); `country` (ISO 3166) reads national numbers."""
    if text is None or not text.strip():
        return NOBODY
    bare = _bare(text)
    digits = "".join(character for character in bare if character.isdecimal())
    letters = "".join(character for character in bare.lower() if character.isalpha())
    withheld = not digits and (letters in _WITHHELD or not letters)
    e164 = _e164(bare, digits, country, blank_for_plus=text.startswith(" "))
    return Party(text=text.strip(), e164=e164, digits=digits.lstrip("0"), withheld=withheld)


def _bare(text: str) -> str:
    """The number without display name, scheme, host and parameters."""
    bracketed = _IN_BRACKETS.search(text)
    bare = bracketed.group(1) if bracketed and bracketed.group(1).strip() else text
    bare = _SCHEME.sub("", bare.strip())
    bare = re.split(r"[;@]", bare, maxsplit=1)[0]
    return _NAME_IN_PARENTHESES.sub("", bare).strip()


def _e164(bare: str, digits: str, country: str | None, *, blank_for_plus: bool) -> str | None:
    if len(digits) < SUFFIX_DIGITS_MIN or any(character.isalpha() for character in bare):
        return None
    # A form decodes "+41…" into " 41…"; "00" is the plus of most countries.
    international = bare.startswith("+") or blank_for_plus
    if not international and digits.startswith("00"):
        international, digits = True, digits[2:]
    elif bare.startswith("+") and "(0)" in bare:
        digits = "".join(character for character in bare.replace("(0)", "") if character.isdecimal())
    if not international and country is None:
        return None
    try:
        number = phonenumbers.parse(f"+{digits}" if international else digits, None if international else country)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_possible_number(number):
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def compare(one: Party, other: Party) -> Comparison:
    """Whether the two are the same party, as far as their numbers tell."""
    if one.withheld or other.withheld:
        return Comparison.UNKNOWN
    return Comparison.SAME if same_number(one, other) else Comparison.DIFFERENT


def same_number(one: Party, other: Party) -> bool:
    """Tell whether both numbers are known and the same."""
    if one.text is None or other.text is None or one.withheld or other.withheld:
        return False
    if one.text == other.text or (one.e164 is not None and one.e164 == other.e164):
        return True
    short, long = sorted((one.digits, other.digits), key=len)
    return len(short) >= SUFFIX_DIGITS_MIN and long.endswith(short)


def suffix_key(one: Party) -> str:
    """A key that all parties that are the same number share: the last seven digits, or the text of a shorter one."""
    if len(one.digits) >= SUFFIX_DIGITS_MIN:
        return one.digits[-SUFFIX_DIGITS_MIN:]
    return one.text or ""
