"""Telephone numbers as parties of a call: kept as sent, E.164 where it can be had, compared tolerantly.

Two numbers are the same when they normalise to the same E.164 number, or when the digits of one, leading zeros
removed, are a suffix of the other's, seven digits or more; shorter ones only exactly. A withheld or missing number
proves neither sameness nor difference, nor does a name beside a number. Source: the design, section 4.
"""

import re
from enum import Enum
from functools import lru_cache
from typing import Final, NamedTuple

import phonenumbers
from phonenumbers import PhoneMetadata, PhoneNumberFormat, ValidationResult

from events.digits import to_ascii
from events.webhook import Party

_DIGITS: Final = frozenset("0123456789")
SUFFIX_DIGITS_MIN: Final = 7
DIGITS_MAX: Final = 32
"""A run of more digits is no number (a SIP user, an id): it is compared as text."""
_E164_DIGITS_MAX: Final = 15
_CACHE_SIZE: Final = 65_536

_WITHHELD_WORDS: Final = (
    "anonymous anonyme anonym anonimo anónimo unknown unbekannt inconnu unknownnumber unknowncaller withheld"
    " numberwithheld private privatenumber privatecaller privé privat restricted unavailable blocked hidden noname"
    " nonumber nocallerid masqué numéromasqué unterdrückt suppressed"
)
_WITHHELD: Final = frozenset(_WITHHELD_WORDS.split())
_IN_BRACKETS = re.compile(r"<([^<>]*)>")
_NAME_IN_PARENTHESES = re.compile(r"\([^()]*[^\W\d_][^()]*\)")
_SCHEME = re.compile(r"(?:sips?|tel|callto|phone):(?://)?", re.IGNORECASE)
_HOST = re.compile(r"[;@?]")
_SEPARATORS = r"\s().\-/\u2010-\u2015"
_LEADING = re.compile(rf"(\+?[\d(][\d{_SEPARATORS}]*)(?=[\s,]|$)")
_TRAILING = re.compile(rf"(?:^|\s)(\+?\d[\d{_SEPARATORS}]*)$")
_BLANK_FOR_PLUS = re.compile(rf" [1-9]\d{{{SUFFIX_DIGITS_MIN},}}$")

_CALLING_CODE_DIGITS: Final = (1, 2, 3)
_PLANS_MAX: Final = 1_110


class _Plan(NamedTuple):
    """A country's numbers: how many digits they may have, and what is taken off their beginning."""

    lengths: frozenset[int]
    prefix: re.Pattern[str] | None


NOBODY: Final = Party(text=None, e164=None, digits="", withheld=True)
"""The party of which nothing was said."""


class Comparison(Enum):
    """What two parties' numbers say about each other."""

    SAME = "same"
    DIFFERENT = "different"
    UNKNOWN = "unknown"


SAME: Final = Comparison.SAME
DIFFERENT: Final = Comparison.DIFFERENT
UNKNOWN: Final = Comparison.UNKNOWN


@lru_cache(_CACHE_SIZE)
def party(text: str | None, country: str | None) -> Party:
    """The party named by `text` (null or blank: nobody); `country` (ISO 3166) reads national numbers.

    A blank in front of an international number is a plus that a form decoded.
    """
    if text is None or not text.strip():
        return NOBODY
    number = _number(text)
    digits = _digits(number)
    if not digits or len(digits) > DIGITS_MAX:
        letters = "".join(one for one in _bare(text).lower() if one.isalpha())
        return Party(
            text=text.strip(), e164=None, digits="", withheld=not digits and (letters in _WITHHELD or not letters)
        )
    international = number.startswith("+") or _BLANK_FOR_PLUS.match(text) is not None
    compared = _compared(digits)
    e164 = _e164(digits, country, international=international) if len(compared) >= SUFFIX_DIGITS_MIN else None
    return Party(text=text.strip(), e164=e164, digits=compared, withheld=False)


@lru_cache(_CACHE_SIZE)
def digits_of(text: str | None) -> str:
    """The digits of `party(text, ...)`, which are all that is searched by; the rest takes ten times as long."""
    return "" if text is None else _compared(_digits(_number(text)))


def withheld_word(text: str) -> str:
    """The word in `text` that stands for a withheld number, without what else is there; empty when there is none."""
    word = "".join(one for one in _bare(text) if one.isalpha() or one.isspace()).strip()
    return word if "".join(word.lower().split()) in _WITHHELD else ""


def _is_plain(text: str) -> bool:
    """Nothing but digits, with a plus or without: what most are; for the others it takes ten times as long."""
    digits = text.removeprefix("+")
    return digits.isascii() and digits.isdigit()


def _digits(number: str) -> str:
    if _is_plain(number):
        return number.removeprefix("+")
    return "".join(one for one in to_ascii(number) if one in _DIGITS)


def _compared(digits: str) -> str:
    """What is compared: no zeros in front where enough digits are left; nothing of a run that is no number."""
    if len(digits) > DIGITS_MAX:
        return ""
    significant = digits.lstrip("0")
    return significant if len(significant) >= SUFFIX_DIGITS_MIN else digits


def _bare(text: str) -> str:
    """The text without display name, scheme, host and parameters."""
    bracketed = _IN_BRACKETS.search(text)
    bare = bracketed[1] if bracketed and bracketed[1].strip() else text
    bare = _HOST.split(_SCHEME.sub("", bare.strip(), count=1), maxsplit=1)[0]
    return _NAME_IN_PARENTHESES.sub(" ", bare).strip(" \"'")


def _number(text: str) -> str:
    """The number in `text`, with its plus; empty when there is only a name."""
    if _is_plain(text):
        return text
    bare = _bare(text).replace("(0)", "")
    if not any(one.isalpha() for one in bare):
        return bare
    found = _LEADING.match(bare) or _TRAILING.search(bare)
    return found[1] if found else ""


def _e164(digits: str, country: str | None, *, international: bool) -> str | None:
    # "00" is the plus of most countries, and what 3CX prints for it in every country.
    if not international and digits.startswith("00"):
        international, digits = True, digits[2:]
    if len(digits) > _E164_DIGITS_MAX + 1 or (country is None and not international):
        return None
    if international and (plain := _plain_e164(digits)) is not None:
        return plain
    try:
        number = phonenumbers.parse(f"+{digits}" if international else digits, None if international else country)
    except phonenumbers.NumberParseException:
        return None
    # Without a plus the country is a guess, so the number must exist in its plan; with one it need only be possible.
    if phonenumbers.is_possible_number_with_reason(number) != ValidationResult.IS_POSSIBLE:
        return None
    if not international and not phonenumbers.is_valid_number(number):
        return None
    return phonenumbers.format_number(number, PhoneNumberFormat.E164)


def _plain_e164(digits: str) -> str | None:
    """The quick way for what is E.164 already, of a possible length and without a prefix to take off; else null.

    It says what phonenumbers says, which takes ten times as long: each new caller of a busy site is parsed once.
    """
    for length in _CALLING_CODE_DIGITS:
        plan = _plan(digits[:length])
        if plan is not None:
            national = digits[length:]
            plain = len(national) in plan.lengths and national[0] != "0"
            return f"+{digits}" if plain and not (plan.prefix and plan.prefix.match(national)) else None
    return None


@lru_cache(_PLANS_MAX)
def _plan(calling_code: str) -> _Plan | None:
    """The numbering plan of a calling code; null where there is none by that code, or no simple one."""
    if calling_code.startswith("0"):
        return None
    region = phonenumbers.COUNTRY_CODE_TO_REGION_CODE.get(int(calling_code), (None,))[0]
    metadata = None if region in {None, "001"} else PhoneMetadata.metadata_for_region(region, None)
    if metadata is None or metadata.general_desc is None:
        return None
    prefix = metadata.national_prefix_for_parsing
    return _Plan(frozenset(metadata.general_desc.possible_length), re.compile(prefix) if prefix else None)


def compare(one: Party, other: Party) -> Comparison:
    """Whether the two are the same party, as far as their numbers tell."""
    if one.withheld or other.withheld:
        return UNKNOWN
    if same_number(one, other):
        return SAME
    return DIFFERENT if bool(one.digits) is bool(other.digits) else UNKNOWN


def same_number(one: Party, other: Party) -> bool:
    """Tell whether both numbers are known and the same; two names are the same in any case of their letters."""
    if one.withheld or other.withheld:
        return False
    if one.e164 is not None and one.e164 == other.e164:
        return True
    mine, theirs = one.digits, other.digits
    if not mine and not theirs:
        return (one.text or "").casefold() == (other.text or "").casefold()
    if len(mine) < SUFFIX_DIGITS_MIN or len(theirs) < SUFFIX_DIGITS_MIN:
        return mine == theirs
    return mine.endswith(theirs) or theirs.endswith(mine)


def suffix_key(one: Party) -> str:
    """A key that all parties that are the same number share: the last seven digits, else what there is."""
    return one.digits[-SUFFIX_DIGITS_MIN:] or (one.text or "").casefold()
