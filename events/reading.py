"""Reading a body: what a webhook says, in one tolerant place. Pure: the same bytes at the same time read the same.

Missing is: absent, null, empty, blank, an unresolved ``[Variable]``, or the year 0001. An end has an end time, a
recording, a duration above zero, or a missed / not-answered direction (a template that serves both triggers can print
``00:00:00`` at the start); otherwise it is a start. A field that cannot be read is null, and the event still counts.
Source: the design, section 4; 3cx.md, section 1.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Literal

from pydantic import BaseModel

from events import bodies, dates, directions, durations, numbers
from events.pbx import Pbx
from events.session import Direction, Outcome
from events.webhook import End, Party, Reading, Start, Unreadable

NO_FIELDS: Final = "the body is neither a JSON object nor form fields"
NO_KNOWN_FIELD: Final = "the body has none of the fields of a call"

TEXT_CHARACTERS_MAX: Final = 256
URL_CHARACTERS_MAX: Final = 2_048

NAMES: Final[dict[str, tuple[str, ...]]] = {
    "call_id": ("callid", "id"),
    "caller": ("caller", "callernumber", "from"),
    "callee": ("callee", "callednumber", "calleenumber", "to"),
    "number": ("number", "phone", "phonenumber"),
    "extension": ("agentext", "agentnumber", "agentextension", "agent", "extension"),
    "email": ("agentmail", "agentemail", "email"),
    "direction": ("direction", "calldirection"),
    "call_type": ("calltype", "type"),
    "duration": ("duration", "callduration", "durationseconds"),
    "recording": ("wav", "recordingurl", "recording"),
    "started_at": (
        "starttime",
        "startutc",
        "callstarttimeutc",
        "callstarttime",
        "callstarttimeutcmillis",
        "callstarttimelocal",
        "callestablishedtimeutc",
        "callestablishedtimeutcmillis",
    ),
    "ended_at": ("endutc", "endtime", "callendtimeutc", "callendtime", "callendtimeutcmillis", "callendtimelocal"),
}
"""Each field and the keys that carry it, best first; keys are compared in lower case, letters and digits only."""

_FIELD_OF: Final = {key: (field, rank) for field, keys in NAMES.items() for rank, key in enumerate(keys)}
_VARIABLE: Final = re.compile(r"\[+[A-Za-z][^\[\]]{0,100}\]+(?:\.[\w.()\"]*\])?")
_UNWANTED: Final = dict.fromkeys((*range(32), 127, *range(128, 160), *range(55296, 57344)))
_MISSING_WORDS: Final = frozenset(("null", "none", "undefined"))


class State(StrEnum):
    """How a field arrived."""

    READ = "read"
    MISSING = "missing"
    UNRESOLVED = "unresolved"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Field:
    """One field: the key and value as sent, cleaned `text` or number (null unless present), and its state."""

    key: str | None
    value: str | int | float | None
    state: State


_ABSENT: Final = Field(None, None, State.MISSING)


def read(body: bytes, content_type: str | None, received_at: datetime, pbx: Pbx) -> Reading:
    """What the webhook says; never raises, whatever the bytes."""
    sent = bodies.fields_of(body, content_type)
    if sent is None:
        return Unreadable(NO_FIELDS)
    fields = _fields(sent)
    if not fields:
        return Unreadable(NO_KNOWN_FIELD)
    return _reading(fields, received_at, pbx)


def agent_key(reading: Reading) -> str | None:
    """The extension, for ``INGEST_KEY=agent``; null when the body names none."""
    match reading:
        case Start() | End():
            return reading.extension
        case Unreadable():
            return None


def _fields(sent: dict[str, Any]) -> dict[str, Field]:
    """The known fields in `sent`; of several keys for one field the best that is present."""
    found: dict[str, tuple[int, Field]] = {}
    for key, value in sent.items():
        known = _FIELD_OF.get(key) or _FIELD_OF.get("".join(filter(str.isalnum, key.lower()[:64])))
        if known is None:
            continue
        name, rank = known
        field = _field(name, key, value)
        held = found.get(name)
        # A key that holds something outranks one that does not; among equals the better key.
        if held is None or (field.state is not State.READ, rank) < (held[1].state is not State.READ, held[0]):
            found[name] = (rank, field)
    return {name: field for name, (_, field) in found.items()}


def _field(name: str, key: str, value: object) -> Field:
    if value is None:
        return Field(key, None, State.MISSING)
    if isinstance(value, bool | dict | list):
        return Field(key, None, State.UNREADABLE)
    if isinstance(value, int | float):
        return Field(key, value, State.READ)
    limit = URL_CHARACTERS_MAX if name == "recording" else TEXT_CHARACTERS_MAX
    text = str(value)[: limit * 2]
    if not text.isprintable():
        text = text.translate(_UNWANTED)
    text = text[:limit]
    bare = text.strip()
    if not bare or bare.lower() in _MISSING_WORDS:
        return Field(key, None, State.MISSING)
    if _VARIABLE.fullmatch(bare):
        return Field(key, None, State.UNRESOLVED)
    # The leading blank of a number is a plus that a form decoded: numbers.party wants to see it.
    return Field(key, text.rstrip() if name in {"caller", "callee", "number"} else bare, State.READ)


def _text(fields: dict[str, Field], name: str) -> str | None:
    value = fields.get(name, _ABSENT).value
    return None if value is None else str(value)


def _date(fields: dict[str, Field], name: str, received_at: datetime, pbx: Pbx) -> datetime | dates.Missing | None:
    field = fields.get(name, _ABSENT)
    if field.value is None or field.key is None:
        return dates.Missing.YEAR_ONE
    return dates.read(field.value, received_at, pbx, says_utc="utc" in field.key.lower())


def _direction(fields: dict[str, Field]) -> tuple[Direction, Outcome]:
    """The first word that says something; an outcome may be in either word."""
    direction, outcome = Direction.UNKNOWN, Outcome.UNKNOWN
    for name in ("direction", "call_type"):
        word = _text(fields, name)
        known = directions.read(word) if word else None
        if known is not None:
            direction = known[0] if direction is Direction.UNKNOWN else direction
            outcome = known[1] if outcome is Outcome.UNKNOWN else outcome
    return direction, outcome


def _parties(fields: dict[str, Field], direction: Direction, country: str | None) -> tuple[Party, Party]:
    """Caller and callee; a lone ``Number`` is the external party: the callee of an outbound call, else the caller."""
    caller, callee, number = (_text(fields, name) for name in ("caller", "callee", "number"))
    if number is not None:
        if direction is Direction.OUTBOUND:
            callee = callee or number
        else:
            caller = caller or number
    return numbers.party(caller, country), numbers.party(callee, country)


def _reading(fields: dict[str, Field], received_at: datetime, pbx: Pbx) -> Start | End:
    direction, outcome = _direction(fields)
    caller, callee = _parties(fields, direction, pbx.country)
    extension, email, call_id = (_text(fields, name) for name in ("extension", "email", "call_id"))
    started = _date(fields, "started_at", received_at, pbx)
    started_at = started if isinstance(started, datetime) else None
    ended = _date(fields, "ended_at", received_at, pbx)
    said = fields.get("duration", _ABSENT).value
    duration_s = durations.read(said) if said is not None else None
    recording = _text(fields, "recording")
    # An end time that cannot be read still says that there was an end.
    has_end = not isinstance(ended, dates.Missing) or recording or duration_s or outcome is not Outcome.UNKNOWN
    if not has_end:
        return Start(extension, email, direction, caller, callee, call_id, started_at)
    if outcome is Outcome.UNKNOWN and duration_s:
        outcome = Outcome.ANSWERED
    return End(
        extension=extension,
        email=email,
        direction=direction,
        caller=caller,
        callee=callee,
        call_id=call_id,
        started_at=started_at,
        ended_at=ended if isinstance(ended, datetime) else None,
        duration_s=duration_s,
        outcome=outcome,
        recording_url=recording,
    )


class FieldExplanation(BaseModel):
    """How one field was understood, in words for the person who sets up 3CX."""

    name: str
    sent: str | None
    value: str | None
    state: State
    note: str | None


class Explanation(BaseModel):
    """How a body would be read; `kind` is ``test`` for a body that is no call at all, such as ``{"test": true}``."""

    kind: Literal["start", "end", "test", "unreadable"]
    reason: str | None
    fields: list[FieldExplanation]
    unknown_keys: list[str]


def explain(body: bytes, content_type: str | None, received_at: datetime, pbx: Pbx) -> Explanation:
    """How `read` would understand the body, field by field; never raises."""
    sent = bodies.fields_of(body, content_type)
    if sent is None:
        kind: Literal["test", "unreadable"] = "unreadable" if body.strip() else "test"
        return Explanation(kind=kind, reason=NO_FIELDS, fields=[], unknown_keys=[])
    fields = _fields(sent)
    used = {field.key for field in fields.values()}
    unknown = sorted(key.translate(_UNWANTED)[:64] for key in sent if key not in used)
    if not fields:
        return Explanation(kind="test", reason=NO_KNOWN_FIELD, fields=[], unknown_keys=unknown)
    reading = _reading(fields, received_at, pbx)
    return Explanation(
        kind="start" if isinstance(reading, Start) else "end",
        reason=None,
        fields=list(_explained(fields, reading)),
        unknown_keys=unknown,
    )


def _explained(fields: dict[str, Field], reading: Start | End) -> Iterable[FieldExplanation]:
    understood: dict[str, object] = {
        "call_id": reading.call_id,
        "caller": reading.caller.e164 or reading.caller.text,
        "callee": reading.callee.e164 or reading.callee.text,
        "extension": reading.extension,
        "email": reading.email,
        "direction": None if reading.direction is Direction.UNKNOWN else reading.direction.value,
        "started_at": reading.started_at,
    }
    if isinstance(reading, End):
        understood |= {
            "ended_at": reading.ended_at,
            "duration": reading.duration_s,
            "recording": reading.recording_url,
        }
    for name, value in understood.items():
        field = fields.get(name, _ABSENT)
        if name == "direction" and field.state is not State.READ:
            field = fields.get("call_type", field)
        if name in {"caller", "callee"} and field.state is not State.READ and value is not None:
            field = fields.get("number", field)
        state = State.UNREADABLE if field.state is State.READ and value is None else field.state
        text = value.isoformat() if isinstance(value, datetime) else None if value is None else str(value)
        yield FieldExplanation(name=name, sent=field.key, value=text, state=state, note=_note(name, field, state))


_WITHOUT: Final = {
    "call_id": "calls will be paired by agent, party and time",
    "email": "the agent is known by the extension alone",
    "extension": "the agent is known by the e-mail, once both were seen together",
    "recording": "there will be no link to a recording",
    "started_at": "the time of receipt stands for it, marked so",
    "ended_at": "the time of receipt stands for it, marked so",
    "duration": "the call will show no duration",
    "direction": "both parties must agree for an end to find its start",
}


def _note(name: str, field: Field, state: State) -> str | None:
    effect = _WITHOUT.get(name, "the call will not show it")
    match state:
        case State.READ:
            return None
        case State.UNRESOLVED:
            return f"`{field.key}` arrived as an unresolved variable: this PBX has no such variable; {effect}"
        case State.UNREADABLE:
            return f"`{field.key}` could not be read; {effect}"
        case State.MISSING:
            return f"not sent; {effect}"
