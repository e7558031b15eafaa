"""What is compared: answers of the polled topic as observations, and sessions of the call log."""

from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import select

from events import envelope
from events.active_calls import calls_of
from events.envelope import EnvelopeError, Type
from events.session import Outcome, Status
from projections.parity import Session
from projections.polled import Observation
from projections.store import Store
from projections.tables import calls

AROUND: Final = timedelta(hours=4)
"""So much before and after is looked at, too: calls that reach into the time asked for."""
LONGEST: Final = timedelta(hours=24)
"""A call that has ended is looked for no further back; what lasts longer is none that anybody talks in."""
_NOT_TAKEN: Final = (Outcome.MISSED.value, Outcome.NOT_ANSWERED.value)
_COMPARED: Final = (
    *(calls.c.session_id, calls.c.pbx, calls.c.extension, calls.c.caller_digits, calls.c.callee_digits),
    *(calls.c.began_at, calls.c.first_received_at, calls.c.closed_at, calls.c.outcome.not_in(_NOT_TAKEN)),
)
"""A `Session`; the call's document, which is most of a row, is not read."""


def observation(headers: Any, value: bytes | None) -> Observation | None:
    """The good answer in a record of ``threecx.polled-calls``; null for what is none."""
    try:
        said = envelope.decode(headers)
    except EnvelopeError:
        return None
    seen = calls_of(value or b"") if said.type is Type.CALLS_POLLED else None
    return None if seen is None else Observation(said.pbx, said.time, tuple(seen))


async def sessions_between(store: Store, begin: datetime, end: datetime) -> list[Session]:
    """The sessions of the time and around it, by their beginning."""
    c, first = calls.c, begin - AROUND
    ended = select(*_COMPARED).where(c.began_at >= first - LONGEST, c.began_at < end + AROUND, c.closed_at >= first)
    # They may have begun at any time; asked for by their beginning, too, SQLite would look for all that did before.
    going_on = select(*_COMPARED).where(c.status == Status.OPEN.value)
    async with store.reading() as connection:
        found = [Session(*row) for part in (ended, going_on) for row in await connection.execute(part)]
    return sorted((one for one in found if one.began_at < end + AROUND), key=lambda one: (one.began_at, one.session_id))
