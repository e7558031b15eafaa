"""A simulated call centre, seeded: the same seed always gives the same webhooks. Pure.

Callers arrive at random (Poisson), talk for a log-normal time, and the PBX reports it as the seed's samples do, with
the faults that do happen: ends that get lost, webhooks sent twice, late ones, and ones out of order.
"""

import heapq
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

FIRST_EXTENSION: Final = 201
TALK_S_MIN: Final = 5.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is simulated; shares are of all calls or webhooks, times in seconds."""

    seed: int = 1
    agents: int = 24
    calls_per_minute: float = 20.0
    talk_median_s: float = 45.0
    talk_spread: float = 0.6
    inbound_share: float = 0.65
    internal_share: float = 0.08
    missed_share: float = 0.08
    transfer_share: float = 0.05
    withheld_share: float = 0.03
    lost_end_share: float = 0.02
    repeat_share: float = 0.03
    late_share: float = 0.03
    late_s_max: float = 20.0


@dataclass(frozen=True, slots=True, order=True)
class Webhook:
    """One body, due so many seconds after the beginning."""

    due_s: float
    number: int
    body: bytes


@dataclass(slots=True)
class _Agent:
    extension: str
    busy_until_s: float = 0.0

    @property
    def email(self) -> str:
        return f"agent{self.extension}@example.com"


class CallCentre:
    """Endless traffic of one PBX; `webhooks` gives it in order of when it is due."""

    def __init__(self, scenario: Scenario, started_at: datetime) -> None:
        """`started_at`: the wall clock at second 0, for the times that the PBX reports."""
        self._scenario = scenario
        self._started_at = started_at
        self._random = random.Random(scenario.seed)
        self._agents = [_Agent(str(FIRST_EXTENSION + number)) for number in range(scenario.agents)]
        self._due: list[Webhook] = []
        self._number = 0
        self._call_id = 10_000

    def webhooks(self) -> Iterator[Webhook]:
        """Every webhook, for ever."""
        now_s = 0.0
        while True:
            now_s += self._random.expovariate(self._scenario.calls_per_minute / 60)
            while self._due and self._due[0].due_s <= now_s:
                yield heapq.heappop(self._due)
            self._arrive(now_s)

    def _arrive(self, now_s: float) -> None:
        free = [agent for agent in self._agents if agent.busy_until_s <= now_s]
        if not free:
            self._missed(now_s, self._random.choice(self._agents))
        elif self._random.random() < self._scenario.missed_share:
            self._missed(now_s, self._random.choice(free))
        else:
            self._answered(now_s, self._random.choice(free))

    def _answered(self, now_s: float, agent: _Agent) -> None:
        sides = self._sides(agent)
        talk_s = self._talk_s()
        self._leg(now_s, agent, sides, talk_s)
        others = [one for one in self._agents if one.busy_until_s <= now_s + talk_s and one is not agent]
        if others and sides["direction"] == "Inbound" and self._random.random() < self._scenario.transfer_share:
            second = self._random.choice(others)
            self._leg(now_s + talk_s + 1, second, sides, self._talk_s())

    def _leg(self, began_s: float, agent: _Agent, sides: dict[str, str], talk_s: float) -> None:
        ended_s = began_s + talk_s
        agent.busy_until_s = ended_s + self._random.uniform(2, 15)
        person = {"agentExt": agent.extension, "agentMail": agent.email}
        self._send(began_s, {**sides, **person, "startTime": self._zulu(began_s)})
        if self._random.random() < self._scenario.lost_end_share:
            return
        self._call_id += 1
        end = {
            "callId": str(self._call_id),
            **sides,
            **person,
            "duration": _clock(talk_s),
            "wav": f"https://pbx.example.com/recordings/{self._call_id}.wav",
            "endUtc": self._zulu(ended_s),
        }
        self._send(ended_s, end)

    def _missed(self, now_s: float, agent: _Agent) -> None:
        sides = {"caller": self._number_of_somebody(), "callee": "+41225555678", "direction": "Missed"}
        person = {"agentExt": agent.extension, "agentMail": agent.email}
        self._send(now_s, {**sides, **person, "duration": "00:00:00", "endUtc": self._zulu(now_s)})

    def _sides(self, agent: _Agent) -> dict[str, str]:
        kind = self._random.random()
        if kind < self._scenario.internal_share:
            other = self._random.choice(self._agents).extension
            return {"caller": agent.extension, "callee": other, "direction": "Internal"}
        somebody = self._number_of_somebody()
        if kind < self._scenario.internal_share + self._scenario.inbound_share:
            caller = "anonymous" if self._random.random() < self._scenario.withheld_share else somebody
            return {"caller": caller, "callee": "+41225555678", "direction": "Inbound"}
        return {"caller": agent.extension, "callee": somebody, "direction": "Outbound"}

    def _send(self, due_s: float, body: dict[str, Any]) -> None:
        scenario = self._scenario
        late_s = self._random.uniform(0, scenario.late_s_max) if self._random.random() < scenario.late_share else 0.0
        copies = 2 if self._random.random() < scenario.repeat_share else 1
        for copy in range(copies):
            self._number += 1
            webhook = Webhook(due_s + late_s + copy * 0.4, self._number, json.dumps(body).encode())
            heapq.heappush(self._due, webhook)

    def _talk_s(self) -> float:
        return max(
            TALK_S_MIN, self._scenario.talk_median_s * self._random.lognormvariate(0, self._scenario.talk_spread)
        )

    def _number_of_somebody(self) -> str:
        return f"+4179{self._random.randrange(2_000_000, 9_999_999)}"

    def _zulu(self, seconds: float) -> str:
        return (self._started_at + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}"
