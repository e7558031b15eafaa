"""What the fields of a body say: a start or an end. Pure.

An end has an end time, a recording, a duration above zero, or a missed / not-answered direction (a template that
serves both triggers can print ``00:00:00`` at the start); otherwise it is a start. A field that cannot be read is
null, and the event still counts; an end time that cannot be read still says that there was an end. When the call was
answered stands for the start of a start event that names none (the PBX sends it when the call is established), never
for that of an end, whose ringing would be lost.
Source: the design, section 4.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from events import dates, directions, durations, numbers
from events.dates import Read
from events.fields import Field, State
from events.pbx import Pbx
from events.session import Direction, Outcome
from events.webhook import End, Party, Start

Fields = Mapping[str, Field]
_UNKNOWN: Final = Outcome.UNKNOWN
_UNSAID: Final = (Direction.UNKNOWN, Outcome.UNKNOWN)


def understand(fields: Fields, received_at: datetime, pbx: Pbx) -> Start | End:
    """The start or end that the fields tell of."""
    direction, outcome = direction_of(fields)
    caller, callee = _parties(fields, direction, pbx.country)
    extension, email = _text(fields, "extension"), _text(fields, "email")
    call_id, recording_url = _text(fields, "call_id"), _text(fields, "recording")
    said = fields["duration"].value if "duration" in fields else None
    duration_s = None if said is None else durations.read(said)
    started, ended = moments(fields, received_at, pbx)
    if not (duration_s or recording_url or outcome is not _UNKNOWN or _says_ended(fields, ended)):
        started_at = _at(started) or _at(_moment(fields, "answered_at", received_at, pbx))
        return Start(extension, email, direction, caller, callee, call_id, started_at)
    if outcome is _UNKNOWN and duration_s:
        outcome = Outcome.ANSWERED
    return End(
        extension,
        email,
        direction,
        caller,
        callee,
        call_id,
        _at(started),
        _at(ended),
        duration_s,
        outcome,
        recording_url,
    )


def _text(fields: Fields, name: str) -> str | None:
    field = fields.get(name)
    if field is None:
        return None
    value = field.value
    return value if value is None or isinstance(value, str) else str(value)


def direction_of(fields: Fields) -> tuple[Direction, Outcome]:
    """Direction and outcome; the call's type adds what the direction's word leaves unknown, mostly the outcome."""
    direction, outcome = _word(fields, "direction")
    if (direction is Direction.UNKNOWN or outcome is _UNKNOWN) and "call_type" in fields:
        more_direction, more_outcome = _word(fields, "call_type")
        direction = more_direction if direction is Direction.UNKNOWN else direction
        outcome = more_outcome if outcome is _UNKNOWN else outcome
    return direction, outcome


def _word(fields: Fields, name: str) -> tuple[Direction, Outcome]:
    field = fields.get(name)
    said = directions.read(field.value) if field is not None and isinstance(field.value, str) else None
    return said or _UNSAID


Moment = Read | dates.Missing | None


def moments(fields: Fields, received_at: datetime, pbx: Pbx) -> tuple[Moment, Moment]:
    """Start and end. The end is nearer to `received_at`, so it decides first how this body's dates are to be read."""
    ended = _moment(fields, "ended_at", received_at, pbx)
    like = ended if isinstance(ended, Read) else None
    return _moment(fields, "started_at", received_at, pbx, like), ended


def _moment(fields: Fields, name: str, received_at: datetime, pbx: Pbx, like: Read | None = None) -> Moment:
    field = fields.get(name)
    if field is None or field.value is None:
        return None
    return dates.read(field.value, received_at, pbx, says_utc=field.says_utc, like=like)


def _at(moment: Moment) -> datetime | None:
    return moment.at if isinstance(moment, Read) else None


def _says_ended(fields: Fields, ended: Moment) -> bool:
    if "ended_at" not in fields or ended is dates.Missing.YEAR_ONE:
        return False
    state = fields["ended_at"].state
    return state is State.READ or state is State.UNREADABLE


def _parties(fields: Fields, direction: Direction, country: str | None) -> tuple[Party, Party]:
    """Caller and callee. A lone ``Number`` is the external party: the callee of an outbound call, else the caller."""
    caller, callee, number = _text(fields, "caller"), _text(fields, "callee"), _text(fields, "number")
    if number is not None:
        if direction is Direction.OUTBOUND:
            callee = callee or number
        else:
            caller = caller or number
    return numbers.party(caller, country), numbers.party(callee, country)
