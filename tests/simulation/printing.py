"""A webhook as the PBX means it (`Told`), and as its template prints it: the bytes, and beside them what they say."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from tests.simulation.facts import Number, Said

ZURICH = ZoneInfo("Europe/Zurich")
LOCAL_WITHIN = timedelta(minutes=15)
"""A local time is read as the one nearest its receipt; further away the hour that comes twice would be another."""

WORDS = {
    "Inbound": ("inbound", "unknown"),
    "in": ("inbound", "unknown"),
    "Outbound": ("outbound", "unknown"),
    "outgoing": ("outbound", "unknown"),
    "Internal": ("internal", "unknown"),
    "sideways": ("unknown", "unknown"),
    "": ("unknown", "unknown"),
    "[CallDirection]": ("unknown", "unknown"),
    "Missed": ("inbound", "missed"),
    "Notanswered": ("outbound", "not_answered"),
    "Unanswered": ("outbound", "not_answered"),
}
"""Every word that is printed, and the direction and outcome that it says."""

SPELLINGS: dict[str, tuple[tuple[str, str | None, str | None], ...]] = {
    "X": (
        ("+41225551234", "+41225551234", "+41225551234"),
        ("0041225551234", "+41225551234", "+41225551234"),
        ("41225551234", None, "+41225551234"),
        ("225551234", None, "+41225551234"),
        ("022 555 12 34", None, "+41225551234"),
        ('"Anna" <+41225551234>', "+41225551234", "+41225551234"),
    ),
    "Y": (("+41225559999", "+41225559999", "+41225559999"), ("0225559999", None, "+41225559999")),
    "Z": (("+41225558888", "+41225558888", "+41225558888"), ("225558888", None, "+41225558888")),
    "ZURICH": (("+41445551234", "+41445551234", "+41445551234"), ("5551234", None, None)),
    "PARIS": (("+33142685300", "+33142685300", "+33142685300"), ("0033142685300", "+33142685300", "+33142685300")),
    "NAME": (("Reception", None, None), ("RECEPTION", None, None)),
    "DID": (("+41225555678", "+41225555678", "+41225555678"), ("0225555678", None, "+41225555678")),
}
"""Each party as numbers are printed for it, with its E.164 form when the country is not known, and in Switzerland.

`5551234`, cut to seven digits, may be two of the parties: sameness is not transitive.
"""
NOBODY = ("anonymous", "unknown", "", None, "[CallerNumber]")
"""How a withheld or missing number is printed; null: the field is not printed at all."""


@dataclass(slots=True)
class Told:
    """A webhook of the PBX. Times are seconds since the beginning on the PBX's clock; `at_s` is when it is sent, truly.

    `caller` and `callee` name a party of `SPELLINGS`, an extension, or nobody (empty).
    """

    at_s: float
    pbx: str
    extension: str | None
    word: str | None
    caller: str
    callee: str
    is_end: bool = False
    email: str | None = None
    call_id: str | None = None
    started_s: float | None = None
    ended_s: float | None = None
    duration_s: int | None = None
    recording_url: str | None = None


@dataclass(frozen=True, slots=True)
class Printed:
    """The body's bytes and what they say."""

    body: bytes
    said: Said | None


def number(random: Random, name: str, country: str | None, *, plain: bool) -> Number:
    """One spelling of the party; `plain`: the usual one."""
    if name == "":
        text = "anonymous" if plain else random.choice(NOBODY)
        return Number(text)
    if name not in SPELLINGS:
        return Number(name)
    spellings = SPELLINGS[name]
    text, unknown, swiss = spellings[0] if plain else random.choice(spellings)
    return Number(text, swiss if country == "CH" else unknown)


def printed(random: Random, told: Told, t0: datetime, country: str | None, *, last_s: float, plain: bool) -> Printed:
    """The body by the seed's template, each value in one of the forms that 3CX prints; it arrives last at `last_s`."""
    caller = number(random, told.caller, country, plain=plain)
    callee = number(random, told.callee, country, plain=plain)
    last_at = t0 + timedelta(seconds=last_s)
    started_at, ended_at = _moment(told.started_s, t0), _moment(told.ended_s, t0)
    near = all(at is None or abs(at - last_at) < LOCAL_WITHIN for at in (started_at, ended_at))
    form = random.choice(("iso", "iso", "swiss", "british") if near and country == "CH" else ("iso",))
    body: dict[str, Any] = {
        "callId": told.call_id,
        "caller": caller.text,
        "callee": callee.text,
        "agentExt": told.extension,
        "agentMail": told.email,
        "direction": told.word,
        "duration": _duration(random, told.duration_s),
        "wav": told.recording_url,
        "startTime": _time(started_at, form),
        "endUtc": _time(ended_at, form),
    }
    missing = random.choice(("absent", "", "absent"))
    for name in [name for name, value in body.items() if value is None]:
        if missing == "":
            body[name] = ""
        else:
            del body[name]
    if not told.is_end and told.duration_s is None and random.random() < 0.1:
        body["duration"] = "00:00:00"  # a template that serves both triggers
    direction, outcome = WORDS[told.word or ""]
    if outcome == "unknown" and told.duration_s:
        outcome = "answered"
    said = Said(
        is_end=told.is_end,
        extension=told.extension,
        email=told.email,
        direction=direction,
        caller=_read(caller),
        callee=_read(callee),
        call_id=told.call_id,
        started_at=started_at,
        ended_at=ended_at if told.is_end else None,
        duration_s=told.duration_s,
        outcome=outcome if told.is_end else "unknown",
        recording_url=told.recording_url,
    )
    is_said = any(value not in {"", "[CallerNumber]"} for name, value in body.items() if name != "direction")
    return Printed(json.dumps(body).encode(), said if is_said else None)


def says_an_end(told: Told) -> bool:
    """Whether the body will say so: an end time, a recording, a duration above zero, or a call that was not taken."""
    return bool(
        told.ended_s is not None or told.recording_url or told.duration_s or WORDS[told.word or ""][1] != "unknown"
    )


def _read(printed_number: Number) -> Number:
    """A number of which nothing was said."""
    return Number(None) if printed_number.text in {"", "[CallerNumber]"} else printed_number


def _moment(seconds: float | None, t0: datetime) -> datetime | None:
    return None if seconds is None else t0 + timedelta(milliseconds=round(seconds * 1000))


def _time(at: datetime | None, form: str) -> str | None:
    if at is None:
        return None
    if form == "iso" or at.microsecond:
        return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    local = at.astimezone(ZURICH)
    return local.strftime("%d.%m.%Y %H:%M:%S" if form == "swiss" else "%d/%m/%Y %H:%M:%S")


def _duration(random: Random, seconds: int | None) -> str | int | None:
    if seconds is None:
        return None
    hours, minutes, rest = seconds // 3600, seconds // 60 % 60, seconds % 60
    clock = f"{hours:02}:{minutes:02}:{rest:02}"
    return random.choice((clock, clock, clock, seconds, f"{hours // 24}.{hours % 24:02}:{minutes:02}:{rest:02}"))
