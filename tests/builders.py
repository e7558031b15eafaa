"""Building webhooks and records for tests, and running the pure core over them: given, when, then."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from events import envelope, session_events
from events.active_calls import listing_value
from events.call_history import PastCall, recorded_value
from events.envelope import Envelope, Type
from events.pbx import DEFAULT_PBX, Pbx
from events.session_events import CallEvent, FeedProgress
from processors.rules import Rules
from processors.task import Batch, InputRecord, Task

T0 = datetime(2026, 11, 24, 9, 0, 0, tzinfo=UTC)
X = "+41225551234"
Y = "+41225559999"
Z = "+41225558888"
DID = "+41225555678"


def at(seconds: float) -> datetime:
    """The moment so many seconds after the scenario's beginning."""
    return T0 + timedelta(seconds=seconds)


def zulu(moment: datetime) -> str:
    """As the seed's samples print a time."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def start(agent: str | None = "201", party: str | None = X, t: float | None = 0, **more: Any) -> dict[str, Any]:
    """The seed's start sample; `t`: reported seconds after the beginning, None when not reported."""
    body = {"caller": party, "callee": DID, "agentExt": agent, "direction": "Inbound"}
    if t is not None:
        body["startTime"] = zulu(at(t))
    return {name: value for name, value in (body | more).items() if value is not None}


def end(
    agent: str | None = "201", party: str | None = X, t: float | None = 60, duration: int | None = 55, **more: Any
) -> dict[str, Any]:
    """The seed's end sample; `t`: reported seconds after the beginning, `duration` in seconds."""
    body: dict[str, Any] = {"caller": party, "callee": DID, "agentExt": agent, "direction": "Inbound"}
    if duration is not None:
        body["duration"] = f"{duration // 3600:02}:{duration // 60 % 60:02}:{duration % 60:02}"
    if t is not None:
        body["endUtc"] = zulu(at(t))
    return {name: value for name, value in (body | more).items() if value is not None}


@dataclass
class Log:
    """A partition of ``threecx.webhooks`` in the making: records in order, with ticks in between where time passes."""

    partition: int = 0
    instance: str = "ingest-1"
    records: list[InputRecord] = field(default_factory=list)
    now_s: float = 0.0
    sequence: int = 0

    def webhook(self, received_s: float, body: Mapping[str, Any] | bytes, pbx: str = DEFAULT_PBX) -> "Log":
        """One webhook received so many seconds after the beginning; ticks come before it, one a second."""
        self.ticks_until(received_s)
        self.sequence += 1
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        said = Envelope(
            f"{self.instance}-{self.sequence}",
            pbx,
            Type.WEBHOOK_RECEIVED,
            at(received_s),
            "application/json",
            self.instance,
            self.sequence,
        )
        return self.record(raw, said)

    def listing(
        self, answered_s: float, *calls: tuple[str, str, str], asked_s: float | None = None, pbx: str = DEFAULT_PBX
    ) -> "Log":
        """The PBX's list of its active calls (id, caller, callee), as the poller writes it; asked for at once."""
        self.ticks_until(answered_s)
        told = [{"Id": identity, "Caller": caller, "Callee": callee} for identity, caller, callee in calls]
        value = listing_value(at(answered_s if asked_s is None else asked_s), told)
        said = Envelope(f"list-{len(self.records)}", pbx, Type.CALLS_LISTED, at(answered_s), "application/json")
        return self.record(value, said)

    def history(self, answered_s: float, *calls: tuple[str, str, float, float, int | None]) -> "Log":
        """Of the PBX's history (extension, number, began, ended, duration), as the poller writes it."""
        self.ticks_until(answered_s)
        told = [
            PastCall(f"{agent}/{began_s}", agent, party, at(began_s), at(ended_s), duration_s)
            for agent, party, began_s, ended_s, duration_s in calls
        ]
        said = Envelope(
            f"past-{len(self.records)}", DEFAULT_PBX, Type.CALLS_RECORDED, at(answered_s), "application/json"
        )
        return self.record(recorded_value(told), said)

    def ticks_until(self, until_s: float) -> "Log":
        """A tick for each second that has passed."""
        while self.now_s + 1 <= until_s:
            self.now_s += 1
            self.tick(self.now_s)
        self.now_s = max(self.now_s, until_s)
        return self

    def silence(self, until_s: float) -> "Log":
        """Time in which ingest was not there."""
        self.now_s = until_s
        return self

    def tick(self, received_s: float) -> "Log":
        """One tick."""
        identity = f"{self.instance}-tick-{len(self.records)}"
        return self.record(b"", Envelope(identity, DEFAULT_PBX, Type.CLOCK_TICK, at(received_s), None, self.instance))

    def record(self, value: bytes, said: Envelope) -> "Log":
        """Any record with this envelope."""
        raw = InputRecord(self.partition, len(self.records), said.pbx.encode(), value, tuple(envelope.encode(said)))
        self.records.append(raw)
        return self


@dataclass
class Outcome:
    """What came out: every call event in order, and the last revision of each session in order of appearance."""

    events: list[CallEvent]
    progress: list[FeedProgress]
    batches: list[Batch]

    @property
    def sessions(self) -> list[Any]:
        """The sessions, as their highest revision has them."""
        last = {event.session_id: event.session for event in self.events}
        return list(last.values())

    @property
    def told(self) -> list[str]:
        """Each event as ``type:agent:reason``."""
        return [f"{e.type.removeprefix('call.')}:{e.session.agent.extension}:{e.reason}" for e in self.events]


def new_task(rules: Rules | None = None, pbxs: Mapping[str, Pbx] | None = None) -> Task:
    """An empty task of partition 0."""
    return Task(0, rules or Rules(), pbxs or {DEFAULT_PBX: Pbx()}, "threecx.webhooks")


def run(records: Sequence[InputRecord], task: Task | None = None, batch_size: int = 1000) -> Outcome:
    """The pure core over the records, in batches."""
    worker = task or new_task()
    batches = [worker.process(part) for part in cut(records, batch_size)]
    told = [session_events.decode(out.value or b"") for batch in batches for out in batch.session_events]
    return Outcome(
        [event for event in told if not isinstance(event, FeedProgress)],
        [event for event in told if isinstance(event, FeedProgress)],
        batches,
    )


def cut(records: Sequence[InputRecord], size: int) -> Iterator[Sequence[InputRecord]]:
    """The records in batches of `size`."""
    for begin in range(0, len(records), size):
        yield records[begin : begin + size]


def folded(batches: Iterable[Batch]) -> dict[bytes, bytes]:
    """The changelog as compaction leaves it."""
    last: dict[bytes, bytes | None] = {}
    for batch in batches:
        last |= batch.changelog
    return {key: value for key, value in last.items() if value is not None}
