"""The judge of the fault runs sees what it must: clean records pass, and each planted violation is named."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

import orjson
import pytest

from events import envelope, times
from events.envelope import Envelope, Type
from processors.task import Task
from tests.builders import T0
from tests.chaos import verdict
from tests.chaos.faults import Faults
from tests.chaos.follower import Follower
from tests.chaos.ledger import Attempt, Ledger, attempts_of
from tests.chaos.plan import CHOSEN, ENDING, KINDS, OF_DISKS, OF_NETWORK, OF_THREE, WORST, plan
from tests.chaos.reference import PROGRESS, Expected, Fold, Json, Raw, expect, folded
from tests.chaos.soak import Sample, Watch
from tests.chaos.traffic import Traffic
from tests.simulation.faults import PBXS, feed_of

SEED = 11


@dataclass
class Evidence:
    """All that the judge looks at, of one partition."""

    attempts: list[Attempt]
    webhooks: list[Raw]
    expected: dict[int, Expected]
    sessions: list[Raw]
    dead: list[Raw]
    calls: dict[str, Json]
    agents: list[Json]
    fold: Fold
    revisions: dict[str, int] = field(default_factory=dict)

    def lines(self) -> list[verdict.Line]:
        found = {0: self.sessions}
        return [
            verdict.accepted_are_there(self.attempts, self.webhooks, 0.0),
            verdict.nothing_unsent(self.attempts, self.webhooks, clock_was_right=True),
            verdict.sessions_equal(self.expected, found, self.dead, self.attempts),
            verdict.views_equal("SQLite", self.fold, self.calls, self.agents, self.revisions, {}, [T0]),
        ]

    @property
    def violations(self) -> str:
        return "\n".join(one for line in self.lines() for one in line.violations)


def evidence() -> Evidence:
    """What a system without a fault leaves behind: the real core over a simulated feed."""
    feed = feed_of(SEED)
    facts = {(step.pbx, step.body): step.said for step in feed.steps if step.sequence is not None}
    raw = [Raw(0, one.offset, one.key, one.value, tuple(one.headers)) for one in feed.records]
    expected = {0: expect(0, raw, facts, feed.rules, feed.shared_extensions)}
    batch = Task(0, feed.rules, PBXS, "threecx.webhooks").process(feed.records)
    attempts = []
    for number, step in enumerate(step for step in feed.steps if step.sequence is not None):
        at_s = step.received_at.timestamp()
        attempts.append(Attempt(number, step.pbx, step.body, at_s, 202, step.ce_id, at_s + 0.1))
    known = {one.id: one for one in attempts}
    fold = folded(expected)
    return Evidence(
        list(known.values()),
        raw,
        expected,
        [Raw(0, n, one.key, one.value, tuple(one.headers)) for n, one in enumerate(batch.session_events)],
        [Raw(0, n, one.key, one.value, tuple(one.headers)) for n, one in enumerate(batch.dead_letters)],
        dict(fold.sessions),
        agents_of(fold),
        fold,
        dict(fold.revisions),
    )


def agents_of(fold: Fold) -> list[Json]:
    """As the API shows them on the day of the feed."""
    day = T0.date().isoformat()
    keys = {(one["pbx"], one["agent"]["extension"]) for one in fold.sessions.values()}
    return [
        {
            **agent,
            "pbx": pbx,
            "extension": extension,
            "since": agent["since"].isoformat(),
            "today": {**agent["today"], "day": day},
        }
        for (pbx, extension), agent in fold.agents({}, dict.fromkeys(keys, day)).items()
    ]


def first_webhook(found: Evidence) -> Raw:
    return next(one for one in found.webhooks if one.header["ce_type"] == Type.WEBHOOK_RECEIVED)


def first_call(found: Evidence) -> int:
    return next(n for n, one in enumerate(found.sessions) if orjson.loads(one.value or b"")["type"] != PROGRESS)


def lose_a_webhook(found: Evidence) -> None:
    lost = first_webhook(found).header["ce_id"]
    found.webhooks = [one for one in found.webhooks if one.header["ce_id"] != lost]


def change_a_body(found: Evidence) -> None:
    one = first_webhook(found)
    found.webhooks[found.webhooks.index(one)] = one._replace(value=b"{}")


def invent_a_webhook(found: Evidence) -> None:
    said = Envelope("x", "default", Type.WEBHOOK_RECEIVED, T0, "application/json", "z", 7)
    found.webhooks.append(Raw(0, 10**6, b"default", b'{"a": 1}', tuple(envelope.encode(said))))


def move_a_webhook_to_another_partition(found: Evidence) -> None:
    found.webhooks.append(first_webhook(found)._replace(partition=1))


def give_a_webhook_another_key(found: Evidence) -> None:
    one = first_webhook(found)
    found.webhooks[found.webhooks.index(one)] = one._replace(key=b"elsewhere")


def write_what_is_neither_webhook_nor_tick(found: Evidence) -> None:
    headers = first_webhook(found).header | {"ce_type": "threecx.webhook.deceived"}
    said = tuple((name, value.encode()) for name, value in headers.items())
    found.webhooks.append(first_webhook(found)._replace(headers=said))


def swap_two_webhooks(found: Evidence) -> None:
    first, second = [n for n, one in enumerate(found.webhooks) if one.header["ce_type"] == Type.WEBHOOK_RECEIVED][:2]
    found.webhooks[first], found.webhooks[second] = found.webhooks[second], found.webhooks[first]


def tick_before_its_time(found: Evidence) -> None:
    later = {"ce_type": Type.CLOCK_TICK, "ce_time": "2999-01-01T00:00:00.000000Z"}
    headers = {**first_webhook(found).header, **later}
    tick = first_webhook(found)._replace(headers=tuple((name, value.encode()) for name, value in headers.items()))
    found.webhooks.insert(0, tick)


def lose_every_tick(found: Evidence) -> None:
    found.webhooks = [one for one in found.webhooks if one.header["ce_type"] != Type.CLOCK_TICK]


def stamp_a_webhook_late(found: Evidence) -> None:
    one = found.attempts[-1]
    found.attempts[-1] = replace(one, sent_s=one.sent_s - 60, answered_s=one.sent_s - 59)


def accept_with_an_error(found: Evidence) -> None:
    found.attempts[0] = replace(found.attempts[0], status=500)


def one_id_for_two(found: Evidence) -> None:
    found.attempts[1] = replace(found.attempts[1], id=found.attempts[0].id)


def lose_a_session_event(found: Evidence) -> None:
    del found.sessions[first_call(found)]


def double_a_session_event(found: Evidence) -> None:
    found.sessions.append(found.sessions[first_call(found)])


def show_what_was_aborted(found: Evidence) -> None:
    number = first_call(found)
    said = orjson.loads(found.sessions[number].value or b"") | {"id": "never committed"}
    found.sessions.insert(number, found.sessions[number]._replace(value=orjson.dumps(said)))


def swap_two_session_events(found: Evidence) -> None:
    found.sessions[:2] = reversed(found.sessions[:2])


def change_a_session_event(found: Evidence) -> None:
    number = first_call(found)
    said = orjson.loads(found.sessions[number].value or b"")
    said["session"]["duration_s"] = 10_800
    found.sessions[number] = found.sessions[number]._replace(value=orjson.dumps(said))


def write_a_session_event_in_other_bytes(found: Evidence) -> None:
    number = first_call(found)
    value = found.sessions[number].value or b""
    found.sessions[number] = found.sessions[number]._replace(value=value.replace(b":", b": ", 1))


def give_a_session_event_another_key(found: Evidence) -> None:
    number = first_call(found)
    found.sessions[number] = found.sessions[number]._replace(key=b"elsewhere")


def give_a_session_event_another_header(found: Evidence) -> None:
    number = first_call(found)
    headers = found.sessions[number].header | {"ce_type": "call.corrected", "ce_id": "x"}
    said = tuple((name, value.encode()) for name, value in headers.items())
    found.sessions[number] = found.sessions[number]._replace(headers=said)


def lose_a_dead_letter(found: Evidence) -> None:
    one = first_webhook(found)
    found.expected[0].dead_letters.append(one.header["ce_id"])


def double_a_dead_letter(found: Evidence) -> None:
    one = first_webhook(found)
    said = (*one.headers, ("dead_letter_origin", b"threecx.webhooks"))
    found.dead += [one._replace(headers=said)]


def lose_what_the_door_refused(found: Evidence) -> None:
    found.attempts.append(replace(found.attempts[0], status=422, id=None, body=b"[]"))


def keep_what_nobody_sent(found: Evidence) -> None:
    one = first_webhook(found)
    found.dead.append(one._replace(headers=(*one.headers, ("dead_letter_origin", b"ingest")), value=b"?"))


def lose_a_call_of_the_view(found: Evidence) -> None:
    found.calls.popitem()


def invent_a_call_in_the_view(found: Evidence) -> None:
    found.calls["x"] = {}


def show_an_old_revision(found: Evidence) -> None:
    session_id = next(iter(found.calls))
    found.calls[session_id] = found.calls[session_id] | {"revision": 0}


def forget_a_revision(found: Evidence) -> None:
    found.revisions[next(iter(found.revisions))] -= 1


def keep_an_agent_busy(found: Evidence) -> None:
    found.agents[0] |= {"calls": ["x"]}


def call_a_busy_agent_available(found: Evidence) -> None:
    found.agents[0] |= {"status": "available" if found.agents[0]["status"] == "on_call" else "on_call"}


def forget_an_idle_agent(found: Evidence) -> None:
    del found.agents[0]


def invent_an_agent(found: Evidence) -> None:
    found.agents.append(found.agents[0] | {"extension": "999"})


def miscount_a_day(found: Evidence) -> None:
    found.agents[0]["today"] |= {"calls": found.agents[0]["today"]["calls"] + 1}


def stay_with_yesterday(found: Evidence) -> None:
    found.agents[0]["today"] |= {"day": (T0 - timedelta(days=1)).date().isoformat()}


def tell_a_wrong_last_call(found: Evidence) -> None:
    found.agents[0] |= {"last_call": "x"}


PLANTED: Sequence[tuple[Callable[[Evidence], None], str]] = (
    (lose_a_webhook, "lost-write"),
    (change_a_body, "corrupt-write"),
    (invent_a_webhook, "phantom"),
    (move_a_webhook_to_another_partition, "wrong key or partition"),
    (give_a_webhook_another_key, "wrong key or partition"),
    (write_what_is_neither_webhook_nor_tick, "phantom (neither webhook nor tick)"),
    (swap_two_webhooks, "wrong order"),
    (tick_before_its_time, "a webhook after a younger tick"),
    (lose_every_tick, "lost-write (ticks of a partition)"),
    (stamp_a_webhook_late, "wrong time"),
    (accept_with_an_error, "undeclared answer"),
    (one_id_for_two, "duplicate id"),
    (lose_a_session_event, "lost-write"),
    (double_a_session_event, "duplicate"),
    (show_what_was_aborted, "aborted-read"),
    (swap_two_session_events, "wrong value or order"),
    (change_a_session_event, "wrong value or order"),
    (write_a_session_event_in_other_bytes, "the same values in other bytes"),
    (give_a_session_event_another_key, "wrong key or headers"),
    (give_a_session_event_another_header, "wrong key or headers"),
    (lose_a_dead_letter, "lost-write (dead letter)"),
    (double_a_dead_letter, "duplicate or phantom (dead letter)"),
    (lose_what_the_door_refused, "lost-write (refused at the door)"),
    (keep_what_nobody_sent, "phantom (refused at the door)"),
    (lose_a_call_of_the_view, "lost-update"),
    (invent_a_call_in_the_view, "phantom"),
    (show_an_old_revision, "stale-read"),
    (forget_a_revision, "lost-update (revisions)"),
    (keep_an_agent_busy, "wrong agent"),
    (call_a_busy_agent_available, "wrong agent"),
    (forget_an_idle_agent, "lost-update (agent)"),
    (invent_an_agent, "phantom (agent)"),
    (miscount_a_day, "wrong agent"),
    (stay_with_yesterday, "another day (agent)"),
    (tell_a_wrong_last_call, "wrong agent"),
)


def test_a_system_without_a_fault_is_found_clean() -> None:
    found = evidence()
    assert not found.violations
    assert all(sum(line.counts.values()) for line in found.lines())


def test_a_header_has_six_digits_of_a_second_where_the_event_has_none() -> None:
    """`--soak 1h --seed 39` was red for the two of a million events that came at a whole second."""

    def record(time: str) -> Raw:
        said = {
            "ce_specversion": "1.0",
            "ce_id": "x",
            "ce_source": "/pbx/geneva",
            "ce_type": "call.started",
            "ce_time": time,
            "content-type": "application/json",
        }
        return Raw(0, 0, b"geneva", b"", tuple((name, value.encode()) for name, value in said.items()))

    time = "2026-11-27T21:48:45Z"
    event = {"id": "x", "type": "call.started", "time": time, "session": {"pbx": "geneva"}}
    assert verdict._is_wrapped(record(times.to_text(datetime.fromisoformat(time))), event)
    assert not verdict._is_wrapped(record("2026-11-27T21:48:46.000000Z"), event)


@pytest.mark.parametrize(("plant", "name"), PLANTED, ids=[plant.__name__ for plant, _ in PLANTED])
def test_each_violation_is_seen_and_named(plant: Callable[[Evidence], None], name: str) -> None:
    found = evidence()
    plant(found)
    assert name in found.violations


def test_a_client_of_the_stream_that_missed_something_is_seen() -> None:
    agent = {"pbx": "default", "extension": "201", "status": "on_call", "calls": ["x"], "as_of": "1", "today": {}}
    key = ("default", "201")
    later = agent | {"as_of": "2"}
    call = {"session_id": "x", "status": "open", "revision": 2}

    def client(agents: dict[tuple[str, str], Json], calls: dict[str, Json]) -> Follower:
        found = Follower("")
        found.agents, found.calls, found.resumed = agents, calls, 1
        return found

    def is_seen(held: Follower) -> bool:
        return bool(verdict.stream_equals("SQLite", held, {"x": call}, [later]).violations)

    assert not is_seen(client({key: agent}, {"x": call}))
    for agents in ({}, {key: agent | {"calls": []}}, {key: agent, ("default", "202"): agent}):
        assert is_seen(client(agents, {"x": call}))
    for calls in ({}, {"x": call | {"revision": 1}}, {"x": call, "y": call}):
        assert is_seen(client({key: agent}, calls))
    told_a_gap, never_resumed = (client({key: agent}, {"x": call}) for _ in range(2))
    told_a_gap.problems.append("a gap")
    never_resumed.resumed = 0
    assert is_seen(told_a_gap)
    assert is_seen(never_resumed)


def test_a_webhook_without_a_timely_answer_is_seen() -> None:
    def problems(status: int | None, answered_s: float | None, down: verdict.Window = (0.0, 9.0)) -> list[str]:
        return verdict.answers([Attempt(1, "default", b"{}", 10.0, status, None, answered_s)], [down], [(0.0, 9.0)])[1]

    assert not problems(202, 10.1)
    assert "answered None" in problems(None, None)[0], "none ever came"
    assert "answered None" in problems(None, 10.0)[0], "the connection was closed"
    assert "after 6.0 s" in problems(202, 16.0)[0]
    assert "was refused" in problems(503, 10.1)[0]
    assert not problems(None, 10.0, (10.0, 11.0)), "the door was down"
    assert not verdict.answers([Attempt(1, "default", b"{}", 8.0, 503, None, 8.1)], [], [(0.0, 9.0)])[1]


def test_a_counter_that_is_off_by_one_is_seen() -> None:
    right = {"accepted by ingest": 9.0, "session events by processors": 12.0, "folded on SQLite": 12.0}
    assert not verdict.counters_balance(9, right, ticks=1).violations
    assert "lost-write (tick)" in verdict.counters_balance(9, right, ticks=0).violations[0]
    for name, value in right.items():
        assert verdict.counters_balance(9, right | {name: value - 1}, ticks=1).violations, name


async def test_the_ledger_holds_each_attempt_and_its_answer(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    await ledger.note(n=1, pbx="default", body="{}", at_s=1.0)
    await ledger.note(n=2, pbx="default", body="[]", at_s=1.5)
    await ledger.note(n=1, status=202, id="a", at_s=2.0)
    ledger.close()
    answered, silent = attempts_of(tmp_path / "ledger")
    assert (answered.body, answered.status, answered.id, answered.answered_s) == (b"{}", 202, "a", 2.0)
    assert (silent.body, silent.status, silent.id, silent.answered_s) == (b"[]", None, None, None)


def test_a_plan_is_the_same_again_and_has_every_kind() -> None:
    seed = Random().randrange(10**6)
    faults = plan(seed, 40, longest_s=5, brokers=3)
    assert faults == plan(seed, 40, longest_s=5, brokers=3)
    assert {fault.kind for fault in faults} == {*KINDS, *OF_THREE}
    for kind in (*KINDS, *OF_THREE, *OF_DISKS, *OF_NETWORK, *CHOSEN):
        assert hasattr(Faults, "_" + kind.replace(" ", "_").replace("-", "_"))
    assert max(fault.seconds for fault in faults if fault.kind != "clock") <= 8.0
    spared = plan(seed, 80, longest_s=5, brokers=1, spared_from=40)
    assert not {fault.kind for fault in spared[40:]} & ENDING
    assert [(fault.kind, fault.target) for fault in spared[40 : 40 + len(WORST)]] == [*WORST]
    assert len(plan(seed, 2, longest_s=5, brokers=1, spared_from=1)) == 2
    assert {fault.kind for fault in spared} == {*KINDS}


def test_traffic_is_the_same_again_and_comes_in_order() -> None:
    def some() -> list[tuple[float, str, bytes]]:
        webhooks = Traffic(3, 50.0, T0, plain_times=False).webhooks()
        return [(one.due_s, one.pbx, one.body) for one, _ in zip(webhooks, range(500), strict=False)]

    assert some() == some()
    assert [due for due, *_ in some()] == sorted(due for due, *_ in some())


def test_what_grows_over_a_long_run_is_seen() -> None:
    def watch(megabytes: Callable[[int], float], files: Callable[[int], int], life: int = 700) -> Watch:
        found = Watch(dict, Path(), ["ingest"])
        found.samples["ingest"] = [Sample(n * 5.0, n // life, megabytes(n % life), files(n)) for n in range(700)]
        return found

    assert not list(watch(lambda n: 100 + n % 7, lambda n: 20 + n % 3).problems())
    assert "megabytes grew" in next(watch(lambda n: 100 + n * 0.3, lambda _: 20).problems())
    assert "files grew" in next(watch(lambda _: 100, lambda n: 20 + n // 10).problems())
    # A leak that each restart takes along.
    assert "megabytes grew" in next(watch(lambda n: 100 + n * 0.6, lambda _: 20, life=200).problems())
    # The step of a short life that ended with it, before a long one.
    stepped = watch(lambda _: 120, lambda _: 20)
    stepped.samples["ingest"][:150] = [Sample(n * 5.0, -1, 70 + 50 * (n > 100), 20) for n in range(150)]
    assert not list(stepped.problems())
    assert "no life was long enough" in next(watch(lambda _: 100, lambda _: 20, life=100).problems())
    # The step of the worst, before all had had it; and a leak after that.
    burst = watch(lambda n: 70 + 50 * (n > 300), lambda n: 484 + n // 20)
    assert "megabytes grew" in next(burst.problems())
    burst.warm_s = 301 * 5.0
    assert not list(burst.problems())
    leak = watch(lambda n: 70 + n * 0.3, lambda _: 20)
    leak.warm_s = 301 * 5.0
    assert "megabytes grew" in next(leak.problems())
    logs = Watch(dict, Path(), logs=lambda: 0)
    logs.log_megabytes = [min(n, 100.0) + n % 9 for n in range(700)]  # until the first are deleted
    assert not list(logs.problems())
    logs.log_megabytes = [float(n) for n in range(700)]
    assert "the brokers' logs grew" in next(logs.problems())
