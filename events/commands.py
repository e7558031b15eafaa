"""Running a command that ends by itself: settings, log, signals, exit status.

Exit status: the work's own; 2 for a wrong configuration; 130 after Ctrl-C, 143 after SIGTERM, what is at hand finished.
"""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Final, NoReturn

import uvloop

from events import logs
from events.settings import ConfigurationError, SettingsT, exit_with, load

SIGNAL_BASE: Final = 128


def run_command(
    service: str, command: str, settings_class: type[SettingsT], work: Callable[[SettingsT], Coroutine[None, None, int]]
) -> NoReturn:
    """Do the work, and end the process with its exit status."""
    try:
        settings = load(settings_class)
        logs.configure(service, settings)
        sys.exit(uvloop.run(_until_signalled(work(settings))))
    except ConfigurationError as error:
        exit_with(f"{service} {command}", error)


async def _until_signalled(work: Awaitable[int]) -> int:
    """Cancel the work at the first signal; a second one changes nothing."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    caught: list[int] = []

    def stop(number: int) -> None:
        if not caught:
            caught.append(number)
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    try:
        return await task
    except asyncio.CancelledError:
        if not caught:  # cancelled by something within: its place is what tells
            raise
        return SIGNAL_BASE + caught[0]
