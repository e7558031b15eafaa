"""Waiting for what a service needs and that is away: a log line now and then, and a limit where one is set."""

import asyncio
import errno
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from math import inf
from typing import Final

import structlog

from events.settings import ConfigurationError

RETRY_S: Final = 1.0
TOLD_EVERY_S: Final = 30.0
GAVE_UP: Final = 1
"""Exit status of a service that has waited long enough: whoever watches over it starts it again."""

log = structlog.get_logger()


NO_SPACE: Final = frozenset((errno.ENOSPC, errno.EDQUOT))
_PASSING: Final = NO_SPACE | {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EINTR, errno.ENOMEM, errno.ENFILE}
"""What a disk answers that may be well again at the next start; the rest waits for somebody who corrects something."""


class AwayError(Exception):
    """What is needed is away, and may come; the message says what and why."""


def of_disk(error: OSError, message: str) -> AwayError | ConfigurationError:
    """What a start that a disk refused ends with: whether another one may find it well decides."""
    return (AwayError if error.errno in _PASSING else ConfigurationError)(message)


@dataclass(slots=True)
class Reminder:
    """Says when it is time for a log line about something that goes on: at first, and then now and then."""

    told_s: float = -inf

    def is_due(self) -> bool:
        """Whether to tell of it now; who asks, tells."""
        now_s = time.monotonic()
        if now_s - self.told_s < TOLD_EVERY_S:
            return False
        self.told_s = now_s
        return True

    def reset(self) -> None:
        """It is over: the next time it is told at once."""
        self.told_s = -inf


@dataclass(frozen=True, slots=True)
class Patience:
    """How long something is waited for at the most; `variable` sets it."""

    limit_s: float
    variable: str


async def there(
    what: str,
    attempt: Callable[[], Awaitable[None]],
    away: tuple[type[Exception], ...],
    patience: Patience | None = None,
    **where: object,
) -> None:
    """Try until it succeeds; `away`: what says that it is away, `where` goes into the log lines.

    Raises AwayError when an attempt fails after the end of the patience (null: it has none).
    """
    reminder, began_s = Reminder(), time.monotonic()
    while True:
        try:
            await attempt()
        except away as error:
            why = str(error) if isinstance(error, AwayError) else type(error).__name__
            waited_s = time.monotonic() - began_s
            if patience is not None and waited_s >= patience.limit_s:
                message = f"{what} did not come within {patience.variable}, {patience.limit_s:g} s: {why}"
                raise AwayError(message) from None
            if reminder.is_due():
                log.warning("what is needed is away; waiting", what=what, why=why, waited_s=round(waited_s), **where)
            await asyncio.sleep(RETRY_S)
        else:
            if reminder.told_s > began_s:
                log.info("what was needed is there", what=what, waited_s=round(time.monotonic() - began_s), **where)
            return
