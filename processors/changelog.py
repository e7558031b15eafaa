"""The state as changelog records: what a key and a value say, to and from bytes. Pure.

Keys: ``{key}/{session_id}`` a kept call (a tombstone when it leaves the state); ``{key}/email/{email}`` the extension
last seen with an e-mail, which must outlive the kept calls; ``_partition/{n}`` the partition's own record: live time,
sequences, the next input offset. A PBX's name never begins with an underscore.

The value of a call is a head of fixed size and a JSON list. The head says all that a restore asks for, so that none of
a million lists is read before an event needs it: whether the call is open, since when (in live time) it is what it is,
its session id, and names by which its agent and its external party are found. The other values are JSON lists whose
first item is the kind; so were those of calls once (``["call", …]``), and they are still read.

The partition's record tells the schema of the values; of a newer one than this release knows nothing is read.
"""

import struct
import zlib
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

import orjson

from events.session import Direction, EndReason, Outcome
from events.webhook import Party
from processors.calls import Began, Call, Ended, Inferred, Listed, Origin, Superseded, agent_of, number_name
from processors.live_time import Instance, LiveTime

_OPTIONS = orjson.OPT_UTC_Z
_DIRECTIONS: Final = {one.value: one for one in Direction}

SCHEMA: Final = 3
"""Of the values that this release reads: 1, which no record tells, had lists alone; 2: a call has a head; 3: what a PBX
listed is kept. What it writes is 2 until a PBX has given a list, so that the release before can read it.

It grows with each change that the release before cannot read, so that such a release refuses in a sentence.
"""
BEFORE_LISTS: Final = 2
HEAD: Final = struct.Struct(">B20s4s4s")
"""State; since when it is that (8 bytes, µs of live time) and session id (12 bytes); the agent's and party's names."""
OPEN: Final = ord("O")
SUPERSEDED: Final = ord("S")
"""Open, and a grace runs or the PBX has listed it: when it is due is not told by the head alone."""
CLOSED: Final = ord("C")
NAME_BYTES: Final = 4
NO_PARTY: Final = bytes(NAME_BYTES)
EARLIER_CALL: Final = b'["call",'
"""How the value of a call began before there was a head."""
SESSION_ID_CHARACTERS: Final = 24
"""With so many a call's key ends."""
_JSON_LIST: Final = ord("[")


@dataclass(frozen=True, slots=True)
class Email:
    """The extension last seen with an e-mail (in lower case) under a record key."""

    key: str
    email: str
    extension: str


class LastList(NamedTuple):
    """The last list of a PBX's active calls: when it was asked for (µs since 1970), and live time then."""

    asked_us: int
    live_us: int


@dataclass(slots=True)
class Position:
    """The partition's record. `sequences`: highest seen per ingest instance; the others are per PBX.

    `received_us`: its latest webhook; `lists`: its last list of active calls, where the witness is on.
    """

    next_offset: int
    live_time: LiveTime
    sequences: dict[str, int]
    received_us: dict[str, int]
    lists: dict[str, LastList] = field(default_factory=dict)


class ChangelogError(ValueError):
    """The changelog is not one that this release can go on from: the process must stop; the message says what to do."""


def email_key(email: Email) -> bytes:
    """The record key of an e-mail's extension."""
    return f"{email.key}/email/{email.email}".encode()


def position_key(partition: int) -> bytes:
    """The record key of the partition's own record."""
    return f"_partition/{partition}".encode()


def agent_name(key: str, agent: str) -> bytes:
    """A name for an agent of a record key (see `calls.agent_of`); others may have the same one."""
    return _name(key, agent)


def party_name(key: str, number: str) -> bytes:
    """A name for an external party of a record key (see `calls.number_name`); others may have the same one."""
    name = _name(key, number)
    return b"\0\0\0\1" if name == NO_PARTY else name


def _name(key: str, of: str) -> bytes:
    return zlib.crc32(f"{key}\0{of}".encode()).to_bytes(NAME_BYTES, "big")


def _head(call: Call) -> bytes:
    if call.closed_us is not None:
        state, since_us = CLOSED, call.closed_us
    else:
        plain = call.superseded is None and call.listed is None
        state, since_us = OPEN if plain else SUPERSEDED, call.opened_us
    external = call.external
    return HEAD.pack(
        state,
        since_us.to_bytes(8, "big") + bytes.fromhex(call.session_id),
        agent_name(call.key, agent_of(call.extension, call.email)),
        NO_PARTY if external is None else party_name(call.key, number_name(external)),
    )


def encode_call(call: Call) -> bytes:
    """A kept call: its head, and the rest of its fields in their order.

    A list is half the size of an object, and twice as fast. `first_received_at` is null where the start tells it.
    """
    ended: list[Any] | None
    match call.ended:
        case None:
            ended = None
        case Ended(origin=origin):
            ended = [*origin, *call.ended[1:]]
        case Inferred(contradiction=contradiction, history=history):
            ended = [*call.ended[:3], None if contradiction is None else [*contradiction]]
            ended += [] if history is None else [[*history.origin, *history[1:]]]
    superseded = call.superseded
    fields = orjson.dumps(
        [
            *call[1:6],
            [*call.caller],
            [*call.callee],
            call.call_id,
            None if call.began is None else _began_as_list(call.began),
            ended,
            None if superseded is None else [superseded.since_us, *_began_as_list(superseded.began)],
            *call[12:15],
            None if call.began is not None and call.began.origin.received_at == call[15] else call[15],
            call.linked,
            *(() if call.listed is None else (_listed_as_list(call.listed),)),
        ],
        option=_OPTIONS,
    )
    return b"".join((_head(call), fields))


def _listed_as_list(listed: Listed) -> list[Any]:
    return [*listed[:3], None if listed.absent is None else [*listed.absent], listed.suspect_us]


def _began_as_list(began: Began) -> list[Any]:
    return [*began.origin, began.started_at]


def encode_email(email: Email) -> bytes:
    """An e-mail's extension as JSON."""
    return orjson.dumps(["email", email.key, email.email, email.extension])


def encode_position(position: Position) -> bytes:
    """The partition's record as JSON; the order of the instances is kept, because the oldest is forgotten first."""
    clock = position.live_time
    lists = {"lists": [[pbx, [*last]] for pbx, last in position.lists.items()]} if position.lists else {}
    return orjson.dumps(
        [
            "partition",
            {
                "schema": SCHEMA if position.lists else BEFORE_LISTS,
                "next_offset": position.next_offset,
                "live_us": clock.live_us,
                "head_us": clock.head_us,
                "instances": [[name, one.last_us, one.live_us] for name, one in clock.instances.items()],
                "sequences": list(position.sequences.items()),
                "received_us": list(position.received_us.items()),
                **lists,
            },
        ]
    )


def decode(value: bytes) -> Call | Email | Position:
    """What a value holds; raises ChangelogError when it is not one of ours."""
    if not value or value[0] != _JSON_LIST or value.startswith(EARLIER_CALL):
        return decode_call(value)
    try:
        kind, *said = orjson.loads(value)
        match kind:
            case "email":
                return Email(*said)
            case "partition":
                return _position(*said)
            case other:
                raise ValueError(f"unknown kind {other!r}")
    except ChangelogError:
        raise
    except _UNREADABLE as error:
        raise refused(error) from error


def decode_call(value: bytes) -> Call:
    """The call in a value that `encode_call` made, or an earlier version; raises ChangelogError as `decode` does."""
    try:
        if value.startswith(EARLIER_CALL):
            return _call(*orjson.loads(value)[1:])
        state, identity, _, _ = HEAD.unpack_from(value)
        if state not in {OPEN, SUPERSEDED, CLOSED}:
            raise ValueError(f"unknown state {state}")
        return _call(identity[8:].hex(), *orjson.loads(memoryview(value)[HEAD.size :]))
    except _UNREADABLE as error:
        raise refused(error) from error


_UNREADABLE: Final = (ValueError, KeyError, TypeError, AttributeError, IndexError, struct.error)


def refused(error: Exception) -> ChangelogError:
    """What to say of a value that this version cannot read."""
    return ChangelogError(
        f"the changelog has a record that this release cannot read ({type(error).__name__}), perhaps of another one;"
        f" start that release, or {_OTHERWISE}"
    )


_OTHERWISE: Final = "replay into a new set of topics (python -m processors replay) and go on there"


def _at(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _call(*said: Any) -> Call:
    session_id, key, pbx, extension, email, direction, caller, callee, call_id, began, ended, superseded = said[:12]
    opened_us, closed_us, revision, first_received_at, linked, *listed = said[12:]
    start = None if began is None else _began(began)
    first = (
        start.origin.received_at if start and first_received_at is None else datetime.fromisoformat(first_received_at)
    )
    return Call(
        session_id,
        key,
        pbx,
        extension,
        email,
        _DIRECTIONS[direction],
        Party(*caller),
        Party(*callee),
        call_id,
        start,
        None if ended is None else _end(ended),
        None if superseded is None else Superseded(superseded[0], _began(superseded[1:])),
        opened_us,
        closed_us,
        revision,
        first,
        linked,
        _listed(*listed[0]) if listed else None,
    )


def _listed(
    identity: str, as_of_us: int, seen_at: str | None, absent: list[Any] | None, suspect_us: int | None
) -> Listed:
    return Listed(identity, as_of_us, _at(seen_at), None if absent is None else _origin(*absent), suspect_us)


def _origin(partition: int, offset: int, ce_id: str, received_at: str, digest: str) -> Origin:
    return Origin(partition, offset, ce_id, datetime.fromisoformat(received_at), digest)


def _began(said: list[Any]) -> Began:
    return Began(_origin(*said[:5]), _at(said[5]))


def _end(said: list[Any]) -> Ended | Inferred:
    if isinstance(said[0], str):
        reason, earliest, latest, contradiction, *told = said
        origin = None if contradiction is None else _origin(*contradiction)
        history = _ended(told[0]) if told else None
        return Inferred(EndReason(reason), datetime.fromisoformat(earliest), _at(latest), origin, history)
    return _ended(said)


def _ended(said: list[Any]) -> Ended:
    started_at, ended_at, duration_s, outcome, recording_url = said[5:]
    return Ended(_origin(*said[:5]), _at(started_at), _at(ended_at), duration_s, Outcome(outcome), recording_url)


def _position(said: dict[str, Any]) -> Position:
    schema = said.get("schema", 1)
    if schema > SCHEMA:
        raise ChangelogError(
            f"the changelog has schema {schema}, of a newer release; this one knows up to {SCHEMA}:"
            f" start the newer one again, or {_OTHERWISE}"
        )
    instances = {name: Instance(last_us, live_us) for name, last_us, live_us in said["instances"]}
    return Position(
        next_offset=said["next_offset"],
        live_time=LiveTime(said["live_us"], said["head_us"], instances),
        sequences=dict(said["sequences"]),
        received_us=dict(said["received_us"]),
        lists={pbx: LastList(*last) for pbx, last in said.get("lists", ())},
    )
