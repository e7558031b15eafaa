"""What came out of a consumer, judged rule by rule. Pure.

One JSON object a line: ``{"session_id": "…", "revision": 2, …}`` for each session, once. Further fields that a session
has are compared, too (times as points in time); others are left alone. A last line ``{"summary": {"sessions": 120,
"talk_time_s": 4711}}``, if there is one, is compared with the sessions and the sum of their `duration_s`.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from conformance.rules import SAYS, Rule
from conformance.stream import Stream

SHOWN_MAX: Final = 3
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong, by rule; and which fields could be compared."""

    wrong: Mapping[Rule, list[str]]
    compared: frozenset[str] = frozenset()
    rules: frozenset[Rule] = frozenset(Rule)

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not any(self.wrong.values())

    def lines(self) -> Iterator[str]:
        """The verdict for people."""
        for rule in sorted(self.rules | {Rule.COMPLETE}, key=list(Rule).index):
            found = self.wrong.get(rule, [])
            yield f"{'FAIL' if found else 'ok  '}  {rule:<17} {SAYS[rule]}"
            yield from (f"        {one}" for one in found[:SHOWN_MAX])
            if len(found) > SHOWN_MAX:
                yield f"        and {len(found) - SHOWN_MAX} more"
        yield f"compared: {', '.join(sorted(self.compared)) or 'nothing'}"


@dataclass(slots=True)
class _Judge:
    stream: Stream
    wrong: dict[Rule, list[str]] = field(default_factory=dict)
    compared: set[str] = field(default_factory=set)
    rows: dict[str, Json] = field(default_factory=dict)
    told: Json = field(default_factory=dict)

    def complain(self, rule: Rule, what: str) -> None:
        self.wrong.setdefault(rule, []).append(what)

    def row(self, row: Json) -> None:
        if isinstance(row.get("summary"), dict):
            self.told = row["summary"]
            return
        identity = row.get("session_id")
        if not isinstance(identity, str):
            self.complain(Rule.PROGRESS, f"a row without a session_id: {_short(row)}")
        elif identity in self.rows:
            self.complain(Rule.REPEATS, f"{identity}: a second row")
        elif identity in self.stream.expected:
            self.rows[identity] = row
        else:
            rule = self.stream.rule_of.get(identity, Rule.COMPLETE)
            self.complain(rule, f"{identity}: there is no such session")

    def summary(self) -> None:
        told = self.told
        rows_are_wrong = bool(self.wrong)
        events = [event.session for event in self.stream.events]
        right = _summary([(one["duration_s"] or 0) for one in self.stream.expected.values()])
        by_event = _summary([one.duration_s or 0 for one in events])
        for name, value in right.items():
            if name in told:
                self.compared.add(f"summary.{name}")
                if told[name] != value:
                    rule = Rule.REPEATS if told[name] == by_event[name] else Rule.COMPLETE
                    if rule is Rule.COMPLETE and rows_are_wrong:
                        continue  # the sum of wrong rows
                    why = ", which counts every event" if rule is Rule.REPEATS else ""
                    self.complain(rule, f"summary: {name} {told[name]!r}, not {value!r}{why}")

    def sessions(self) -> None:
        for identity, session in self.stream.expected.items():
            row = self.rows.get(identity)
            rule = self.stream.rule_of[identity]
            if row is None:
                self.complain(rule, f"{identity}: is missing")
                continue
            known = {name for name in session if name in row} | {"revision"}
            self.compared |= known
            for name in sorted(known, key=lambda one: one != "revision"):
                if not _same(row.get(name), session[name]):
                    self.complain(rule, f"{identity}: {name} {_short(row.get(name))}, not {_short(session[name])}")
                    break


def judged(lines: Iterable[str], stream: Stream) -> Verdict:
    """The verdict; a line that is no JSON object counts against `complete`."""
    judge = _Judge(stream)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict):
            judge.row(row)
        else:
            judge.complain(Rule.COMPLETE, f"line {number} is no JSON object")
    judge.sessions()
    judge.summary()
    return Verdict(judge.wrong, frozenset(judge.compared), stream.rules)


def _summary(durations_s: list[int]) -> dict[str, int]:
    return {"sessions": len(durations_s), "talk_time_s": sum(durations_s)}


def _same(told: Any, right: Any) -> bool:
    if isinstance(right, dict):
        return isinstance(told, dict) and all(_same(told.get(name), value) for name, value in right.items())
    if told == right and isinstance(told, bool) == isinstance(right, bool):
        return True
    moment = _moment(right)
    return moment is not None and moment == _moment(told)


def _moment(value: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo is not None else None


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."  # noqa: PLR2004 - a line's width
