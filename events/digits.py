"""Decimal digits of any script as ASCII digits."""

import unicodedata


def to_ascii(text: str) -> str:
    """The text with every decimal digit as 0 to 9; all else as it is."""
    if text.isascii():
        return text
    return "".join(str(unicodedata.decimal(one)) if one.isdecimal() else one for one in text)
