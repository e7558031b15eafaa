"""A call as the state keeps it: the evidence of its start and its end, or why it must have ended. Pure values."""

from datetime import datetime
from typing import Final, NamedTuple, TypeVar

from events.numbers import SUFFIX_DIGITS_MIN
from events.session import Direction, EndReason, Outcome
from events.webhook import Party

SideT = TypeVar("SideT")

NOT_TAKEN = frozenset((Outcome.MISSED, Outcome.NOT_ANSWERED))
_INBOUND: Final = Direction.INBOUND
_OUTBOUND: Final = Direction.OUTBOUND
_new: Final = tuple.__new__


class Origin(NamedTuple):
    """A record of ``threecx.webhooks``: where it lies, its id, when ingest received it, and a digest of its body."""

    partition: int
    offset: int
    ce_id: str
    received_at: datetime
    digest: str


class Began(NamedTuple):
    """The evidence of a start; `started_at` is null when the PBX did not say."""

    origin: Origin
    started_at: datetime | None

    @property
    def moment(self) -> datetime:
        """When it began, for comparisons: as reported, else as received."""
        return self.started_at or self.origin.received_at


class Ended(NamedTuple):
    """The evidence of an end, as reported; null is what the PBX did not say."""

    origin: Origin
    started_at: datetime | None
    ended_at: datetime | None
    duration_s: int | None
    outcome: Outcome
    recording_url: str | None

    @property
    def moment(self) -> datetime:
        """When it ended, for comparisons: as reported, else as received."""
        return self.ended_at or self.origin.received_at


class Inferred(NamedTuple):
    """No webhook reported an end and yet the call cannot be open: why, between when, what record contradicted it.

    `history`: the end in the PBX's own history of calls, where that was asked; a webhook's can still come.
    """

    reason: EndReason
    earliest: datetime
    latest: datetime | None
    contradiction: Origin | None
    history: Ended | None = None


class Superseded(NamedTuple):
    """A newer call of the same agent began: the grace runs since `since_us` of live time."""

    since_us: int
    began: Began


class Listed(NamedTuple):
    """What the PBX's lists of active calls said of a call that was in one, while it was open; see `witness`.

    `id`: under which it was first listed. `as_of_us`: it was listed at this live time; a later list that has it, too,
    is noted only when a deadline asks. `seen_at`: when the last list with this id was asked for; null: the latest has
    it. `absent`: the first list without the call; null: the latest has it, or what may be it under another id.
    `suspect_us`: the live time of the second such list in a row; from then the grace runs.
    """

    id: str
    as_of_us: int
    seen_at: datetime | None = None
    absent: Origin | None = None
    suspect_us: int | None = None


class Call(NamedTuple):
    """One call of one agent. At least one of `began` and `ended` is there; open means that there is no end at all.

    `key` is the record key that the call belongs to. `opened_us` and `closed_us` are live time.
    `linked` is the session of the other agent's leg that showed this one to have ended.
    """

    session_id: str
    key: str
    pbx: str
    extension: str | None
    email: str | None
    direction: Direction
    caller: Party
    callee: Party
    call_id: str | None
    began: Began | None
    ended: Ended | Inferred | None
    superseded: Superseded | None
    opened_us: int
    closed_us: int | None
    revision: int
    first_received_at: datetime
    linked: str | None = None
    listed: Listed | None = None

    @property
    def is_open(self) -> bool:
        """Neither reported nor inferred to have ended."""
        return self.ended is None

    @property
    def lacks_end(self) -> bool:
        """No end was reported: a true end can still come."""
        return not isinstance(self.ended, Ended)

    @property
    def external(self) -> Party | None:
        """The party outside of the PBX; null where the direction does not tell or the number is withheld."""
        party = external_of(self.direction, self.caller, self.callee)
        return None if party is None or party.withheld else party


def external_of(direction: Direction, caller: SideT, callee: SideT) -> SideT | None:
    """The caller of an inbound call, the callee of an outbound one; null for internal and unknown directions."""
    if direction is _INBOUND:
        return caller
    return callee if direction is _OUTBOUND else None


def revised(call: Call, revision: int) -> Call:
    """The call as this revision of it; as `_replace`, at a quarter of the time: every event does this."""
    return _new(Call, (*call[:14], revision, *call[15:]))


def ended_by(call: Call, ended: Ended, closed_us: int) -> Call:
    """The call with this reported end, whatever was inferred; as `_replace`, at a quarter of the time."""
    return _new(Call, (*call[:10], ended, None, call[12], closed_us, *call[14:]))


def told_end(call: Call) -> Ended | None:
    """The end that was told: by a webhook, else by the PBX's history; null when it is only inferred, or none."""
    return call.ended.history if isinstance(call.ended, Inferred) else call.ended


def began_of(call: Call) -> Began:
    """The start of a call that has one: every open call does."""
    if call.began is None:
        message = f"call {call.session_id} has no start"
        raise TypeError(message)
    return call.began


def ended_of(call: Call) -> Ended:
    """The reported end of a call that has one."""
    if not isinstance(call.ended, Ended):
        message = f"call {call.session_id} has no reported end"
        raise TypeError(message)
    return call.ended


def was_taken(call: Call) -> bool:
    """Whether the agent may have taken the call: nothing says that it was missed or not answered."""
    return not isinstance(call.ended, Ended) or call.ended.outcome not in NOT_TAKEN


def received(call: Call) -> tuple[datetime, str]:
    """The order of arrival."""
    return call.first_received_at, call.session_id


def agent_of(extension: str | None, email: str | None) -> str:
    """What identifies an agent within a key: the extension, else the e-mail, else nothing (the empty agent)."""
    if extension is not None:
        return f"x{extension}"
    return f"m{email.lower()}" if email is not None else ""


def number_name(party: Party) -> str:
    """A name that two parties share if they are the same number; a withheld number has the empty name."""
    text = party.text
    return "" if party.withheld or text is None else party.digits[-SUFFIX_DIGITS_MIN:] or text.casefold()


def changelog_key(call: Call) -> bytes:
    """The key of the call's changelog record: ``{key}/{session_id}``."""
    return f"{call.key}/{call.session_id}".encode()
