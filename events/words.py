"""Words of the contract: enumerations whose members are text."""

from enum import StrEnum


class Word(StrEnum):
    """Base of enumerations that are counted and looked up in the hot path.

    Hashed as the text that they equal: Enum's own hash is a call of Python each time.
    """

    __hash__ = str.__hash__
