"""A seeded day: the true calls, what webhooks told of them, what the PBX answered to the poller, and one log of both.

Faults: ends and starts that no webhook told, late webhooks, call waiting, redials, a PBX that restarts (its calls end
untold, its ids begin anew), answers that fail, are empty, slow or wrong, a poller and an ingest that are away.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

from events.active_calls import calls_of, listing_value
from events.envelope import Envelope, Type
from events.pbx import DEFAULT_PBX
from ingest.polling.answers import Outcome, outcome_of
from processors.rules import Rules
from tests.builders import Log, at, end, start

RULES = Rules(call_duration_max_s=3_600, superseded_grace_s=900, absence_grace_s=60)
AGENTS = 12
WITHHELD = "anonymous"
INTERVAL_S = 30.0
TICK_S = 5.0
WRONG_LISTS_MAX = 2
"""So many wrong lists in a row a PBX may give: they make calls suspect, and the next one clears them in the grace."""
FAULTS = ((500, b"oops"), (200, b""), (200, b"<html>please log in</html>"), (401, b""), (200, b'{"value": null}'), None)
"""What may come in place of a list; null: no answer in time."""


@dataclass(slots=True)
class TrueCall:
    """What took place. `started_log_s`, `ended_log_s`: when the webhook reached the log; null: it never did."""

    number: int
    agent: str
    party: str
    begin_s: float
    end_s: float
    is_redial: bool = False
    started_log_s: float | None = None
    ended_log_s: float | None = None
    id: str = ""


@dataclass(slots=True)
class Given:
    """A list that reached the log: when, and as of when the PBX gave it; a wrong one is no list of what took place."""

    log_s: float
    asked_s: float
    as_of_s: float
    wrong: bool


@dataclass(slots=True)
class Day:
    """The log and the truth behind it."""

    hours: float
    calls: list[TrueCall] = field(default_factory=list)
    lists: list[Given] = field(default_factory=list)
    away: list[tuple[float, float]] = field(default_factory=list)
    log: Log = field(default_factory=Log)


def day_of(seed: int, hours: float) -> Day:
    """The day of this seed."""
    random = Random(seed)
    day = Day(hours)
    restarts = sorted(random.uniform(0, hours * 3600) for _ in range(random.choice((0, 0, 1, 2))))
    for agent in range(201, 201 + AGENTS):
        day.calls += _calls_of(random, str(agent), hours * 3600, restarts)
    day.calls.sort(key=lambda call: call.begin_s)
    _number(day.calls, restarts)
    day.away = [(begin, begin + random.uniform(15, 600)) for begin in _moments(random, hours, 2)]
    _tell(random, day)
    told = [*_webhooks(random, day), *_answers(random, day), *_ticks(day)]
    for number, (_, value, said) in enumerate(sorted(told, key=lambda one: one[0])):
        day.log.record(value, said._replace(id=f"{said.type}-{number}"))
    return day


def _calls_of(random: Random, agent: str, until_s: float, restarts: list[float]) -> Iterator[TrueCall]:
    now_s, party, redials = random.uniform(0, 600), _party(random), False
    while now_s < until_s:
        length_s = random.expovariate(1 / 240) + 2 if random.random() < 0.97 else random.uniform(3_600, 12_000)
        cut = next((moment for moment in restarts if now_s < moment < now_s + length_s), None)
        end_s = now_s + length_s if cut is None else cut
        yield TrueCall(0, agent, party, now_s, end_s, redials)
        if random.random() < 0.05:  # call waiting
            second_s = random.uniform(now_s, end_s)
            until_cut_s = next((moment for moment in restarts if moment > second_s), until_s * 2)
            yield TrueCall(0, agent, _party(random), second_s, min(second_s + random.uniform(5, 2_000), until_cut_s))
        redials = random.random() < 0.1
        now_s = end_s + (random.uniform(1, 20) if redials else random.uniform(20, 900))
        party = party if redials else _party(random)


def _party(random: Random) -> str:
    return WITHHELD if random.random() < 0.03 else f"+4179{random.randrange(10**7):07}"


def _number(calls: list[TrueCall], restarts: list[float]) -> None:
    """Give ids, which begin anew with each restart of the PBX."""
    seen: dict[int, int] = {}
    for number, call in enumerate(calls):
        life = sum(moment <= call.begin_s for moment in restarts)
        seen[life] = seen.get(life, 0) + 1
        call.number, call.id = number, str(seen[life])


def _moments(random: Random, hours: float, most: int) -> list[float]:
    return sorted(random.uniform(0, hours * 3600) for _ in range(random.randint(0, most)))


def _tell(random: Random, day: Day) -> None:
    """Which webhooks reach the log, and when: what comes while ingest is away is lost."""
    for call in day.calls:
        began_s = call.begin_s + random.uniform(0.05, 2)
        ended_s = call.end_s + (random.uniform(0.05, 3) if random.random() < 0.95 else random.uniform(3, 900))
        if (call.is_redial or random.random() > 0.03) and not _is_away(day, began_s):
            call.started_log_s = began_s
        if random.random() > 0.15 and not _is_away(day, ended_s):
            call.ended_log_s = ended_s


def _is_away(day: Day, moment_s: float) -> bool:
    return any(begin <= moment_s <= end for begin, end in day.away)


Record = tuple[float, bytes, Envelope]


def _webhooks(random: Random, day: Day) -> Iterator[Record]:
    for call in day.calls:
        waiting_s = min(random.uniform(0, 8), (call.end_s - call.begin_s) / 2)
        duration = int(call.end_s - call.begin_s - waiting_s)
        begun = start(call.agent, call.party, call.begin_s)
        over = end(call.agent, call.party, call.end_s, duration)
        for log_s, body in ((call.started_log_s, begun), (call.ended_log_s, over)):
            if log_s is not None:
                yield _webhook(log_s, body)


def _webhook(log_s: float, body: dict[str, Any]) -> Record:
    kind = Type.WEBHOOK_RECEIVED
    return log_s, json.dumps(body).encode(), Envelope("", DEFAULT_PBX, kind, at(log_s), "application/json", "ingest-1")


def _ticks(day: Day) -> Iterator[Record]:
    for number in range(int((day.hours * 3600 + 20_000) / TICK_S)):
        if not _is_away(day, number * TICK_S):
            moment = at(number * TICK_S)
            yield number * TICK_S, b"", Envelope("", DEFAULT_PBX, Type.CLOCK_TICK, moment, None, "ingest-1")


def _answers(random: Random, day: Day) -> Iterator[Record]:
    """What the poller makes of each answer: nothing, but of a good one a record for the processors."""
    asked_s, faulty_until_s, wrong_left, silent_s = 0.0, 0.0, 0, [*_moments(random, day.hours, 3), 1e9]
    while asked_s < day.hours * 3600 + 15_000:
        asked_s += INTERVAL_S * random.uniform(0.9, 1.1)
        if asked_s > silent_s[0]:  # the poller is away, or the PBX cannot be reached
            asked_s = silent_s.pop(0) + random.uniform(30, 600)
        if wrong_left == 0 and random.random() < 0.01:
            faulty_until_s = asked_s + random.uniform(10, 300)
        if wrong_left > 0:
            wrong_left -= 1
        elif asked_s < faulty_until_s:
            answer = random.choice(FAULTS)
            assert answer is None or outcome_of(*answer) is not Outcome.GOOD
            continue
        elif random.random() < 0.004 and asked_s + 200 < silent_s[0]:
            wrong_left = random.randint(1, WRONG_LISTS_MAX)
        took_s = random.uniform(0.02, 0.3) if random.random() < 0.95 else random.uniform(0.3, 9)
        as_of_s, log_s = asked_s + random.uniform(0, took_s), asked_s + took_s
        body = b'{"value": []}' if wrong_left else _listed(day, as_of_s)
        assert outcome_of(200, body) is Outcome.GOOD
        day.lists.append(Given(log_s, asked_s, as_of_s, wrong_left > 0))
        value = listing_value(at(asked_s), calls_of(body) or ())
        yield log_s, value, Envelope("", DEFAULT_PBX, Type.CALLS_LISTED, at(log_s), "application/json")
        asked_s = max(asked_s, log_s - INTERVAL_S / 2)


def _listed(day: Day, as_of_s: float) -> bytes:
    active = [call for call in day.calls if call.begin_s <= as_of_s < call.end_s]
    value = [
        {"Id": call.id, "Caller": f"10000 {call.party}", "Callee": f"{call.agent} Agent", "Status": "Talking"}
        for call in active
    ]
    return json.dumps({"value": [*value, {"Id": "9000", "Caller": "301 Ann", "Callee": "302 Bob"}]}).encode()
