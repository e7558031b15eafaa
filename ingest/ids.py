"""Ids of webhooks: 128 random bits each as 32 hex digits, asked of the system for many at once."""

import itertools
import os
from collections.abc import Iterator
from typing import Final

ID_BYTES: Final = 16
IDS_AT_ONCE: Final = 256


def random_ids() -> Iterator[str]:
    """One after the other, for ever; nobody can guess them, and no two are alike."""
    return itertools.chain.from_iterable(map(_some, itertools.repeat(IDS_AT_ONCE)))


def _some(count: int) -> list[str]:
    digits = os.urandom(ID_BYTES * count).hex()
    return [digits[begin : begin + 2 * ID_BYTES] for begin in range(0, len(digits), 2 * ID_BYTES)]
