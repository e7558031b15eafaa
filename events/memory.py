"""What a process does about its memory."""

import gc
from typing import Final

ALLOCATIONS: Final = 50_000


def collect_garbage_seldom() -> None:
    """For services whose objects have no cycles: looking through them finds nothing.

    It took 8 % of the time in the processors, with their state, and a quarter in the projector, with a batch's rows.
    """
    gc.set_threshold(ALLOCATIONS, 20, 50)
