"""The state as changelog records: what a key and a value say, to and from bytes. Pure.

Keys: ``{key}/{session_id}`` a kept call (a tombstone when it leaves the state); ``{key}/email/{email}`` the extension
last seen with an e-mail, which must outlive the kept calls; ``_partition/{n}`` the partition's own record: live time,
sequences, the next input offset. A PBX's name never begins with an underscore. Values are JSON with a `kind`.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from events.session import Direction, EndReason, Outcome
from events.webhook import Party
from processors.calls import Began, Call, Ended, Inferred, Origin, Superseded
from processors.live_time import Instance, LiveTime

_OPTIONS = orjson.OPT_UTC_Z


@dataclass(frozen=True, slots=True)
class Email:
    """The extension last seen with an e-mail (in lower case) under a record key."""

    key: str
    email: str
    extension: str


@dataclass(slots=True)
class Position:
    """The partition's record. `sequences`: highest seen per ingest instance; `received_us`: latest webhook per PBX."""

    next_offset: int
    live_time: LiveTime
    sequences: dict[str, int]
    received_us: dict[str, int]


class ChangelogError(ValueError):
    """A changelog record that this version did not write: the state cannot be trusted, and the process must stop."""


def email_key(email: Email) -> bytes:
    """The record key of an e-mail's extension."""
    return f"{email.key}/email/{email.email}".encode()


def position_key(partition: int) -> bytes:
    """The record key of the partition's own record."""
    return f"_partition/{partition}".encode()


def session_id_in(key: bytes) -> str:
    """The session id in the key of a kept call."""
    return key.decode().rsplit("/", 1)[-1]


def encode_call(call: Call) -> bytes:
    """A kept call as JSON."""
    ended: dict[str, Any] | None
    match call.ended:
        case None:
            ended = None
        case Ended():
            ended = {"as": "reported", **_fields(call.ended)}
        case Inferred():
            ended = {"as": "inferred", **_fields(call.ended)}
    return orjson.dumps({"kind": "call", **_fields(call), "ended": ended}, option=_OPTIONS)


def encode_email(email: Email) -> bytes:
    """An e-mail's extension as JSON."""
    return orjson.dumps({"kind": "email", **_fields(email)})


def encode_position(position: Position) -> bytes:
    """The partition's record as JSON; the order of the instances is kept, because the oldest is forgotten first."""
    clock = position.live_time
    return orjson.dumps(
        {
            "kind": "partition",
            "next_offset": position.next_offset,
            "live_us": clock.live_us,
            "head_us": clock.head_us,
            "instances": [[name, one.last_us, one.live_us] for name, one in clock.instances.items()],
            "sequences": list(position.sequences.items()),
            "received_us": list(position.received_us.items()),
        }
    )


def decode(value: bytes) -> Call | Email | Position:
    """What a value holds; raises ChangelogError when it is not one of ours."""
    try:
        said = orjson.loads(value)
        match said.pop("kind"):
            case "call":
                return _call(said)
            case "email":
                return Email(**said)
            case "partition":
                return _position(said)
            case other:
                raise ValueError(f"unknown kind {other!r}")  # noqa: TRY301 - one place says what to think of it
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ChangelogError(
            f"unreadable changelog record, perhaps of another version; replay into a new set of topics: {error!r}"
        ) from error


def _fields(shape: Any) -> dict[str, Any]:
    return {name: getattr(shape, name) for name in shape.__slots__}


def _at(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _known_at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _call(said: dict[str, Any]) -> Call:
    superseded = said["superseded"]
    return Call(
        session_id=said["session_id"],
        key=said["key"],
        pbx=said["pbx"],
        extension=said["extension"],
        email=said["email"],
        direction=Direction(said["direction"]),
        caller=Party(**said["caller"]),
        callee=Party(**said["callee"]),
        call_id=said["call_id"],
        began=_began(said["began"]) if said["began"] is not None else None,
        ended=_end(said["ended"]) if said["ended"] is not None else None,
        superseded=Superseded(superseded["since_us"], _began(superseded["began"])) if superseded is not None else None,
        opened_us=said["opened_us"],
        closed_us=said["closed_us"],
        revision=said["revision"],
        first_received_at=_known_at(said["first_received_at"]),
        linked=said.get("linked"),
    )


def _origin(said: dict[str, Any]) -> Origin:
    return Origin(
        said["partition"], said["offset"], said["ce_id"], _known_at(said["received_at"]), digest=said["digest"]
    )


def _began(said: dict[str, Any]) -> Began:
    return Began(_origin(said["origin"]), _at(said["started_at"]))


def _end(said: dict[str, Any]) -> Ended | Inferred:
    if said["as"] == "reported":
        return Ended(
            _origin(said["origin"]),
            _at(said["started_at"]),
            _at(said["ended_at"]),
            said["duration_s"],
            Outcome(said["outcome"]),
            said["recording_url"],
        )
    contradiction = said["contradiction"]
    return Inferred(
        EndReason(said["reason"]),
        _known_at(said["earliest"]),
        _at(said["latest"]),
        None if contradiction is None else _origin(contradiction),
    )


def _position(said: dict[str, Any]) -> Position:
    instances = {name: Instance(last_us, live_us) for name, last_us, live_us in said["instances"]}
    return Position(
        next_offset=said["next_offset"],
        live_time=LiveTime(said["live_us"], said["head_us"], instances),
        sequences=dict(said["sequences"]),
        received_us=dict(said["received_us"]),
    )
