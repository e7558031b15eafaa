"""Waiting for a condition, with a deadline and a reason: tests never sleep and hope."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

POLL_S = 0.02

T = TypeVar("T")


async def eventually(look: Callable[[], Awaitable[T]], holds: Callable[[T], bool] = bool, timeout_s: float = 20.0) -> T:
    """Look again and again until what is seen holds, and return it; at the deadline fail with what was last seen."""
    deadline = time.monotonic() + timeout_s
    while True:
        seen = await look()
        if holds(seen):
            return seen
        if time.monotonic() > deadline:
            message = f"not within {timeout_s} s; last seen: {seen!r}"
            raise AssertionError(message)
        await asyncio.sleep(POLL_S)
