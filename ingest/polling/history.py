"""Ends from the PBX's own history of calls, where it is licensed: asked seldom, each told to the processors once.

``GET /xapi/v1/CallHistoryView`` of what ended in the last `POLLING_HISTORY_BACK_S`, but for the last interval: the
webhook of that may be on the way. A PBX that refuses it (another edition, a client without the role) is asked
`REFUSED_FACTOR` times as seldom; polling goes on without.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import structlog

from events.call_history import past_calls, recorded_value, rows_of
from events.envelope import Type
from events.metrics import Metrics
from ingest.polling.answers import Outcome
from ingest.polling.settings import PollSettings
from ingest.polling.witness import Witness
from ingest.polling.xapi import Xapi

REFUSED_FACTOR: Final = 10
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
        self._due_at: datetime | None = None

    def is_due(self, now: datetime) -> bool:
        """Whether it is time to ask."""
        return self._due_at is None or now >= self._due_at

    async def ask(self, xapi: Xapi, witness: Witness) -> None:
        """Ask, and tell what is new; raises what `Witness.tell` raises."""
        now = self._clock()
        outcome, body = await xapi.history(now - timedelta(seconds=self._settings.polling_history_back_s))
        rows = rows_of(body) if outcome is Outcome.GOOD else None
        self._metrics.counter("histories_total", self._pbx, outcome).inc()
        interval_s = self._settings.polling_history_interval_s
        self._due_at = now + timedelta(seconds=interval_s * (1 if rows is not None else REFUSED_FACTOR))
        if rows is None:
            log.warning("the PBX gave no history of calls", pbx=self._pbx, outcome=outcome)
            return
        settled = now - timedelta(seconds=interval_s)
        fresh = [one for one in past_calls(rows) if one.id not in self._told and one.ended_at <= settled]
        if fresh:
            await witness.tell(Type.CALLS_RECORDED, recorded_value(fresh), self._clock())
            self._told |= dict.fromkeys(one.id for one in fresh)
            for identity in list(self._told)[: max(0, len(self._told) - TOLD_MAX)]:
                del self._told[identity]
