"""What a process does about its memory."""

import asyncio
import contextlib
import ctypes
import gc
from typing import Final

ALLOCATIONS: Final = 200_000
"""More than the records of one fetch and of two transactions are (some 150,000 objects), which go by themselves."""
LARGE_BYTES: Final = 128 * 1024
"""What glibc begins with."""
M_MMAP_THRESHOLD: Final = -3
"""Of glibc's malloc.h."""
GIVEN_BACK_EVERY_S: Final = 60.0


def collect_garbage_seldom() -> None:
    """For services whose objects have no cycles: looking through them finds nothing.

    It took 8 % of the time in the processors, with their state, and a quarter in the projector, with a batch's rows.
    """
    gc.set_threshold(ALLOCATIONS, 20, 50)


def give_large_buffers_back() -> None:
    """Have what a fetch brings leave the process when it was read, as it does by itself until the first large one.

    glibc takes up to 32 MB from the heap once as much was freed, and small objects between them keep that there. With
    12 partitions taken over again and again a processor grew from 111 to 139 MB; with this it stays at 105. Nothing is
    done where the C library has no such call.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)


async def give_back_what_is_free() -> None:
    """Once a minute, until cancelled: the whole pages that are free between what is kept.

    By itself glibc gives back only what is free at the heap's end. Over fourteen outages of its broker (up to 12 s at
    200 webhooks a second) a processor went up to 162 MB, step by step; with this the one beside it was back at 113 to
    121 after each. It takes 5 to 30 ms where there is something to give, in a thread.
    """
    while True:
        await asyncio.sleep(GIVEN_BACK_EVERY_S)
        await asyncio.to_thread(give_back)


def give_back() -> None:
    """Now; nothing is done where the C library has no such call."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
