"""``python -m tests.clock_jumps``: ingest's clock jumps by seconds to years while calls go on; what becomes of them.

A schedule, from its seed: calls with true times that the PBX reports rightly; one ingest whose clock is right but for
the jumps, with its real ticks and its real records; the real core. Nothing here knows the rules of live time; it holds

1. every duration, start and end as the PBX said, whatever the clock: a wrong clock invents nothing;
2. no call times out early: not before its ceiling has truly passed, less the small jumps forward that nobody can tell
   from time (a gap of up to 10 s counts), nor late: a jump costs a second or two;
3. live time never runs back, and what a PBX's progress says it received last never does;
4. whatever an end came for is ended in the end, and what no end came for is inferred, never left open.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random

import orjson

from events import session_events
from events.pbx import DEFAULT_PBX, Pbx
from events.session import Session, Status
from events.session_events import CallEndMissed, FeedProgress
from ingest import accepted
from ingest.accepted import Accepted
from ingest.ticks import Ticks
from processors.rules import Rules
from processors.task import InputRecord, Task
from tests.builders import end, start

CEILING_S = 60
RULES = Rules(
    call_duration_max_s=CEILING_S, superseded_grace_s=20, ring_max_s=CEILING_S, tolerance_s=5, closed_kept_s=600
)
SPAN_S = 240.0
CALLS, AGENTS = 30, 10
STEP_S = 0.25
"""How often ingest looks at its clock."""
JUMPS_S = (0.4, 3.0, 9.0, 11.0, 60.0, 3_600.0, 86_400.0, 86_400.0 * 365, 86_400.0 * 365 * 5)
COUNTS_S = 10.0
"""The longest gap that counts as time (the design, section 3)."""
LOST_S = 1.5
"""What a jump may cost: the gap in which it lies."""
SLACK_S = 2.5
T0 = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Truth:
    """A call as it was: when it began and ended (null: no end is ever told), in seconds from the beginning."""

    agent: str
    caller: str
    began_s: float
    ended_s: float | None


@dataclass(slots=True)
class Outcome:
    """Of one schedule."""

    jumps: int = 0
    timeouts: int = 0
    ended: int = 0
    problems: list[str] = field(default_factory=list)


class World:
    """One schedule at work."""

    def __init__(self, seed: int) -> None:
        random = Random(seed)
        self.outcome = Outcome()
        self._jumps = sorted(_jumps(random))
        self._calls = {one.caller: one for one in _calls(random)}
        self._task = Task(0, RULES, {DEFAULT_PBX: Pbx()}, "webhooks")
        self._ticks = Ticks(1, T0)
        self._offset = 0
        self._sequence = 0
        self._live_us = 0
        self._received: dict[str, datetime] = {}
        self._sessions: dict[str, Session] = {}

    def run(self) -> Outcome:
        """All of it."""
        self.outcome.jumps = len(self._jumps)
        told = sorted(self._told(), key=lambda one: one[0])
        for step in range(round((SPAN_S + 4 * CEILING_S) / STEP_S)):
            now_s = step * STEP_S
            while told and told[0][0] <= now_s:
                at_s, body = told.pop(0)
                self._receive(at_s, body)
            for _, at in self._ticks.due(self._clock(now_s), None):
                self._record(now_s, at, None)
        self._judge()
        return self.outcome

    def _clock(self, true_s: float) -> datetime:
        """Ingest's, at that true time."""
        off_s = sum(by_s for at_s, by_s in self._jumps if at_s <= true_s)
        return T0 + timedelta(seconds=true_s + off_s)

    def _told(self) -> Iterator[tuple[float, bytes]]:
        for call in self._calls.values():
            yield call.began_s, orjson.dumps(start(call.agent, call.caller, t=None, startTime=_zulu(call.began_s)))
            if call.ended_s is not None:
                duration_s = int(call.ended_s - call.began_s)
                body = end(call.agent, call.caller, t=None, duration=duration_s, endUtc=_zulu(call.ended_s))
                yield call.ended_s, orjson.dumps(body)

    def _receive(self, true_s: float, body: bytes) -> None:
        self._record(true_s, self._clock(true_s), body)

    def _record(self, true_s: float, at: datetime, body: bytes | None) -> None:
        """As ingest writes it, through its journal's bytes; a tick without a body."""
        self._offset += 1
        one = Accepted(f"id-{self._offset}", DEFAULT_PBX, DEFAULT_PBX, at, "application/json", body or b"")
        kept = accepted.decode(accepted.encode(one))
        assert kept is not None
        headers = accepted.headers(kept, "ingest", self._sequence)
        self._sequence += body is not None
        if body is None:
            said = dict(headers) | {"ce_type": b"threecx.clock.tick"}
            headers = [(name, value) for name, value in said.items() if name != "ingest_sequence"]
        batch = self._task.process([InputRecord(0, self._offset, kept.key.encode(), kept.body, tuple(headers))])
        for event in batch.session_events:
            self._hear(true_s, event.value or b"")

    def _hear(self, true_s: float, value: bytes) -> None:
        event = session_events.decode(value)
        if isinstance(event, FeedProgress):
            if event.live_time_us < self._live_us:
                self._wrong(f"at {true_s:g} s live time runs back")
            backwards = [pbx for pbx, at in event.received_at.items() if at < self._received.get(pbx, at)]
            if backwards:
                self._wrong(f"at {true_s:g} s the latest receipt of {backwards} runs back")
            self._live_us, self._received = event.live_time_us, dict(event.received_at)
            return
        self._sessions[event.session_id] = event.session
        if isinstance(event, CallEndMissed) and event.reason == "timeout":
            self._time_out(true_s, event.session)

    def _time_out(self, true_s: float, session: Session) -> None:
        self.outcome.timeouts += 1
        heard_s = self._calls[session.caller or ""].began_s
        forward = sum(by_s for at_s, by_s in self._jumps if heard_s <= at_s <= true_s and 0 < by_s <= COUNTS_S)
        between = sum(heard_s <= at_s <= true_s for at_s, _ in self._jumps)
        took_s = true_s - heard_s
        if took_s < CEILING_S - forward - SLACK_S:
            self._wrong(f"{session.caller} timed out early, after {took_s:.1f} s")
        if took_s > CEILING_S + between * LOST_S + SLACK_S:
            self._wrong(f"{session.caller} timed out late, after {took_s:.1f} s")

    def _judge(self) -> None:
        found = Counter(session.caller for session in self._sessions.values())
        if found != Counter(self._calls.keys()):
            self._wrong(f"{len(found)} calls for {len(self._calls)}: {found - Counter(self._calls.keys())}")
        for session in self._sessions.values():
            call = self._calls[session.caller or ""]
            is_told = call.ended_s is not None
            self.outcome.ended += is_told
            said = (session.status, session.started_at, session.ended_at, session.duration_s)
            right = (
                (Status.ENDED, _at(call.began_s), _at(call.ended_s), int(call.ended_s - call.began_s))
                if call.ended_s is not None
                else (Status.END_MISSED, _at(call.began_s), None, None)
            )
            if said != right:
                self._wrong(f"{call}: {said}")

    def _wrong(self, what: str) -> None:
        self.outcome.problems.append(f"{what}; jumps {self._jumps}")


def _calls(random: Random) -> Iterator[Truth]:
    """Of agents whose calls may overlap; each outside party calls once."""
    for number in range(CALLS):
        began_s = float(random.randrange(round(SPAN_S)))
        length_s = random.choice((1, 5, 20, 45, CEILING_S - 3, CEILING_S + 30))
        ended_s = None if random.random() < 0.3 else began_s + length_s
        yield Truth(str(201 + number % AGENTS), f"+4122555{number:04}", began_s, ended_s)


def _jumps(random: Random) -> Iterator[tuple[float, float]]:
    for _ in range(random.choice((1, 1, 2, 5, 12))):
        yield random.uniform(0, SPAN_S), random.choice((-1, 1)) * random.choice(JUMPS_S)


def _at(true_s: float) -> datetime:
    return T0 + timedelta(seconds=true_s)


def _zulu(true_s: float) -> str:
    return _at(true_s).strftime("%Y-%m-%dT%H:%M:%SZ")


def schedule(seed: int) -> Outcome:
    """The outcome of one schedule: the same always."""
    return World(seed).run()


def main() -> int:
    """0: nothing wrong in any schedule."""
    parser = argparse.ArgumentParser(prog="python -m tests.clock_jumps", description=__doc__)
    parser.add_argument("--schedules", type=int, default=1_000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    given = parser.parse_args()
    outcomes = {seed: schedule(seed) for seed in range(given.first, given.first + given.schedules)}
    wrong = {seed: one.problems for seed, one in outcomes.items() if one.problems}
    for seed, problems in list(wrong.items())[:10]:
        print(f"seed {seed}: {len(problems)} problems, the first: {problems[0]}")
    jumps, timeouts, ended = (
        sum(getattr(one, of) for one in outcomes.values()) for of in ("jumps", "timeouts", "ended")
    )
    print(f"{len(outcomes)} schedules, {jumps} jumps, {ended} calls ended, {timeouts} timeouts: {len(wrong)} wrong")
    print("RED" if wrong else "GREEN: no wrong duration, no early timeout")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
