"""Numbers and parties once more, from the design's "Matching an end to a start", for the model."""

from enum import Enum
from functools import lru_cache

from tests.simulation.facts import Number

WITHHELD = ("anonymous", "unknown", "withheld", "private")


class Proof(Enum):
    """What two numbers, or the parties of two events, say about each other."""

    SAME = 1
    DIFFERENT = 2
    NOTHING = 3


def is_withheld(number: Number) -> bool:
    """Suppressed, or not sent at all."""
    return number.text is None or number.text.lower() in WITHHELD


@lru_cache(1000)
def digits_of(text: str) -> str:
    """The digits; without leading zeros where seven or more remain."""
    bare = text[text.index("<") + 1 : text.index(">")] if "<" in text else text
    digits = "".join(one for one in bare.split("@")[0] if one.isdigit())
    return digits.lstrip("0") if len(digits.lstrip("0")) >= 7 else digits


@lru_cache(10_000)
def compare(one: Number, other: Number) -> Proof:
    """A withheld number proves nothing, nor does a name beside a number."""
    if one.text is None or other.text is None or is_withheld(one) or is_withheld(other):
        return Proof.NOTHING
    mine, theirs = digits_of(one.text), digits_of(other.text)
    if not mine and not theirs:
        return Proof.SAME if one.text.lower() == other.text.lower() else Proof.DIFFERENT
    if not mine or not theirs:
        return Proof.NOTHING
    if mine == theirs or (one.e164 is not None and one.e164 == other.e164):
        return Proof.SAME
    short, long = sorted((mine, theirs), key=len)
    return Proof.SAME if len(short) >= 7 and long.endswith(short) else Proof.DIFFERENT


def external(direction: str, caller: Number, callee: Number) -> Number | None:
    """Who of the two is outside of the PBX; null where the direction does not tell."""
    return {"inbound": caller, "outbound": callee}.get(direction)


Sides = tuple[str, Number, Number]
"""Direction, caller, callee."""


@lru_cache(10_000)
def compare_sides(one: Sides, other: Sides) -> Proof:
    """The external parties where one direction applies to both, else callers and callees, which must both agree."""
    known = {side[0] for side in (one, other)} - {"unknown"}
    if known in ({"inbound"}, {"outbound"}):
        place = 1 if known == {"inbound"} else 2
        return compare(one[place], other[place])
    both = [compare(one[place], other[place]) for place in (1, 2)]
    if known == {"inbound", "outbound"}:  # each has its own external party
        mine, theirs = external(*one), external(*other)
        both += [Proof.DIFFERENT] if mine and theirs and compare(mine, theirs) is Proof.DIFFERENT else []
    if Proof.DIFFERENT in both:
        return Proof.DIFFERENT
    return Proof.SAME if both == [Proof.SAME, Proof.SAME] else Proof.NOTHING


def tells_nobody(sides: Sides) -> bool:
    """Whether the party that would decide is withheld (both, where the direction does not tell which)."""
    party = external(*sides)
    return is_withheld(party) if party is not None else is_withheld(sides[1]) and is_withheld(sides[2])
