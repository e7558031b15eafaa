"""The design's table (section 4), a row a test: readable scenarios through the real core, bodies and all."""

from datetime import timedelta

import pytest

from events.pbx import DEFAULT_PBX, Pbx
from events.session import EndedAtSource, Outcome, StartedAtSource, Status
from processors.rules import Rules
from tests.builders import DID, Log, X, Y, Z, at, end, folded, new_task, run, start, zulu

HOUR = 3600


def test_a_start_and_its_end_are_one_call() -> None:
    log = Log().webhook(1, start(t=0)).webhook(273, end(t=272, duration=265, wav="https://pbx/1.wav", callId="12345"))
    out = run(log.records)
    assert out.told == ["started:201:started", "ended:201:end_matched_by_party"]
    (call,) = out.sessions
    assert (call.status, call.outcome, call.revision) == (Status.ENDED, Outcome.ANSWERED, 2)
    assert (call.started_at, call.started_at_source) == (at(0), StartedAtSource.REPORTED)
    assert (call.ended_at, call.ended_at_source) == (at(272), EndedAtSource.REPORTED)
    assert (call.duration_s, call.span_s) == (265, 272)
    assert (call.recording_url, call.call_id) == ("https://pbx/1.wav", "12345")
    assert call.first_received_at == at(1)
    assert [cause.offset for cause in out.events[1].causes] == [1, len(log.records) - 1]


def test_an_end_without_a_start_is_a_call_with_a_derived_start() -> None:
    out = run(Log().webhook(61, end(t=60, duration=55)).records)
    assert out.told == ["ended:201:end_without_start"]
    (call,) = out.sessions
    assert (call.started_at, call.started_at_source) == (at(5), StartedAtSource.DERIVED)
    assert call.span_s is None


def test_an_end_without_a_start_and_a_duration_invents_no_start() -> None:
    (call,) = run(Log().webhook(61, end(t=60, duration=None)).records).sessions
    assert (call.started_at, call.started_at_source) == (None, StartedAtSource.UNKNOWN)
    assert (call.duration_s, call.outcome) == (None, Outcome.UNKNOWN)


def test_an_end_before_its_start_closes_one_call() -> None:
    out = run(Log().webhook(61, end(t=60, duration=55)).webhook(62, start(t=0)).records)
    assert out.told == ["ended:201:end_without_start", "corrected:201:start_after_end"]
    (call,) = out.sessions
    assert (call.status, call.started_at_source, call.span_s) == (Status.ENDED, StartedAtSource.REPORTED, 60)
    changed = out.events[1].changed  # type: ignore[union-attr]
    assert set(changed) == {"started_at", "started_at_source", "span_s"}
    assert changed["started_at_source"].before == "derived"


def test_the_same_start_and_the_same_end_again_are_nothing() -> None:
    log = Log().webhook(1, start()).webhook(2, start()).webhook(61, end()).webhook(62, end()).webhook(63, start())
    out = run(log.records)
    assert out.told == ["started:201:started", "ended:201:end_matched_by_party"]
    assert sum(batch.counts["repeats", "start"] + batch.counts["repeats", "end"] for batch in out.batches) == 3


def test_without_reported_times_an_identical_body_is_a_repeat_only_within_a_minute() -> None:
    quick = Log().webhook(1, start(t=None)).webhook(60, start(t=None))
    assert run(quick.records).told == ["started:201:started"]
    slow = Log().webhook(1, start(t=None)).webhook(62, start(t=None))
    assert run(slow.records).told == ["started:201:started", "started:201:started"]


def test_a_record_forwarded_twice_is_nothing_and_counted() -> None:
    log = Log().webhook(1, start()).webhook(61, end())
    again = [record for record in log.records if record.value]
    out = run([*log.records, *again])
    assert len(out.events) == 2
    assert sum(batch.counts["repeats", "sequence"] for batch in out.batches) == 2


def test_an_end_again_with_a_recording_corrects() -> None:
    log = Log().webhook(1, start()).webhook(61, end(callId="7")).webhook(90, end(callId="7", wav="https://pbx/7.wav"))
    out = run(log.records)
    assert out.told[-1] == "corrected:201:more_detail"
    assert out.sessions[0].recording_url == "https://pbx/7.wav"
    assert len(out.sessions) == 1


@pytest.mark.parametrize("restored", [False, True])
def test_what_an_end_tells_again_distinguishes_it_from_the_next_end_though_it_shows_nothing_new(
    restored: bool,  # noqa: FBT001 - pytest names it
) -> None:
    """`make chaos`, seed 2008: two calls of one party that ended in the same second."""
    log = Log().webhook(1, start(t=0)).webhook(61, end(duration=None))
    log.webhook(62, end(duration=None, startTime=zulu(at(0))))
    log.webhook(63, end(duration=None, startTime=zulu(at(40)), wav="https://pbx/1.wav"))
    task = new_task()
    before = run(log.records[:-1], task)
    assert before.told == ["started:201:started", "ended:201:end_matched_by_party"]
    if restored:
        task = new_task()
        for key, value in folded(before.batches).items():
            task.restore(key, value)
        task.restored()
    assert run(log.records[-1:], task).told == ["ended:201:end_without_start"]


def test_a_recording_that_comes_later_without_times_is_found_by_the_call_id() -> None:
    late = end(callId="7", wav="https://pbx/7.wav", t=None, duration=None)
    out = run(Log().webhook(61, end(callId="7")).webhook(90, late).records)
    assert out.told == ["ended:201:end_without_start", "corrected:201:more_detail"]


def test_a_start_without_an_end_is_missed_at_the_ceiling_without_a_duration() -> None:
    out = run(Log().webhook(1, start(t=0)).ticks_until(4 * HOUR + 2).records)
    assert out.told == ["started:201:started", "end_missed:201:timeout"]
    (call,) = out.sessions
    assert (call.ended_at, call.duration_s, call.span_s) == (None, None, None)
    assert call.ended_between is not None
    assert (call.ended_between.earliest, call.ended_between.latest) == (at(0), None)
    assert out.events[1].time == at(1), "the tick is no cause"
    assert [cause.offset for cause in out.events[1].causes] == [1]


def test_a_call_is_not_missed_before_the_ceiling() -> None:
    assert run(Log().webhook(1, start(t=0)).ticks_until(4 * HOUR).records).told == ["started:201:started"]


def test_a_newer_call_of_the_agent_supersedes_after_the_grace() -> None:
    log = Log().webhook(1, start(t=0)).webhook(101, start(party=Y, t=100))
    assert len(run(log.records).told) == 2, "call waiting is possible: not at once"
    out = run(log.ticks_until(1100).records)
    assert out.told[2:] == ["end_missed:201:superseded"]
    old = out.sessions[0]
    assert old.ended_between is not None
    assert (old.ended_between.earliest, old.ended_between.latest) == (at(0), at(100))
    assert out.sessions[1].status is Status.OPEN
    assert len(out.events[2].causes) == 2


def test_a_shared_extension_and_the_empty_agent_are_never_superseded() -> None:
    pbxs = {DEFAULT_PBX: Pbx(shared_extensions=frozenset({"800"}))}
    for agent in ("800", None):
        log = Log().webhook(1, start(agent, t=0)).webhook(2, start(agent, party=Y, t=1)).ticks_until(2000)
        assert len(run(log.records, new_task(pbxs=pbxs)).events) == 2


def test_a_party_that_starts_with_another_agent_has_moved() -> None:
    out = run(Log().webhook(1, start("201", t=0)).webhook(31, start("202", t=30)).records)
    assert out.told == ["started:201:started", "started:202:started", "end_missed:201:moved"]
    earlier = out.sessions[0]
    assert earlier.ended_between is not None
    assert (earlier.ended_between.earliest, earlier.ended_between.latest) == (at(0), at(30))


def test_the_legs_of_a_transfer_are_linked_whichever_came_first() -> None:
    first, second = start("201", t=0), start("202", t=30)
    for log in (Log().webhook(31, first).webhook(31, second), Log().webhook(31, second).webhook(32, first)):
        sessions = {call.agent.extension: call for call in run(log.records).sessions}
        assert sessions["201"].linked_session_id == sessions["202"].session_id
        assert sessions["202"].linked_session_id is None
        corrected = run(log.webhook(33, end("201", t=29, duration=28)).records).sessions
        assert {call.agent.extension: call for call in corrected}["201"].linked_session_id is not None


def test_a_repeat_without_the_number_is_still_a_repeat() -> None:
    silent_end, silent_start = end(party=None), start(party=None)
    log = Log().webhook(1, start()).webhook(61, silent_end).webhook(62, silent_end)
    assert run(log.records).told == ["started:201:started", "ended:201:end_matched_withheld"]
    log = Log().webhook(1, silent_start).webhook(61, end()).webhook(62, silent_start)
    assert run(log.records).told == ["started:201:started", "ended:201:end_matched_withheld"]


def test_a_leg_whose_party_left_is_linked_to_the_one_that_ended() -> None:
    before, late = start("203", t=31), start("203", t=31)
    log = Log().webhook(1, start("202", t=40)).webhook(2, before).webhook(61, end("202", t=60, duration=15))
    for one in (log, Log().webhook(61, end("202", t=60, duration=15)).webhook(62, late)):
        sessions = {call.agent.extension: call for call in run(one.records).sessions}
        assert sessions["203"].status is Status.END_MISSED
        assert sessions["203"].linked_session_id == sessions["202"].session_id


def test_a_leg_that_arrives_late_but_began_earlier_is_the_one_that_moved() -> None:
    out = run(Log().webhook(31, start("202", t=30)).webhook(32, start("201", t=0)).records)
    assert out.told[-1] == "end_missed:201:moved"


def test_ring_all_with_one_end_leaves_nobody_busy() -> None:
    log = Log().webhook(1, start("201", t=0)).webhook(1, start("202", t=0)).webhook(1, start("203", t=0))
    out = run(log.webhook(61, end("201", t=60, duration=55)).records)
    assert {call.agent.extension: call.status for call in out.sessions} == {
        "201": Status.ENDED,
        "202": Status.END_MISSED,
        "203": Status.END_MISSED,
    }
    assert out.told[-2:] == ["corrected:201:true_end", "end_missed:203:party_left"]
    assert [call.duration_s for call in out.sessions] == [55, None, None]


def test_internal_and_withheld_parties_trigger_nothing_across_agents() -> None:
    for more in ({"direction": "Internal"}, {"party": "anonymous"}, {"direction": "sideways"}):
        log = Log().webhook(1, start("201", **more)).webhook(2, start("202", **more))  # type: ignore[arg-type]
        assert [call.status for call in run(log.records).sessions] == [Status.OPEN, Status.OPEN]


def test_the_true_end_corrects_whatever_was_inferred() -> None:
    moved = (
        Log().webhook(1, start("201", t=0)).webhook(31, start("202", t=30)).webhook(33, end("201", t=29, duration=28))
    )
    timed_out = Log().webhook(1, start("201", t=0)).ticks_until(4 * HOUR + 10)
    timed_out.webhook(5 * HOUR, end("201", t=5 * HOUR, duration=5 * HOUR - 9))
    superseded = Log().webhook(1, start("201", t=0)).webhook(101, start("201", party=Y, t=100)).ticks_until(1100)
    superseded.webhook(1101, end("201", t=1100, duration=1090))
    for log in (moved, timed_out, superseded):
        out = run(log.records)
        assert out.told[-1] == "corrected:201:true_end"
        call = next(one for one in out.sessions if one.agent.extension == "201" and one.caller == X)
        assert (call.status, call.ended_between) == (Status.ENDED, None)
        assert call.duration_s is not None
        assert out.events[-1].changed["status"].before == "end_missed"  # type: ignore[union-attr]


def test_two_calls_at_once_are_two_sessions_and_an_end_closes_its_own() -> None:
    log = Log().webhook(1, start(t=0)).webhook(11, start(party=Y, t=10)).webhook(41, end(party=Y, t=40, duration=28))
    by_party = {call.caller: call.status for call in run(log.records).sessions}
    assert by_party == {X: Status.OPEN, Y: Status.ENDED}


def test_a_missed_call_while_on_another_leaves_the_other_open() -> None:
    for party in (Y, "anonymous"):
        log = Log().webhook(1, start(t=0))
        log.webhook(31, end(party=party, t=30, duration=0, direction="Missed"))
        out = run(log.records)
        assert [call.status for call in out.sessions] == [Status.OPEN, Status.ENDED]
        assert out.sessions[1].outcome is Outcome.MISSED


@pytest.mark.parametrize("first", [0, 1])
def test_redial_within_seconds_pairs_ends_in_either_order(first: int) -> None:
    ends = [end(t=20, duration=15), end(t=60, duration=25)]
    log = Log().webhook(1, start(t=0)).webhook(31, start(t=30))
    log.webhook(61, ends[first]).webhook(62, ends[1 - first])
    calls = run(log.records).sessions
    assert [(call.started_at, call.ended_at) for call in calls] == [(at(0), at(20)), (at(30), at(60))]


def test_number_formats_and_did_may_differ_between_start_and_end() -> None:
    for spelling in ("0041225551234", "41225551234", "225551234", '"Anna" <+41 22 555 12 34>', "tel:+41-22-555-1234"):
        log = Log().webhook(1, start(t=0)).webhook(61, end(party=spelling, callee="201"))
        assert len(run(log.records).sessions) == 1, spelling


def test_a_withheld_number_matches_only_when_one_start_is_in_the_window() -> None:
    one = Log().webhook(1, start(party="anonymous")).webhook(61, end(party=None))
    assert run(one.records).told[-1] == "ended:201:end_matched_withheld"
    two = Log().webhook(1, start(party="anonymous")).webhook(2, start(party=Y, t=1)).webhook(61, end(party=None))
    assert run(two.records).told[-1] == "ended:201:end_without_start"


def test_a_contradicting_party_outranks_an_equal_call_id() -> None:
    log = Log().webhook(1, start(callId="5")).webhook(61, end(party=Y, callId="5"))
    assert [call.status for call in run(log.records).sessions] == [Status.OPEN, Status.ENDED]


def test_different_call_ids_are_different_calls() -> None:
    log = Log().webhook(1, start(callId="5")).webhook(61, end(callId="6"))
    assert len(run(log.records).sessions) == 2


def test_the_window_reaches_from_ring_max_before_to_the_tolerance_after() -> None:
    rules = Rules(ring_max_s=100, tolerance_s=10)
    for began, matched in ((-101, False), (-100, True), (10, True), (11, False)):
        log = Log().webhook(200, start(t=began)).webhook(201, end(t=60, duration=60))
        assert (len(run(log.records, new_task(rules)).sessions) == 1) is matched, began


def test_an_unknown_direction_takes_the_known_one_or_needs_both_parties() -> None:
    log = Log().webhook(1, start(direction=None)).webhook(61, end(callee="other"))
    assert len(run(log.records).sessions) == 1, "the end's direction applies: the caller decides"
    log = Log().webhook(1, start(direction=None)).webhook(61, end(direction=None, callee="+41225550000"))
    assert len(run(log.records).sessions) == 2, "neither says: both must agree"


def test_an_event_with_only_an_email_belongs_to_the_extension_last_seen_with_it() -> None:
    log = Log().webhook(1, start(agentMail="Ann@x.ch")).webhook(61, end(None, agentMail="ann@X.ch"))
    (call,) = run(log.records).sessions
    assert (call.status, call.agent.extension) == (Status.ENDED, "201")


def test_an_email_seen_first_alone_is_the_same_agent_later() -> None:
    log = Log().webhook(1, start(None, agentMail="ann@x.ch")).webhook(61, end("201", agentMail="ann@x.ch"))
    (call,) = run(log.records).sessions
    assert (call.status, call.agent.extension) == (Status.ENDED, "201")


def test_nothing_ends_because_ingest_was_away() -> None:
    log = Log().webhook(1, start(t=0)).ticks_until(60).silence(60 + 6 * HOUR).ticks_until(60 + 6 * HOUR + 600)
    out = run(log.records)
    assert out.told == ["started:201:started"]
    assert sum(batch.counts["clock_alarms", "gap"] for batch in out.batches) == 1
    again = run(log.ticks_until(11 * HOUR).records)
    assert again.told[-1] == "end_missed:201:timeout", "and once ingest was there for four hours, it does"


def test_a_wrong_clock_neither_expires_nor_stops_anything() -> None:
    log = Log().webhook(1, start(t=0)).ticks_until(10)
    log.tick(10 + 10 * 365 * 24 * HOUR).tick(-5 * HOUR)
    log.ticks_until(3 * HOUR)
    assert run(log.records).told == ["started:201:started"]
    assert run(log.ticks_until(4 * HOUR + 60).records).told[-1] == "end_missed:201:timeout"


def test_a_future_dated_webhook_expires_nobody() -> None:
    log = Log().webhook(1, start(t=0)).webhook(2, start("202", party=Y, t=400 * 24 * HOUR)).ticks_until(60)
    assert all(call.status is Status.OPEN for call in run(log.records).sessions)


def test_what_cannot_be_read_is_a_dead_letter_with_its_reason_and_the_next_goes_on() -> None:
    log = Log().webhook(1, b"\xff\xfenonsense").webhook(2, start())
    out = run(log.records)
    (letter,) = [letter for batch in out.batches for letter in batch.dead_letters]
    said = dict(letter.headers)
    assert letter.value == b"\xff\xfenonsense"
    assert said["dead_letter_reason"] == b"the body is neither a JSON object nor form fields"
    assert said["dead_letter_origin"] == b"threecx.webhooks"
    assert out.told == ["started:201:started"]


def test_closed_calls_leave_the_state_with_tombstones_and_late_evidence_is_a_new_fact() -> None:
    log = Log().webhook(1, start(t=0)).webhook(61, end()).ticks_until(70)
    rules = Rules(closed_kept_s=300)
    out = run(log.ticks_until(500).webhook(501, end()).records, new_task(rules))
    assert out.told == ["started:201:started", "ended:201:end_matched_by_party", "ended:201:end_without_start"]
    assert any(value is None for batch in out.batches for value in batch.changelog.values())


def test_progress_comes_once_a_live_second_and_names_the_last_webhook() -> None:
    out = run(Log().webhook(1, start(t=0)).ticks_until(10).records)
    assert [one.live_time_us // 1_000_000 for one in out.progress] == list(range(1, 10))
    assert out.progress[-1].received_at == {DEFAULT_PBX: at(1)}
    assert out.progress[-1].stream_time == at(10)


def test_a_pbx_clock_minutes_off_still_pairs() -> None:
    for skew in (-300, 300):
        log = Log().webhook(400, start(t=400 + skew)).webhook(460, end(t=460 + skew, duration=55))
        (call,) = run(log.records).sessions
        assert call.span_s == 60


def test_a_call_across_midnight_and_daylight_saving_keeps_its_span() -> None:
    pbxs = {DEFAULT_PBX: Pbx(timezone="Europe/Zurich")}
    log = Log()
    shift = (at(0).replace(month=10, day=25, hour=0) - at(0)) / timedelta(seconds=1)
    log.now_s = shift
    log.webhook(shift + 1, start(t=None, startTime="25.10.2026 02:00:00"))
    log.webhook(shift + 3601, end(t=None, endUtc="25.10.2026 02:00:00", duration=3590, caller=X, callee=DID))
    (call,) = run(log.records, new_task(pbxs=pbxs)).sessions
    assert call.span_s == 3600


def test_a_ring_that_nobody_took_supersedes_nothing() -> None:
    log = Log().webhook(1, start(t=0)).webhook(101, start(party=Y, t=100))
    log.webhook(121, end(party=Y, t=120, duration=None, direction="Missed")).ticks_until(2000)
    by_party = {call.caller: call.status for call in run(log.records).sessions}
    assert by_party == {X: Status.OPEN, Y: Status.ENDED}


def test_after_a_missed_ring_the_grace_runs_from_the_next_call() -> None:
    log = Log().webhook(1, start(t=0)).webhook(101, start(party=Y, t=100)).webhook(111, start(party=Z, t=110))
    log.webhook(121, end(party=Y, t=120, duration=None, direction="Missed"))
    assert "end_missed:201:superseded" not in run(log.ticks_until(1009).records).told
    out = run(log.ticks_until(1012).records)
    assert out.told[-1] == "end_missed:201:superseded"
    between = next(call.ended_between for call in out.sessions if call.caller == X)
    assert between is not None
    assert between.latest == at(110)


def test_an_agent_known_by_the_email_alone_is_superseded_too() -> None:
    log = Log().webhook(1, start(None, t=0, agentMail="ann@x.ch"))
    log.webhook(101, start(None, party=Y, t=100, agentMail="ann@x.ch")).ticks_until(1100)
    assert run(log.records).told[-1] == "end_missed:None:superseded"


def test_ring_all_that_nobody_took_leaves_nobody_busy_after_its_one_end() -> None:
    log = Log().webhook(1, start("201", t=0)).webhook(1, start("202", t=0)).webhook(1, start("203", t=0))
    out = run(log.webhook(61, end("201", t=60, duration=None, direction="Missed")).records)
    assert Status.OPEN not in {call.status for call in out.sessions}
    assert out.told[-1] == "end_missed:203:party_left"


def test_an_end_whose_direction_is_only_known_from_its_start_shows_that_the_party_left() -> None:
    log = Log().webhook(1, start("202", t=0)).webhook(2, start("201", t=1)).webhook(3, start("203", t=2))
    out = run(log.webhook(61, end("201", t=60, duration=55, direction=None)).records)
    assert Status.OPEN not in {call.status for call in out.sessions}


def test_a_start_that_comes_after_its_end_contradicts_others_as_if_it_had_come_in_time() -> None:
    log = Log().webhook(1, start("202", t=0)).webhook(2, start("201", party=Y, t=1))
    log.webhook(61, end("201", t=60, duration=50, direction=None, callee=None)).webhook(62, start("201", t=9))
    out = run(log.ticks_until(1100).records)
    assert "corrected:201:start_after_end" in out.told
    assert "end_missed:202:moved" in out.told
    assert "end_missed:201:superseded" in out.told


def test_where_only_a_withheld_number_could_tell_the_open_call_comes_before_the_inferred_one() -> None:
    log = Log().webhook(1, start(t=0)).webhook(101, start(party="anonymous", t=100)).ticks_until(1100)
    out = run(log.webhook(1201, end(party="anonymous", t=1200, duration=1095)).records)
    assert out.told[-1] == "ended:201:end_matched_withheld"


def test_a_withheld_missed_end_takes_only_a_withheld_start() -> None:
    missed = end(party="anonymous", t=30, duration=None, direction="Missed")
    known = run(Log().webhook(1, start(t=0)).webhook(31, missed).records)
    assert [call.status for call in known.sessions] == [Status.OPEN, Status.ENDED]
    withheld = run(Log().webhook(1, start(party="anonymous", t=0)).webhook(31, missed).records)
    assert [call.status for call in withheld.sessions] == [Status.ENDED]


def test_a_recording_alone_belongs_to_the_call_of_that_party_that_ended_last() -> None:
    alone = end(t=None, duration=None, wav="https://pbx/1.wav")
    log = Log().webhook(1, start(t=0)).webhook(61, end()).webhook(62, start(party=Y, t=61)).webhook(70, alone)
    out = run(log.records)
    assert out.told[-1] == "corrected:201:more_detail"
    assert [call.recording_url for call in out.sessions] == ["https://pbx/1.wav", None]
    assert len(run(log.webhook(200, alone).records).events) == len(out.events), "once it is known it is a repeat"


RECORDING = end(t=None, duration=None, wav="https://pbx/1.wav")


def test_a_recording_alone_ends_no_redial_when_the_call_before_it_was_told_to_have_ended() -> None:
    log = Log().webhook(1, start(t=0)).webhook(61, end()).webhook(64, start(t=64)).webhook(70, RECORDING)
    out = run(log.webhook(71, RECORDING | {"plugin": "again"}).records)
    assert [(call.status, call.recording_url) for call in out.sessions] == [
        (Status.ENDED, "https://pbx/1.wav"),
        (Status.OPEN, None),
    ]
    (_, redial) = run(log.webhook(200, end(t=199, duration=130)).records).sessions
    assert (redial.started_at, redial.ended_at, redial.duration_s) == (at(64), at(199), 130)


def test_a_recording_alone_is_of_no_missed_call_while_the_next_one_is_open() -> None:
    log = Log().webhook(1, start(t=0)).webhook(21, end(t=20, duration=None, direction="Missed"))
    log.webhook(41, start(t=40)).webhook(101, RECORDING)
    missed, taken = run(log.webhook(102, end(t=100, duration=55)).records).sessions
    assert (missed.outcome, missed.recording_url) == (Outcome.MISSED, None)
    assert (taken.ended_at, taken.duration_s, taken.recording_url) == (at(100), 55, "https://pbx/1.wav")


def test_a_recording_with_the_id_of_the_redial_is_of_that_one() -> None:
    log = Log().webhook(1, start(t=0)).webhook(61, end()).webhook(64, start(t=64, callId="7"))
    out = run(log.webhook(70, RECORDING | {"callId": "7"}).records)
    assert [call.recording_url for call in out.sessions] == [None, "https://pbx/1.wav"]


@pytest.mark.parametrize("starts", [True, False])
def test_a_recording_that_overtakes_its_end_is_the_same_call(starts: bool) -> None:  # noqa: FBT001 - pytest names it
    log = Log()
    if starts:
        log.webhook(1, start(t=0))
    log.webhook(60, RECORDING).webhook(61, end(t=60, duration=55)).webhook(62, end(t=60, duration=55))
    out = run(log.webhook(63, RECORDING).records)
    assert out.told[-1] == "corrected:201:more_detail"
    (call,) = out.sessions
    assert (call.ended_at, call.ended_at_source, call.duration_s) == (at(60), EndedAtSource.REPORTED, 55)
    assert call.recording_url == "https://pbx/1.wav"


def test_an_end_long_after_a_recording_that_came_alone_is_another_calls() -> None:
    log = Log().webhook(60, RECORDING).webhook(121, end(t=120, duration=55))
    assert len(run(log.records).sessions) == 2


def test_an_end_without_a_duration_takes_the_latest_start_before_it() -> None:
    log = Log().webhook(1, start(t=0)).webhook(31, start(t=30)).webhook(70, end(t=60, duration=None))
    assert [call.status for call in run(log.records).sessions] == [Status.OPEN, Status.ENDED]


@pytest.mark.parametrize("duration", [None, 0, 12])
def test_a_missed_call_and_the_next_without_a_time_within_the_tolerance_are_two_calls(duration: int | None) -> None:
    out = run(Log().webhook(31, end(t=30, duration=duration, direction="Missed")).webhook(60, start(t=None)).records)
    assert [call.status for call in out.sessions] == [Status.ENDED, Status.OPEN]


def test_a_start_that_was_received_before_its_missed_end_is_its_start_whatever_the_clocks_say() -> None:
    log = Log().webhook(31, start(t=None)).webhook(32, end(t=1, duration=0, direction="Missed"))
    assert [call.status for call in run(log.records).sessions] == [Status.ENDED]
