"""Webhooks against polling: absence takes two good answers, each dropped webhook is found, one verdict is given."""

from collections.abc import Iterator
from datetime import timedelta
from random import Random

import pytest

from projections.parity import Parity, PollingOnly, Session, WebhookOnly, compare, distribution
from projections.polled import Observation, PolledCall, polled_calls
from tests.builders import at

INTERVAL_S = 1.0
INTERVAL = timedelta(seconds=INTERVAL_S)
DAY_S = 3600.0


def seen(seconds: float, *calls: tuple[int, str, str]) -> Observation:
    told = tuple(
        {"Id": number, "Caller": caller, "Callee": callee, "Status": "Talking"} for number, caller, callee in calls
    )
    return Observation("default", at(seconds), told)


ANN = (1, "10000 +41225551234", "201 Ann")
COMPANY = "+41225550000"


def test_a_call_has_ended_when_two_good_answers_are_without_it() -> None:
    (call,) = polled_calls([seen(0), seen(1, ANN), seen(2, ANN), seen(3), seen(4)])
    assert (call.before_at, call.first_seen_at) == (at(0), at(1))
    assert (call.last_seen_at, call.first_absent_at) == (at(2), at(3))
    assert call.extensions == frozenset({"10000", "201"})
    assert call.was_talking


def test_one_answer_without_it_ends_no_call() -> None:
    (call,) = polled_calls([seen(1, ANN), seen(2), seen(3, ANN), seen(4)])
    assert (call.last_seen_at, call.first_absent_at) == (at(3), None)


def test_a_silence_of_the_pbx_ends_no_call() -> None:
    (call,) = polled_calls([seen(1, ANN), seen(4000, ANN)])
    assert (call.last_seen_at, call.first_absent_at) == (at(4000), None)


def test_an_id_that_comes_again_is_another_call() -> None:
    bob = (1, "10000 +41225559999", "202 Bob")
    first, second = polled_calls([seen(1, ANN), seen(2), seen(3), seen(4, bob), seen(5), seen(6)])
    assert (first.first_absent_at, second.first_seen_at, second.extensions) == (
        at(2),
        at(4),
        frozenset({"10000", "202"}),
    )


def test_what_an_answer_lacks_keeps_what_was_known_and_a_step_back_is_let_be() -> None:
    nothing = Observation("default", at(2), ({"Id": 1, "Caller": None, "Callee": None, "Status": None},))
    (call,) = polled_calls([seen(1, ANN), nothing, seen(1.5), seen(1.6)])
    assert (call.caller, call.last_seen_at, call.first_absent_at) == ("10000 +41225551234", at(2), None)


def session(
    name: str,
    began_s: float,
    closed_s: float | None,
    extension: str = "201",
    caller_digits: str = "41225551234",
    *,
    taken: bool = True,
) -> Session:
    return Session(
        name,
        "default",
        extension,
        caller_digits,
        "41225555678",
        began_at=at(began_s),
        first_received_at=at(began_s + 0.2),
        closed_at=None if closed_s is None else at(closed_s),
        taken=taken,
    )


def compared(polled: list[PolledCall], sessions: list[Session], least: float = 1.0) -> Parity:
    return compare(polled, sessions, at(-100), at(DAY_S), INTERVAL, least)


def test_one_call_seen_by_both_is_compared_at_its_start_and_its_end() -> None:
    polled = polled_calls([seen(0), seen(10.5, ANN), seen(60, ANN), seen(61), seen(62)])
    parity = compared(polled, [session("a", 10, 60.4)])
    (pair,) = parity.both
    assert pair.start_difference_s == pytest.approx(0.5)
    assert pair.end_difference_s == pytest.approx(0.6)
    assert pair.webhook_delay_s == pytest.approx(0.2)
    assert parity.sentence == "1 of 1 polled calls came by webhook; safe to switch off"


def test_nothing_polled_is_no_proof() -> None:
    parity = compared([], [session("a", 10, 60)])
    assert not parity.holds
    assert parity.sentence == "no call was polled: nothing can be said"


@pytest.mark.parametrize(
    ("call", "others", "reason"),
    [
        ((2, "202 Bob", "201 Ann"), [], PollingOnly.INTERNAL),
        ((2, "10000 +41225551234", "800 Queue"), [ANN], PollingOnly.QUEUE_DOUBLE),
        ((2, "10000 +41225559999", "203 Cai"), [ANN], PollingOnly.MISSING),
    ],
)
def test_what_only_polling_saw_has_its_reason(
    call: tuple[int, str, str], others: list[tuple[int, str, str]], reason: PollingOnly
) -> None:
    polled = polled_calls([seen(0), seen(100, call, *others), seen(160, call, *others), seen(161), seen(162)])
    known = [session("a", 100, 160)] if others else []
    known += [session("b", 1000, 1010, "201"), session("c", 1000, 1010, "202", caller_digits="41225550000")]
    parity = compared(polled, known)
    assert [why for found, why in parity.polling_only if found.id == "2"] == [reason]
    assert parity.holds is (reason is not PollingOnly.MISSING and bool(parity.both))


def crowd(begin_s: float, *calls: tuple[int, str, str]) -> list[Observation]:
    """Calls that are all there at once for a minute."""
    return [
        seen(begin_s),
        seen(begin_s + 1, *calls),
        seen(begin_s + 60, *calls),
        seen(begin_s + 61),
        seen(begin_s + 62),
    ]


TEN = [str(extension) for extension in range(201, 211)]


@pytest.mark.parametrize("caller", ["10000 anonymous", "10000 Trunk", f"10000 {COMPANY}"])
@pytest.mark.parametrize("lost", [1, 5, 9])
def test_calls_at_once_from_one_number_or_none_are_not_one_call(caller: str, lost: int) -> None:
    polled = polled_calls([
        *crowd(0, *((number, f"10000 +4179000{number:04}", agent) for number, agent in enumerate(TEN))),
        *crowd(500, *((100 + number, caller, agent) for number, agent in enumerate(TEN))),
    ])  # fmt: skip
    came = [session(f"a{agent}", 1, 60, agent, f"4179000{number:04}") for number, agent in enumerate(TEN)]
    came += [session(f"b{agent}", 501, 560, agent, COMPANY[1:]) for agent in TEN[lost:]]
    parity = compared(polled, came)
    assert [why for _, why in parity.polling_only] == [PollingOnly.MISSING] * lost
    assert not parity.holds


def test_of_ten_calls_through_a_queue_each_has_one_row_too_many() -> None:
    calls = [(number, f"10000 {COMPANY}", f"{agent} Agent") for number, agent in enumerate(TEN)]
    rows = [(100 + number, f"10000 {COMPANY}", "800 Queue") for number in range(10)]
    came = [session(agent, 1, 60, agent, COMPANY[1:]) for agent in TEN]
    parity = compared(polled_calls(crowd(0, *rows, *calls)), came)
    assert [why for _, why in parity.polling_only] == [PollingOnly.QUEUE_DOUBLE] * 10
    assert parity.holds
    more = compared(polled_calls(crowd(0, *rows, (200, f"10000 {COMPANY}", "800 Queue"), *calls)), came)
    assert [why for _, why in more.polling_only].count(PollingOnly.MISSING) == 1
    died = session("died", 1, 60, "800", COMPANY[1:])
    rows += [(200, f"10000 {COMPANY}", "800 Queue")]
    assert compared(polled_calls(crowd(0, *rows, *calls)), [*came, died]).holds, "a call that dies in it makes no agent"


def test_a_withheld_number_is_doubled_at_a_queue_that_a_known_number_showed() -> None:
    withheld = [(1, "10000 anonymous", "201 Ann"), (2, "10000 anonymous", "800 Queue")]
    known = [(3, f"10000 {COMPANY}", "202 Bob"), (4, f"10000 {COMPANY}", "800 Queue")]
    came = [session("a", 1, 60, "201", ""), session("b", 501, 560, "202", COMPANY[1:])]
    told = compared(polled_calls([*crowd(0, *withheld), *crowd(500, *known)]), came)
    assert [why for _, why in told.polling_only] == [PollingOnly.QUEUE_DOUBLE] * 2
    alone = compared(polled_calls(crowd(0, *withheld)), came[:1])
    assert [why for _, why in alone.polling_only] == [PollingOnly.MISSING]


@pytest.mark.parametrize(
    ("closed_s", "taken", "reason"),
    [
        (101.5, True, WebhookOnly.SHORTER_THAN_INTERVAL),
        (130, False, WebhookOnly.NOT_TAKEN),
        (130, True, WebhookOnly.UNSEEN),
        (None, True, WebhookOnly.UNSEEN),
    ],
)
def test_what_only_webhooks_told_has_its_reason(closed_s: float | None, *, taken: bool, reason: WebhookOnly) -> None:
    parity = compared([], [session("a", 100, closed_s, taken=taken)])
    assert [why for _, why in parity.webhook_only] == [reason]


def test_two_calls_of_one_agent_go_to_their_own_sessions() -> None:
    first, second = (1, "10000 +41225551234", "201 Ann"), (2, "10000 +41225559999", "201 Ann")
    polled = polled_calls([seen(0), seen(10, first), seen(15, first, second), seen(40, second), seen(41), seen(42)])
    sessions = [session("b", 14.8, 40, caller_digits="41225559999"), session("a", 9.8, 30)]
    parity = compared(polled, sessions)
    assert [(pair.polled.id, pair.session.session_id) for pair in parity.both] == [("1", "a"), ("2", "b")]


def day(random: Random) -> Iterator[tuple[float, float, str, str]]:
    """The true calls of a simulated hour: beginning, end, agent, number; an agent has one at a time."""
    for agent in range(201, 209):
        now_s = random.uniform(60, 200)
        while now_s < DAY_S - 400:
            end_s = now_s + random.uniform(5, 300)
            yield now_s, end_s, str(agent), f"4179{random.randrange(10**7):07}"
            now_s = end_s + random.uniform(40, 200)


def polls(random: Random, calls: list[tuple[float, float, str, str]]) -> Iterator[Observation]:
    """What polling shows of them; one answer in fifty was no good, and for ten minutes there was none."""
    now_s = 0.0
    away = random.uniform(0, DAY_S)
    while now_s < DAY_S:
        now_s += INTERVAL_S * random.uniform(0.9, 1.1)
        if random.random() < 0.02 or away < now_s < away + 20:
            continue
        active = [(n, c) for n, c in enumerate(calls) if c[0] <= now_s < c[1]]
        yield seen(now_s, *((number, f"10000 +{party}", f"{agent} Agent") for number, (_, _, agent, party) in active))


def test_every_dropped_webhook_is_found_and_nothing_else_in_many_simulated_hours() -> None:
    for seed in range(12):
        random = Random(seed)
        calls = list(day(random))
        lost = {number for number in range(len(calls)) if random.random() < random.choice((0.0, 0.01, 0.2))}
        sessions = [
            session(str(number), began_s, end_s, agent, caller_digits=party)
            for number, (began_s, end_s, agent, party) in enumerate(calls)
            if number not in lost
        ]
        parity = compared(polled_calls(polls(random, calls)), sessions)
        found = {int(call.id) for call, why in parity.polling_only if why is PollingOnly.MISSING}
        assert found == lost, f"seed {seed}"
        assert all(pair.polled.id == pair.session.session_id for pair in parity.both), f"seed {seed}"
        assert parity.holds is (not lost), f"seed {seed}"


def test_a_distribution_of_none_one_and_many() -> None:
    assert distribution([]) is None
    assert distribution([2.0]) == {"min": 2.0, "p50": 2.0, "p95": 2.0, "p99": 2.0, "max": 2.0}
    many = distribution(float(n) for n in range(101))
    assert many == {"min": 0.0, "p50": 50.0, "p95": 95.0, "p99": 99.0, "max": 100.0}
