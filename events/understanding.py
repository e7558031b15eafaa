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
_NO_DIRECTION: Final = Direction.UNKNOWN
_OUTBOUND: Final = Direction.OUTBOUND
_ANSWERED: Final = Outcome.ANSWERED
_YEAR_ONE: Final = dates.Missing.YEAR_ONE
_SAYING: Final = (State.READ, State.UNREADABLE)
_UNSAID: Final = (Direction.UNKNOWN, Outcome.UNKNOWN)
_TEXTS: Final = ("caller", "callee", "number", "extension", "email", "call_id", "recording")
_new: Final = tuple.__new__


def understand(fields: Fields, received_at: datetime, pbx: Pbx) -> Start | End:
    """The start or end that the fields tell of."""
    direction, outcome = direction_of(fields)
    *sides, extension, email, call_id, recording_url = _texts(fields)
    caller, callee = _parties(direction, pbx.country, *sides)
    said = fields["duration"].value if "duration" in fields else None
    duration_s = None if said is None else durations.read(said)
    started, ended = moments(fields, received_at, pbx)
    if not (duration_s or recording_url or outcome is not _UNKNOWN or _says_ended(fields, ended)):
        started_at = _at(started) or _at(_moment(fields, "answered_at", received_at, pbx))
        return _new(Start, (extension, email, direction, caller, callee, call_id, started_at))
    if outcome is _UNKNOWN and duration_s:
        outcome = _ANSWERED
    moments_of_end = _at(started), _at(ended)
    sides_of_end = extension, email, direction, caller, callee, call_id
    return _new(End, (*sides_of_end, *moments_of_end, duration_s, outcome, recording_url))


def _texts(fields: Fields) -> list[str | None]:
    """The fields that are texts, in the order of `_TEXTS`, however they were sent."""
    get = fields.get
    return [
        None if (field := get(name)) is None else value if isinstance(value := field.value, str) else field.text
        for name in _TEXTS
    ]


def direction_of(fields: Fields) -> tuple[Direction, Outcome]:
    """Direction and outcome; the call's type adds what the direction's word leaves unknown, mostly the outcome."""
    direction, outcome = _word(fields, "direction")
    if (direction is _NO_DIRECTION or outcome is _UNKNOWN) and "call_type" in fields:
        more_direction, more_outcome = _word(fields, "call_type")
        direction = more_direction if direction is _NO_DIRECTION else direction
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
    value = None if field is None else field.value
    if field is None or value is None:
        return None
    if isinstance(value, str) and (exact := dates.exact(value)) is not None:
        return exact
    return dates.read(value, received_at, pbx, says_utc=field.says_utc, like=like)


def _at(moment: Moment) -> datetime | None:
    return moment.at if isinstance(moment, Read) else None


def _says_ended(fields: Fields, ended: Moment) -> bool:
    if "ended_at" not in fields or ended is _YEAR_ONE:
        return False
    return fields["ended_at"].state in _SAYING


def _parties(
    direction: Direction, country: str | None, caller: str | None, callee: str | None, number: str | None
) -> tuple[Party, Party]:
    """Caller and callee. A lone ``Number`` is the external party: the callee of an outbound call, else the caller."""
    if number is not None:
        if direction is _OUTBOUND:
            callee = callee or number
        else:
            caller = caller or number
    return numbers.party(caller, country), numbers.party(callee, country)
