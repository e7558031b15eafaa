"""The witness: what lists of active calls do to open calls, as tables; read them as those of `test_scenarios`.

A list comes every 30 s here; the grace is 60 s of live time, so a lost end is inferred some 100 s after it.
"""

from datetime import datetime

import pytest

from events.session import EndedAtSource, Status
from events.session_events import CallCorrected
from tests.builders import Log, X, at, end, new_task, run, start
from tests.test_scenarios import SHARED, Scenario, active, log_of, shown

SCENARIOS = (
    Scenario(
        "its end is lost: two lists without it, and the grace",
        "1 start 201 X 0 | 30 list 7:201:X | 60 list | 90 list | until 151",
        "201 X end_missed . 0-60 absent_from_pbx",
    ),
    Scenario(
        "the grace is not over", "1 start 201 X 0 | 30 list 7:201:X | 60 list | 90 list | until 149",
        "201 X open . 0-? started",
    ),
    Scenario(
        "one list without it is none", "1 start 201 X 0 | 30 list 7:201:X | 60 list | until 3000",
        "201 X open . 0-? started",
    ),
    Scenario(
        "it comes back within the grace: nothing was lost",
        "1 start 201 X 0 | 30 list 7:201:X | 60 list | 90 list | 120 list 7:201:X | until 3000",
        "201 X open . 0-? started",
    ),
    Scenario(
        "two lists without it that are not in a row",
        "1 start 201 X 0 | 30 list 7:201:X | 60 list | 90 list 7:201:X | 120 list | until 3000",
        "201 X open . 0-? started",
    ),
    Scenario(
        "never listed, never absent", "1 start 201 X 0 | 30 list | 60 list 8:202:Y | 90 list | 120 list | until 3000",
        "201 X open . 0-? started",
    ),
    Scenario(
        "the PBX is away: no list, no evidence, and the ceiling counts from the last one",
        "1 start 201 X 0 | 10000 list 7:201:X | until 24399", "201 X open . 0-? started",
    ),
    Scenario(
        "and then the ceiling", "1 start 201 X 0 | 10000 list 7:201:X | until 24401", "201 X end_missed . 0-? timeout",
    ),
    Scenario(
        "a call that is listed outlasts the ceiling",
        "1 start 201 X 0 | 30 list 7:201:X | 14300 list 7:201:X | 28000 list 7:201:X | until 42000",
        "201 X open . 0-? started",
    ),
    Scenario(
        "ingest is away: the grace does not run",
        "1 start 201 X 0 | 30 list 7:201:X | 60 list | 90 list | silence 9000 | until 9050", "201 X open . 0-? started",
    ),
    Scenario(
        "the true end comes within the grace",
        "1 start 201 X 0 | 30 list 7:201:X | 60 list | 90 list | 100 end 201 X 50 45 | until 200",
        "201 X ended 45 0-50 end_matched_by_party",
    ),
    Scenario(
        "the true end comes late",
        "1 start 201 X 0 | 30 list 7:201:X | 60 list | 90 list | 500 end 201 X 50 45",
        "201 X ended 45 0-50 true_end",
    ),
    Scenario(
        "call waiting: a listed call is not superseded",
        "1 start 201 X 0 | 10 start 201 Y 9 | 30 list 7:201:X 8:201:Y | 900 list 7:201:X 8:201:Y | until 3000",
        "201 X open . 0-? started | 201 Y open . 9-? started",
    ),
    Scenario(
        "a call last listed before the newer one began is superseded",
        "1 start 201 X 0 | 30 list 7:201:X | 100 start 201 Y 99 | until 1101",
        "201 X end_missed . 0-99 superseded | 201 Y open . 99-? started",
    ),
    Scenario(
        "redial: of the two the one that is not listed has ended",
        "1 start 201 X 0 | 30 list 7:201:X | 50 start 201 X 49 | 60 list 8:201:X | 90 list 8:201:X | until 151",
        "201 X end_missed . 0-60 absent_from_pbx | 201 X open . 49-? started",
    ),
    Scenario(
        "redial before the first list: the later call is the one that goes on",
        "1 start 201 X 0 | 20 start 201 X 19 | 30 list 8:201:X | 60 list | 90 list | until 151",
        "201 X open . 0-? started | 201 X end_missed . 19-60 absent_from_pbx",
    ),
    Scenario(
        "a slow list still has the redial that has ended: it is not taken for the first call",
        "1 start 201 X 0 | 10 start 201 X 9 | 30 list 8:201:X | 50 end 201 X 49 38 | 51 list 8:201:X | 80 list"
        " | 110 list | until 300",
        "201 X open . 0-? started | 201 X ended 38 9-49 end_matched_by_party",
    ),
    Scenario(
        "redial whose start is lost: not known to have ended while the two may speak",
        "1 start 201 X 0 | 30 list 7:201:X | 60 list 8:201:X | 90 list 8:201:X | until 3000",
        "201 X open . 0-? started",
    ),
    Scenario(
        "redial that was listed before its webhook came, after a call whose end is lost: neither runs into the ceiling",
        "1 start 201 X 0 | 30 list 8:201:X | 32 start 201 X 28 | 60 list 8:201:X | 14300 list 8:201:X | until 20000",
        "201 X open . 0-? started | 201 X open . 28-? started",
    ),
    Scenario(
        "and once it is gone neither goes on: until when the first one was there is not known",
        "1 start 201 X 0 | 30 list 8:201:X | 32 start 201 X 28 | 60 list 8:201:X | 90 list | 120 list | until 181",
        "201 X end_missed . 0-90 absent_from_pbx | 201 X end_missed . 28-90 absent_from_pbx",
    ),
    Scenario(
        "the end of the redial closes it alone",
        "1 start 201 X 0 | 30 list 8:201:X | 32 start 201 X 28 | 60 list 8:201:X | 70 end 201 X 69 41 | 90 list"
        " | 120 list | until 181",
        "201 X end_missed . 0-90 absent_from_pbx | 201 X ended 41 28-69 end_matched_by_party",
    ),
    Scenario(
        "redial after the PBX restarted, under the same id",
        "1 start 201 X 0 | 30 list 1:201:X | 50 start 201 X 49 | 60 list 1:201:X | 90 list | 120 list | until 181",
        "201 X end_missed . 0-90 absent_from_pbx | 201 X end_missed . 49-90 absent_from_pbx",
    ),
    Scenario(
        "the same id after a restart, the call before known to have ended",
        "1 start 201 X 0 | 30 list 1:201:X | 40 end 201 X 39 38 | 50 start 201 X 49 | 60 list 1:201:X | 90 list"
        " | 120 list | until 181",
        "201 X ended 38 0-39 end_matched_by_party | 201 X end_missed . 49-90 absent_from_pbx",
    ),
    Scenario(
        "the same id after a restart, the call before inferred to have ended",
        "1 start 201 X 0 | 30 list 1:201:X | 60 list | 90 list | 200 start 201 X 199 | 210 list 1:201:X | 240 list"
        " | 270 list | until 331",
        "201 X end_missed . 0-60 absent_from_pbx | 201 X end_missed . 199-240 absent_from_pbx",
    ),
    Scenario(
        "transferred without a webhook: the party is still there",
        "1 start 201 X 0 | 30 list 7:201:X | 60 list 7:202:X | 90 list 7:202:X | until 3000",
        "201 X open . 0-? started",
    ),
    Scenario(
        "the agent speaks to another now",
        "1 start 201 X 0 | 30 list 7:201:X | 60 list 8:201:Y | 90 list 8:201:Y | until 151",
        "201 X end_missed . 0-60 absent_from_pbx",
    ),
    Scenario(
        "ids restart with the PBX: the same id is another call",
        "1 start 201 X 0 | 30 list 1:201:X | 60 list 1:202:Y | 90 list 1:202:Y | until 151",
        "201 X end_missed . 0-60 absent_from_pbx",
    ),
    Scenario(
        "two withheld calls, one is listed: nobody knows which, and neither is superseded",
        "1 start 201 hidden 0 | 10 start 201 hidden 9 | 30 list 7:201:hidden | 900 list 7:201:hidden | until 1799",
        "201 hidden open . 0-? started | 201 hidden open . 9-? started",
    ),
    Scenario(
        "and once none is listed the grace runs out",
        "1 start 201 hidden 0 | 10 start 201 hidden 9 | 30 list 7:201:hidden | 900 list 7:201:hidden | 930 list"
        " | until 1801",
        "201 hidden end_missed . 0-9 superseded | 201 hidden open . 9-? started",
    ),
    Scenario(
        "in a queue under one id, at the agent under another",
        "1 start 201 X 0 | 30 list 7:201:X | 60 list 8:800:X | 90 list 9:201:X | 120 list 9:201:X | until 3000",
        "201 X open . 0-? started",
    ),
)  # fmt: skip


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario.title for scenario in SCENARIOS])
def test_it_comes_to_what_the_table_says(scenario: Scenario) -> None:
    out = run(log_of(scenario.given).records, new_task(pbxs=SHARED))
    last = {event.session_id: shown(event.session, event.reason) for event in out.events}
    assert list(last.values()) == [line.strip() for line in scenario.then.split("|")]


LISTED = active("7", "201", "X")


def bounds(log: Log) -> tuple[datetime | None, datetime | None]:
    (call,) = run(log.records).sessions
    assert (call.status, call.ended_at, call.duration_s) == (Status.END_MISSED, None, None)
    assert call.ended_at_source is EndedAtSource.INFERRED
    return call.ended_between.earliest, call.ended_between.latest


def test_it_ended_between_the_asking_for_the_last_list_with_it_and_the_first_answer_without() -> None:
    log = Log().webhook(1, start()).listing(30, LISTED, asked_s=26).listing(60, LISTED, asked_s=55)
    log.listing(94, asked_s=90).listing(120).ticks_until(200)
    assert bounds(log) == (at(55), at(94))
    (missed,) = [event for event in run(log.records).events if event.type == "call.end_missed"]
    kinds = [dict(log.records[cause.offset].headers)["ce_type"] for cause in missed.causes]
    assert kinds == [b"threecx.webhook.received", b"threecx.calls.listed"]
    assert missed.time == at(94)


def test_while_it_may_be_listed_under_another_id_the_earliest_end_stands_still() -> None:
    log = Log().webhook(1, start()).listing(30, LISTED).listing(60, active("8", "201", "X"))
    log.listing(90, active("8", "201", "X")).listing(120).listing(150).ticks_until(220)
    assert bounds(log) == (at(30), at(120))


def test_of_two_calls_under_one_id_only_the_later_one_was_surely_seen() -> None:
    """The first was never listed for sure: the list of 30 may have had the redial, whose webhook came after it."""
    log = Log().webhook(1, start()).listing(30, LISTED).webhook(32, start(t=28)).listing(60, LISTED).listing(90)
    first, redial = run(log.listing(120).ticks_until(200).records).sessions
    assert (first.ended_between.earliest, first.ended_between.latest) == (at(0), at(90))
    assert (redial.ended_between.earliest, redial.ended_between.latest) == (at(60), at(90))


def test_a_pbx_whose_clock_is_ahead_gives_bounds_that_do_not_cross() -> None:
    log = Log().webhook(1, start(t=3000)).listing(30, LISTED).listing(60).listing(90).ticks_until(160)
    assert bounds(log) == (at(3000), at(3000))


def test_a_list_again_or_one_of_a_frozen_poller_is_no_evidence() -> None:
    log = Log().webhook(1, start()).listing(30, LISTED).listing(60, asked_s=58).listing(61, asked_s=58)
    log.listing(62, asked_s=20)
    assert [event.type for event in run(log.ticks_until(400).records).events] == ["call.started"]
    out = run(log.listing(410).ticks_until(480).records)
    assert out.told[-1] == "end_missed:201:absent_from_pbx"
    assert sum(batch.counts["repeats", "listing"] for batch in out.batches) == 2


def test_a_clock_that_was_set_back_by_hours_silences_no_witness() -> None:
    log = Log().webhook(1, start()).listing(30, asked_s=90_000).listing(60, LISTED).listing(90).listing(120)
    assert run(log.ticks_until(200).records).told[-1] == "end_missed:201:absent_from_pbx"


def test_an_agent_or_a_party_alone_may_be_the_call() -> None:
    """An entry without a number that shows the agent, then one with the number at a queue: not absent."""
    for entry in (("9", "201 Ann", "800 Queue"), ("9", f"10000 Dr. Who {X[1:]}", "800 Queue")):
        log = Log().webhook(1, start()).listing(30, LISTED).listing(60, entry).listing(90, entry)
        assert run(log.ticks_until(400).records).told == ["started:201:started"]


def test_other_pbxs_lists_say_nothing() -> None:
    log = Log().webhook(1, start()).listing(30, LISTED).listing(60, pbx="geneva").listing(90, pbx="geneva")
    assert run(log.ticks_until(400).records).told == ["started:201:started"]


def test_what_is_no_list_is_a_dead_letter() -> None:
    log = Log().webhook(1, start()).listing(30, LISTED)
    spoilt = log.records[-1]._replace(value=b'{"asked_at": "yesterday", "calls": []}')
    out = run([*log.records[:-1], spoilt])
    assert [len(batch.dead_letters) for batch in out.batches] == [1]


def test_the_true_end_says_what_had_been_inferred() -> None:
    log = Log().webhook(1, start()).listing(30, LISTED).listing(60).listing(90).ticks_until(160)
    corrected = run(log.webhook(500, end(t=50, duration=45)).records).events[-1]
    assert isinstance(corrected, CallCorrected)
    assert corrected.changed["end_reason"].before == "absent_from_pbx"
    assert len(corrected.causes) == 3


def test_without_lists_the_changelog_is_as_it_was_before_there_was_a_witness() -> None:
    """The values of open, closed and restored calls and of the partition have nothing of the witness in them."""
    out = run(Log().webhook(1, start()).webhook(2, start("202", "+41225550000", 1)).webhook(61, end()).records)
    for value in out.batches[-1].changelog.values():
        assert value is not None
        assert b"lists" not in value
