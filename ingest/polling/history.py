"""Ends from the PBX's own history of calls, where it is licensed: asked seldom, each told to the processors once.

``GET /xapi/v1/CallHistoryView`` of what ended in the last `POLLING_HISTORY_BACK_S`, but for the last interval: the
webhook of that may be on the way. What ended first comes first; where there is more than an answer holds, the next
asking begins at the last one's end, right after the next poll. A PBX that refuses it (another edition, a client without
the role) is asked `REFUSED_FACTOR` times as seldom; polling goes on without.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import structlog

from events.call_history import last_end_of, past_calls, recorded_value
from events.envelope import Type
from events.metrics import Metrics
from events.odata import Page, page_of
from ingest.polling.answers import Outcome
from ingest.polling.settings import PollSettings
from ingest.polling.witness import Witness
from ingest.polling.xapi import HISTORY_ROWS_MAX, Xapi

REFUSED_FACTOR: Final = 10
SECOND: Final = timedelta(seconds=1)
TOLD_MAX: Final = 20_000
"""Ids of rows that were told: of two hours, at a hundred calls a minute."""

log = structlog.get_logger()


class History:
    """Of one PBX."""

    def __init__(self, settings: PollSettings, pbx: str, metrics: Metrics, clock: Callable[[], datetime]) -> None:
        """Nothing is asked yet."""
        self._settings = settings
        self._pbx = pbx
        self._metrics = metrics
        self._clock = clock
        self._told: dict[str, None] = {}
        self._asked_at: datetime | None = None
        self._pause_s = 0.0
        self._from: datetime | None = None

    def is_due(self, now: datetime) -> bool:
        """Whether the last asking is long enough ago; a clock that was set back makes it so, too."""
        return self._asked_at is None or not 0 <= (now - self._asked_at).total_seconds() < self._pause_s

    async def ask(self, xapi: Xapi, witness: Witness) -> None:
        """Ask, and tell what is new; raises what `Witness.tell` raises."""
        now = self._clock()
        since = self._from or now - timedelta(seconds=self._settings.polling_history_back_s)
        outcome, body = await xapi.history(since)
        page = page_of(body) if outcome is Outcome.GOOD else None
        interval_s = self._settings.polling_history_interval_s
        self._asked_at, self._pause_s = now, interval_s * (1 if page is not None else REFUSED_FACTOR)
        if page is None:
            self._metrics.counter("histories_total", self._pbx, outcome).inc()
            log.warning("the PBX gave no history of calls", pbx=self._pbx, outcome=outcome)
            return
        settled = now - timedelta(seconds=interval_s)
        await self._tell(page, settled, witness)
        self._go_on(page, since, settled)

    def _go_on(self, page: Page, since: datetime, settled: datetime) -> None:
        """Begin the next asking where this one ended, if there is more; a second with more than an answer is passed."""
        last, outcome = last_end_of(page.rows), Outcome.GOOD
        has_more = page.next_link is not None or len(page.rows) >= HISTORY_ROWS_MAX
        self._from = last if has_more and last is not None and last <= settled else None
        if self._from is not None:
            self._pause_s = 0.0
            if self._from < since.replace(microsecond=0) + SECOND:
                outcome, self._from = Outcome.INCOMPLETE, since + SECOND
                log.warning("the PBX's history has more calls in a second than an answer holds", pbx=self._pbx)
        self._metrics.counter("histories_total", self._pbx, outcome).inc()

    async def _tell(self, page: Page, settled: datetime, witness: Witness) -> None:
        fresh = [one for one in past_calls(page.rows) if one.id not in self._told and one.ended_at <= settled]
        if not fresh:
            return
        await witness.tell(Type.CALLS_RECORDED, recorded_value(fresh), self._clock())
        self._told |= dict.fromkeys(one.id for one in fresh)
        for identity in list(self._told)[: max(0, len(self._told) - TOLD_MAX)]:
            del self._told[identity]
