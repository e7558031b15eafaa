"""How a body would be read, field by field and in words, for the person who sets up 3CX. Pure.

Reads by the very functions that the processors use; adds only which field was guessed and what a missing one means.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from events import dates, durations, fields, times, understanding
from events.bodies import Fields as Sent
from events.fields import ABSENT, Field, State
from events.pbx import Pbx
from events.session import Direction, Outcome
from events.webhook import End, Start

UNKNOWN_KEYS_MAX: Final = 50
SKEW_TOLERATED: Final = timedelta(minutes=2)
SKEW_H_MAX: Final = 14
_TIMES: Final = frozenset(("started_at", "ended_at"))
_OF_END: Final = frozenset(("ended_at", "duration", "recording"))
_HALF_HOUR: Final = timedelta(minutes=30)


class FieldExplanation(BaseModel):
    """One field: the key as `sent` (null when it was not), the `value` as understood, its state, and a sentence."""

    model_config = ConfigDict(frozen=True)

    name: str
    sent: str | None
    value: str | None
    state: State
    note: str | None


class Explanation(BaseModel):
    """How a body would be read; `kind` is ``test`` for a body that tells of no call, such as ``{"test": true}``."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["start", "end", "test", "unreadable"]
    reason: str | None
    fields: tuple[FieldExplanation, ...]
    unknown_keys: tuple[str, ...]


def nothing(kind: Literal["test", "unreadable"], reason: str, sent: Sent) -> Explanation:
    """The explanation of a body without a field of a call."""
    return Explanation(
        kind=kind, reason=reason if kind == "unreadable" else None, fields=(), unknown_keys=_unknown(sent)
    )


def explain(sent: Sent, received_at: datetime, pbx: Pbx, unreadable: str | None) -> Explanation:
    """How the fields of a body are read; `unreadable`: why they tell of no call, if they do not."""
    known = fields.known(sent)
    reading = understanding.understand(known, received_at, pbx)
    kind: Literal["start", "end"] = "start" if isinstance(reading, Start) else "end"
    return Explanation(
        kind=kind if unreadable is None else "unreadable",
        reason=unreadable,
        fields=tuple(_explained(known, reading, received_at, pbx)),
        unknown_keys=_unknown(sent),
    )


def _unknown(sent: Sent) -> tuple[str, ...]:
    return tuple(fields.unknown(sent, UNKNOWN_KEYS_MAX))


Value = str | datetime | int | None


def _values(known: Mapping[str, Field], reading: Start | End) -> dict[str, Value]:
    """What was understood, by field; those of an end alone are told of a start where they were sent."""
    values: dict[str, Value] = {
        "extension": reading.extension,
        "email": reading.email,
        "direction": _direction(reading),
        "caller": reading.caller.e164 or reading.caller.text,
        "callee": reading.callee.e164 or reading.callee.text,
        "call_id": reading.call_id,
        "started_at": reading.started_at,
    }
    match reading:
        case Start():
            said = known.get("duration", ABSENT).value
            duration_s = None if said is None else durations.read(said)
            of_end: dict[str, Value] = {"ended_at": None, "duration": duration_s, "recording": None}
            return values | {name: value for name, value in of_end.items() if name in known}
        case End():
            return values | {
                "ended_at": reading.ended_at,
                "duration": reading.duration_s,
                "recording": reading.recording_url,
            }


def _direction(reading: Start | End) -> str | None:
    """The direction, with the outcome where the word says one: ``inbound, missed``."""
    if reading.direction is Direction.UNKNOWN:
        return None
    if isinstance(reading, End) and reading.outcome in {Outcome.MISSED, Outcome.NOT_ANSWERED}:
        return f"{reading.direction}, {reading.outcome}"
    return str(reading.direction)


def _explained(
    known: Mapping[str, Field], reading: Start | End, received_at: datetime, pbx: Pbx
) -> Iterator[FieldExplanation]:
    for name, value in _values(known, reading).items():
        field = known.get(name, ABSENT)
        stands_in = _STANDS_IN.get(name) if value is not None and field.state is not State.READ else None
        if stands_in is not None:
            field = known[stands_in]
        if isinstance(value, datetime):
            live = name == "ended_at" or isinstance(reading, Start)
            state, note = _time(field, value, pbx, received_at if live else value)
        elif stands_in is not None and reading.direction is Direction.UNKNOWN:
            state, note = State.GUESSED, "the direction is not known, so the external party is taken for the caller"
        else:
            state, note = _state(name, field, value, of_end=isinstance(reading, End))
        text = times.to_text(value) if isinstance(value, datetime) else None if value is None else str(value)
        yield FieldExplanation(name=name, sent=field.key, value=text, state=state, note=note)


_STANDS_IN: Final = {"direction": "call_type", "caller": "number", "callee": "number", "started_at": "answered_at"}
"""Which field is told in another one's place when that one was not sent."""
_WITHOUT: Final = {
    "extension": "the agent is known by the e-mail, once both were seen together",
    "email": "the agent is known by the extension alone",
    "direction": "both parties must agree for an end to find its start",
    "caller": "calls will be paired by agent and time alone, unless the callee is the external party",
    "callee": "calls will be paired by agent and time alone, unless the caller is the external party",
    "call_id": "calls will be paired by agent, party and time",
    "started_at": "the time of receipt stands for the start of a call",
    "ended_at": "the time of receipt stands for the end of the call",
    "duration": "the call will show no duration",
    "recording": "the call will have no link to a recording",
}


def _state(name: str, field: Field, value: Value, *, of_end: bool) -> tuple[State, str | None]:
    effect = _WITHOUT[name]
    if field.state is State.UNRESOLVED:
        return State.UNRESOLVED, f"`{field.key}` arrived unresolved: this PBX has no such variable; {effect}"
    if field.value is not None and value is not None:
        return State.READ, None
    if field.value is not None and name in _TIMES and _is_year_one(field.value):
        return State.MISSING, f"`{field.key}` is the year 0001, which is how the PBX prints no date; {effect}"
    if field.value is not None or field.state is State.UNREADABLE:
        return State.UNREADABLE, f"`{field.key}` could not be read; {effect}"
    if name in _OF_END and not of_end:
        return State.MISSING, f"`{field.key}` was sent empty, as it should be when a call begins"
    return State.MISSING, f"{'not sent' if field.key is None else f'`{field.key}` was sent empty'}; {effect}"


def _is_year_one(value: str | float) -> bool:
    return dates.readings(value, Pbx(), says_utc=False) is dates.Missing.YEAR_ONE


def _time(field: Field, at: datetime, pbx: Pbx, live_at: datetime) -> tuple[State, str | None]:
    """A time that was read: whether there was a choice, and whether it is whole hours off `live_at`."""
    every = [] if field.value is None else dates.readings(field.value, pbx, says_utc=field.says_utc)
    # ISO 8601 with a zone is read exactly (the year 0002, too), where the printed form alone would say no date.
    found = [] if isinstance(every, dates.Missing) else every
    if len(found) > 1:
        return State.GUESSED, (
            f"`{field.key}` can be read in {len(found)} ways, and the one nearest to its receipt was chosen:"
            " set the PBX's date order and time zone, or send the time in ISO 8601 with its offset"
        )
    if field.key is not None and "established" in field.key.lower():
        return State.GUESSED, f"`{field.key}` is when the call was answered; it stands for the start"
    if found and found[0].zone is dates.Zone.PBX:
        return State.READ, f"`{field.key}` has no zone: it was read in the PBX's, {pbx.timezone}"
    return State.READ, _skew(field, at - live_at)


def _skew(field: Field, ahead: timedelta) -> str | None:
    """A difference of whole half hours, as zones make it: said, never taken away."""
    halves = round(ahead / _HALF_HOUR)
    if not 0 < abs(halves) <= SKEW_H_MAX * 2 or abs(ahead - halves * _HALF_HOUR) > SKEW_TOLERATED:
        return None
    side = "ahead of" if halves > 0 else "behind"
    return (
        f"`{field.key}` is {abs(halves) / 2:g} h {side} the time of receipt: if the call was live, the template may"
        " print local time as UTC, or the PBX's clock is wrong; it is read as it stands"
    )
