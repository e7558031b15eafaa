"""How far a long command has come, on stderr: one line that is written over on a terminal, else a line now and then."""

import asyncio
import contextlib
import sys
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import Final, TextIO

TERMINAL_S: Final = 1.0
LINES_S: Final = 5.0
RATE_SAMPLES: Final = 10


class Progress:
    """Counts records (or another `unit`); the rate and the ETA are those of the last `RATE_SAMPLES` lines."""

    def __init__(self, command: str, stream: TextIO | None = None, unit: str = "records") -> None:
        """Set `total` before `shown`; then count in `done`, or with `skip`."""
        self._command = command
        self._unit = unit
        self._stream = stream or sys.stderr
        self.total = 0
        self.done = 0
        self._samples: deque[tuple[float, int]] = deque(maxlen=RATE_SAMPLES)

    def skip(self, count: int) -> None:
        """Count what was done before: no part of the rate."""
        self.done += count
        self._samples = deque(((at_s, done + count) for at_s, done in self._samples), RATE_SAMPLES)

    @contextlib.asynccontextmanager
    async def shown(self) -> AsyncIterator[None]:
        """Show the progress for the length of the block, and once more at its end."""
        self._samples.append((time.monotonic(), self.done))
        task = asyncio.create_task(self._show())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self._write("\n")

    async def _show(self) -> None:
        terminal = self._stream.isatty()
        while True:
            await asyncio.sleep(TERMINAL_S if terminal else LINES_S)
            self._write("" if terminal else "\n")

    def _write(self, ending: str) -> None:
        again = "\r\x1b[K" if self._stream.isatty() else ""
        self._stream.write(f"{again}{self._line(time.monotonic())}{ending}")
        self._stream.flush()

    def _line(self, now_s: float) -> str:
        since_s, since = self._samples[0]
        self._samples.append((now_s, self.done))
        rate = (self.done - since) / max(now_s - since_s, 0.001)
        share = 100 * self.done // self.total if self.total else 100
        left = self.total - self.done
        eta = span(left / rate) if rate > 0 else ("0:00" if left <= 0 else "unknown")
        unit = self._unit
        return f"{self._command}: {self.done:,} / {self.total:,} {unit} ({share} %), {rate:,.0f} {unit}/s, ETA {eta}"


def span(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
