"""How far a PBX's clock is from ours, as its webhooks tell: measured and reported, never silently mended. Pure.

A webhook is sent when something happens, so a reported time lies just before its receipt. Where the median of the last
ones is hours off, a template stamps local time as UTC, or the PBX's zone is set wrongly (`PBX_TIMEZONE`). A median,
because single webhooks come late, and because some were started before they were reported.
"""

from collections import deque
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from events.webhook import End, Start

SAMPLES: Final = 31
"""Webhooks that the median is of."""
SAMPLES_MIN: Final = 5
"""With fewer there is no saying."""
HOUR_S: Final = 3_600


class ClockSkews:
    """The last differences per PBX, of one partition. Not part of the state: it decides nothing."""

    def __init__(self) -> None:
        """Nothing was heard."""
        self._ahead: dict[str, deque[timedelta]] = {}
        self._heard: set[str] = set()

    def note(self, pbx: str, event: Start | End, received_at: datetime) -> None:
        """Take in what an event reports of its own moment, if it does."""
        reported = event.started_at if isinstance(event, Start) else event.ended_at
        if reported is None:
            return
        self._heard.add(pbx)
        last = self._ahead.get(pbx)
        if last is None:
            last = self._ahead[pbx] = deque(maxlen=SAMPLES)
        last.append(reported - received_at)

    def take(self) -> Iterator[tuple[str, float]]:
        """Each PBX heard since the last time and its skew in seconds; positive: its clock is ahead of ours."""
        heard, self._heard = self._heard, set()
        for pbx in sorted(heard):
            last = self._ahead[pbx]
            if len(last) >= SAMPLES_MIN:
                yield pbx, sorted(last)[len(last) // 2].total_seconds()


def whole_hours(skew_s: float, warn_s: float) -> int | None:
    """The skew as the nearest count of hours when it is beyond `warn_s`, null when it is within."""
    return None if abs(skew_s) < warn_s else round(skew_s / HOUR_S)
