"""The design's table and the sequences that do happen (3cx.md, section 4), as tables of events and what they come to.

Given, one webhook a line: when it was received, what it is, agent, party, the time it reports, its duration; then more
fields. ``.`` is a field that was not sent. Times are seconds after the beginning. ``until 5000`` lets time pass.
``30 list 7:201:X 8:202:Y``: the PBX lists its active calls (id, agent, party), as a witness.
Then, one session a line: agent, party, how it stands, its duration, from when to when, and the rule that decided last.
"""

from datetime import datetime
from typing import Any, NamedTuple

import pytest

from events.pbx import DEFAULT_PBX, Pbx
from events.session import Session
from tests.builders import DID, T0, Log, X, Y, Z, end, new_task, run, start

PARTIES = {"X": X, "Y": Y, "Z": Z, "hidden": "anonymous", ".": None}
NAMES = {number: name for name, number in PARTIES.items()}
SHARED = {DEFAULT_PBX: Pbx(shared_extensions=frozenset(("800",)))}


class Scenario(NamedTuple):
    """What came, and what it must come to."""

    title: str
    given: str
    then: str


SCENARIOS = (
    Scenario("start, end", "1 start 201 X 0 | 61 end 201 X 60 55", "201 X ended 55 0-60 end_matched_by_party"),
    Scenario("end only", "61 end 201 X 60 55", "201 X ended 55 ~5-60 end_without_start"),
    Scenario("start only", "1 start 201 X 0 | until 20000", "201 X end_missed . 0-? timeout"),
    Scenario("end before start", "61 end 201 X 60 55 | 62 start 201 X 0", "201 X ended 55 0-60 start_after_end"),
    Scenario(
        "the same start twice", "1 start 201 X 0 | 5 start 201 X 0 | 61 end 201 X 60 55",
        "201 X ended 55 0-60 end_matched_by_party",
    ),
    Scenario(
        "the same end twice", "1 start 201 X 0 | 61 end 201 X 60 55 | 70 end 201 X 60 55",
        "201 X ended 55 0-60 end_matched_by_party",
    ),
    Scenario(
        "an end again with the recording", "1 start 201 X 0 | 61 end 201 X 60 55 | 90 end 201 X 60 55 wav=https://p/1.wav",
        "201 X ended 55 0-60 more_detail",
    ),
    Scenario(
        "redial within seconds, ends in order",
        "1 start 201 X 0 | 9 start 201 X 8 | 10 end 201 X 7 5 | 70 end 201 X 68 58",
        "201 X ended 5 0-7 end_matched_by_party | 201 X ended 58 8-68 end_matched_by_party",
    ),
    Scenario(
        "redial within seconds, ends in the other order",
        "1 start 201 X 0 | 9 start 201 X 8 | 70 end 201 X 68 58 | 71 end 201 X 7 5",
        "201 X ended 5 0-7 end_matched_by_party | 201 X ended 58 8-68 end_matched_by_party",
    ),
    Scenario(
        "number at start, extension at end", "1 start 201 X 0 callee=+41225555678 | 61 end 201 X 60 55 callee=201",
        "201 X ended 55 0-60 end_matched_by_party",
    ),
    Scenario(
        "number formats that differ", "1 start 201 X 0 | 61 end 201 0041225551234 60 55",
        "201 X ended 55 0-60 end_matched_by_party",
    ),
    Scenario(
        "e-mail in one and empty in the other",
        "1 start 201 X 0 agentMail=ann@x.ch | 61 end 201 X 60 55 agentMail=",
        "201 X ended 55 0-60 end_matched_by_party",
    ),
    Scenario(
        "an end that knows only the e-mail",
        "1 start 201 X 0 agentMail=ann@x.ch | 61 end . X 60 55 agentMail=Ann@x.ch",
        "201 X ended 55 0-60 end_matched_by_party",
    ),
    Scenario(
        "ring-all: starts for three, one end; nobody stays busy and only one has talk time",
        "1 start 201 X 0 | 1 start 202 X 0 | 1 start 203 X 0 | 61 end 201 X 60 55",
        "201 X ended 55 0-60 true_end | 202 X end_missed . 0-0 moved | 203 X end_missed . 0-60 party_left",
    ),
    Scenario(
        "ring-all that nobody took", "1 start 201 X 0 | 1 start 202 X 0 | 31 end 201 X 30 . direction=Missed",
        "201 X ended . 0-30 true_end | 202 X end_missed . 0-30 party_left",
    ),
    Scenario(
        "blind transfer", "1 start 201 X 0 | 31 start 202 X 30 | 91 end 202 X 90 55",
        "201 X end_missed . 0-30 moved | 202 X ended 55 30-90 end_matched_by_party",
    ),
    Scenario(
        "attended transfer: the first leg's end comes after all",
        "1 start 201 X 0 | 31 start 202 X 30 | 33 end 201 X 29 28 | 91 end 202 X 90 55",
        "201 X ended 28 0-29 true_end | 202 X ended 55 30-90 end_matched_by_party",
    ),
    Scenario(
        "there and back again", "1 start 201 X 0 | 31 start 202 X 30 | 61 start 201 X 60 | 91 end 201 X 90 28",
        "201 X end_missed . 0-30 moved | 202 X end_missed . 30-60 moved | 201 X ended 28 60-90 end_matched_by_party",
    ),
    Scenario(
        "the leg that came late", "31 start 202 X 30 | 91 end 202 X 90 55 | 95 start 201 X 0",
        "202 X ended 55 30-90 end_matched_by_party | 201 X end_missed . 0-30 moved",
    ),
    Scenario(
        "the same call through the same queue several times",
        "1 start 800 X 0 | 20 end 800 X 19 0 | 30 start 800 X 29 | 50 end 800 X 49 0",
        "800 X ended 0 0-19 end_matched_by_party | 800 X ended 0 29-49 end_matched_by_party",
    ),
    Scenario(
        "a call of 26 hours", "1 start 201 X 0 | until 90000 | 93601 end 201 X 93600 93590",
        "201 X ended 93590 0-93600 true_end",
    ),
    Scenario(
        "call waiting: an end closes its own",
        "1 start 201 X 0 | 31 start 201 Y 30 | 61 end 201 Y 60 28",
        "201 X open . 0-? started | 201 Y ended 28 30-60 end_matched_by_party",
    ),
    Scenario(
        "PBX restart: starts that never end, then new ones",
        "1 start 201 X 0 callId=1 | 2 start 202 Y 1 callId=2 | 600 start 201 Z 599 callId=1 | until 1600",
        "201 X end_missed . 0-599 superseded | 202 Y open . 1-? started | 201 Z open . 599-? started",
    ),
    Scenario(
        "a call id used again for another party",
        "1 start 201 X 0 callId=7 | 61 end 201 X 60 55 callId=7 |"
        " 100 start 201 Y 99 callId=7 | 161 end 201 Y 160 55 callId=7",
        "201 X ended 55 0-60 end_matched_by_call_id | 201 Y ended 55 99-160 end_matched_by_call_id",
    ),
    Scenario(
        "the PBX's clock two minutes ahead", "1 start 201 X 121 | 61 end 201 X 180 55",
        "201 X ended 55 121-180 end_matched_by_party",
    ),
    Scenario(
        "the PBX's clock three minutes behind", "200 start 201 X 20 | 260 end 201 X 80 55",
        "201 X ended 55 20-80 end_matched_by_party",
    ),
    Scenario(
        "missed call for an agent on another",
        "1 start 201 X 0 | 31 start 201 Y 30 | 41 end 201 Y 40 . direction=Missed | until 2000",
        "201 X open . 0-? started | 201 Y ended . 30-40 end_matched_by_party",
    ),
    Scenario(
        "a missed end without a start, while on another",
        "1 start 201 X 0 | 41 end 201 Y 40 . direction=Missed | until 2000",
        "201 X open . 0-? started | 201 Y ended . ?-40 not_taken",
    ),
    Scenario(
        "a queue's extension has many calls at once",
        "1 start 800 X 0 | 2 start 800 Y 1 | until 2000", "800 X open . 0-? started | 800 Y open . 1-? started",
    ),
    Scenario(
        "withheld: exactly one start is in the window",
        "1 start 201 hidden 0 | 61 end 201 hidden 60 55", "201 hidden ended 55 0-60 end_matched_withheld",
    ),
    Scenario(
        "withheld: two starts are, and neither is taken",
        "1 start 201 hidden 0 | 3 start 201 hidden 2 | 61 end 201 hidden 60 55",
        "201 hidden open . 0-? started | 201 hidden open . 2-? started | 201 hidden ended 55 ~5-60 end_without_start",
    ),
    Scenario(
        "minutes in the queue before the answer", "1 start 201 X 0 | 1801 end 201 X 1800 60",
        "201 X ended 60 0-1800 end_matched_by_party",
    ),
    Scenario(
        "ingest was away for six hours: nothing ends because of it",
        "1 start 201 X 0 | silence 21600 | 21601 start 202 Y 21600",
        "201 X open . 0-? started | 202 Y open . 21600-? started",
    ),
)  # fmt: skip


def log_of(given: str) -> Log:
    """The feed that the lines tell of."""
    log = Log()
    for line in given.split("|"):
        first, *rest = line.split()
        if first == "until":
            log.ticks_until(float(rest[0]))
        elif first == "silence":
            log.silence(float(rest[0]))
        elif rest[0] == "list":
            log.listing(float(first), *(active(*one.split(":")) for one in rest[1:]))
        else:
            log.webhook(float(first), body_of(*rest))
    return log


def active(identity: str, agent: str, party: str) -> tuple[str, str, str]:
    """A call in a list; the number stands behind the trunk's."""
    return identity, f"10000 {PARTIES.get(party, party)}", f"{agent} Agent"


def body_of(kind: str, agent: str, party: str, reported: str, *others: str) -> dict[str, Any]:
    """One webhook."""
    more: dict[str, Any] = {"callee": DID} | dict(other.split("=", 1) for other in others if "=" in other)
    who = (None if agent == "." else agent, PARTIES.get(party, party), None if reported == "." else float(reported))
    if kind == "start":
        return start(*who, **more)
    return end(*who, duration=None if others[0] == "." else int(others[0]), **more)


def shown(session: Session, reason: str) -> str:
    """The session as the tables have it; ``~``: derived, ``?``: not known."""
    between = session.ended_between
    began = _seconds(session.started_at)
    ended = _seconds(between.latest if between is not None else session.ended_at)
    derived = "~" if session.started_at_source == "derived" else ""
    duration = "." if session.duration_s is None else str(session.duration_s)
    who = f"{session.agent.extension} {NAMES.get(session.caller, session.caller)}"
    return f"{who} {session.status} {duration} {derived}{began}-{ended} {reason}"


def _seconds(moment: datetime | None) -> str:
    return "?" if moment is None else f"{(moment - T0).total_seconds():.0f}"


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario.title for scenario in SCENARIOS])
def test_it_comes_to_what_the_table_says(scenario: Scenario) -> None:
    out = run(log_of(scenario.given).records, new_task(pbxs=SHARED))
    last = {event.session_id: shown(event.session, event.reason) for event in out.events}
    assert list(last.values()) == [line.strip() for line in scenario.then.split("|")]
