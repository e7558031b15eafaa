"""Decimal digits of any script as ASCII digits; and what a number is that a body holds."""

import unicodedata

Number = int | float
"""As it was sent. Not `float`, of which compiled code makes a float in any case: a count of .NET's ticks, or a call id
of 17 digits, would lose its last ones."""


def to_ascii(text: str) -> str:
    """The text with every decimal digit as 0 to 9; all else as it is."""
    if text.isascii():
        return text
    return "".join(str(unicodedata.decimal(one)) if one.isdecimal() else one for one in text)
