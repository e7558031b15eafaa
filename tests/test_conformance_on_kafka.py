"""The conformance kit on a real broker: the published examples hold; consumers with a planted bug fail by its rule."""

import sys
from pathlib import Path

import pytest

from conformance.judging import judged
from conformance.rules import Rule
from conformance.running import run
from conformance.stream import SESSIONS, stream
from deploy.local.broker import resolve_jars, say_on_stderr
from events.kafka import KafkaSettings
from events.session import Direction, Outcome, Status
from events.settings import ConfigurationError

EXAMPLES = Path(__file__).parent.parent / "examples"
PYTHON = EXAMPLES / "call_sessions.py"
PLANTED = {
    Rule.COMMITTED_ONLY: [('"read_committed"', '"read_uncommitted"')],
    Rule.HIGHEST_REVISION: [('session["revision"] > held["revision"]', "True")],
    Rule.REPEATS: [  # it counts events, not sessions
        ("SESSION_EVENTS =", "COUNTED = []\nSESSION_EVENTS ="),
        ("    session = json.loads", "    COUNTED.append(kind)\n    session = json.loads"),
        ('"sessions": len(sessions)', '"sessions": len(COUNTED)'),
    ],
    Rule.VALUES: [("    held = ", '    session["caller"] = session["caller"] or "anonymous"\n    held = ')],
    Rule.UNKNOWN_FIELDS: [  # it crashes
        ("    held = ", '    assert session["end_reason"] in {None, "released", "timeout"}\n    held = ')
    ],
    Rule.UNKNOWN_TYPES: [  # it crashes
        ("return  # a type of the future: skipped", "assert kind == b'threecx.feed.progress'; return")
    ],
}


@pytest.fixture
def given(bootstrap_servers: str) -> KafkaSettings:
    return KafkaSettings(kafka_bootstrap_servers=bootstrap_servers)


def command(language: str) -> list[str]:
    match language:
        case "python":
            return [sys.executable, str(PYTHON)]
        case "kcat":
            return ["bash", str(EXAMPLES / "call_sessions.sh")]
        case _:
            return ["java", "-cp", f"{resolve_jars(say_on_stderr)}/*", str(EXAMPLES / "CallSessions.java")]


@pytest.mark.parametrize("language", ["python", "kcat", "java"])
async def test_the_published_examples_conform(language: str, given: KafkaSettings) -> None:
    verdict = await run(given, [*command(language), "{servers}", "{topic}"], 5, SESSIONS, 60)
    assert verdict.passed, "\n".join(verdict.lines())
    assert {"revision", "duration_s", "agent", "started_at"} <= verdict.compared


@pytest.mark.parametrize("rule", PLANTED)
async def test_a_consumer_with_a_planted_bug_fails_by_the_rule_of_its_bug(
    rule: Rule, given: KafkaSettings, tmp_path: Path
) -> None:
    text = PYTHON.read_text("utf-8")
    wrong = text
    for right, planted in PLANTED[rule]:
        assert right in wrong
        wrong = wrong.replace(right, planted)
    (tmp_path / "planted.py").write_text(wrong, "utf-8")
    verdict = await run(given, [sys.executable, str(tmp_path / "planted.py"), "{servers}", "{topic}"], 5, SESSIONS, 60)
    assert set(verdict.wrong) == {rule}, "\n".join(verdict.lines())


def test_nothing_at_all_is_wrong_by_every_rule_that_has_sessions() -> None:
    assert set(judged([], stream(1)).wrong) == set(Rule)


def test_a_stream_shows_every_direction_every_outcome_and_null_wherever_it_may_be() -> None:
    told = [event.session for event in stream(1).events]
    assert {one.direction for one in told} == set(Direction)
    assert {one.outcome for one in told} == set(Outcome)
    assert {one.status for one in told} == set(Status)
    nullable = "caller", "caller_e164", "callee", "callee_e164", "started_at", "ended_at", "end_reason", "duration_s"
    for name in nullable:
        assert None in {getattr(one, name) for one in told}, name
    assert {(one.agent.extension is None, one.agent.email is None) for one in told} >= {(True, False), (True, True)}


def test_too_few_sessions_for_every_rule_are_an_error() -> None:
    with pytest.raises(ConfigurationError, match="10 are the least"):
        stream(1, 9)
    assert set(stream(1, 10).rule_of.values()) == set(Rule)


def test_the_same_seed_is_the_same_stream() -> None:
    assert stream(4).transactions == stream(4).transactions
    assert stream(4).transactions != stream(5).transactions
