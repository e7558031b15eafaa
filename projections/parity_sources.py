"""What is compared: answers of the polled topic as observations, and sessions of the call log."""

from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import or_, select

from events import envelope
from events.active_calls import calls_of
from events.envelope import EnvelopeError, Type
from events.session import Outcome
from projections.parity import Session
from projections.polled import Observation
from projections.store import Store
from projections.tables import calls

AROUND: Final = timedelta(hours=4)
"""So much before and after is looked at, too: calls that reach into the time asked for."""


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
    c = calls.c
    reaches_in = or_(c.closed_at.is_(None), c.closed_at >= begin - AROUND)
    statement = select(calls).where(c.began_at < end + AROUND, reaches_in).order_by(c.began_at, c.session_id)
    async with store.reading() as connection:
        return [
            Session(
                row.session_id,
                row.pbx,
                row.extension,
                row.caller_digits,
                row.callee_digits,
                row.began_at,
                row.first_received_at,
                row.closed_at,
                taken=row.outcome not in {Outcome.MISSED.value, Outcome.NOT_ANSWERED.value},
            )
            for row in await connection.execute(statement)
        ]
