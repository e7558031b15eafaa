"""The figures: each is defined here and nowhere else, with its meaning and the calls that it counts. Pure.

A figure is worked out from tallies (so many calls of a kind), and its rows are named in the words of the call filters
(``/api/v1/calls?…``), so that what a tile shows and what its link lists are the same calls by construction. API, event
stream, agents and Prometheus all use `figures_of`. Inferred ends are left out of averages unless asked for.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Final, NamedTuple
from urllib.parse import urlencode

Value = int | float | None
Rows = Mapping[str, str]
"""Calls, in the words of the call filters."""


class Tally(NamedTuple):
    """So many calls of one direction, outcome and status, with a reported duration or not, and their talk time."""

    direction: str
    outcome: str
    status: str
    has_duration: bool
    calls: int
    talk_s: int

    def word(self, name: str) -> str:
        """What the call filter `name` says of these calls."""
        match name:
            case "direction":
                return self.direction
            case "outcome":
                return self.outcome
            case "status":
                return self.status
            case "closed":
                return _said(self.status != "open")
            case "inferred":
                return _said(self.status == "end_missed")
            case "has_duration":
                return _said(self.has_duration)
            case _:
                raise KeyError(name)


class Kind(StrEnum):
    """How a figure is had from its calls."""

    COUNT = "count"
    TALK = "talk"
    MEAN = "mean"
    SHARE = "share"


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: of which calls (`rows`), how (`kind`), in what unit; a share is of the calls in `whole`."""

    name: str
    meaning: str
    unit: str
    kind: Kind
    rows: Rows
    whole: Rows | None = None

    def counted(self, *, include_inferred: bool) -> Rows:
        """The calls it counts; an average leaves inferred ends out unless they are asked for."""
        if self.kind is Kind.MEAN and not include_inferred:
            return {**self.rows, "inferred": "false"}
        return self.rows


FIGURES: Final = (
    Figure("calls", "Calls that began.", "calls", Kind.COUNT, {}),
    Figure("open", "Calls that go on, as far as is known.", "calls", Kind.COUNT, {"status": "open"}),
    Figure("answered", "Calls that somebody took.", "calls", Kind.COUNT, {"outcome": "answered"}),
    Figure("missed", "Inbound calls that nobody took.", "calls", Kind.COUNT, {"outcome": "missed"}),
    Figure("not_answered", "Outbound calls that nobody took.", "calls", Kind.COUNT, {"outcome": "not_answered"}),
    Figure("talk_s", "Talk time as reported, all calls together.", "s", Kind.TALK, {"has_duration": "true"}),
    Figure(
        "average_handling_s",
        "Mean talk time of the answered calls whose duration was reported.",
        "s",
        Kind.MEAN,
        {"outcome": "answered", "has_duration": "true"},
    ),
    Figure("inferred_ends", "Calls whose end nobody reported.", "calls", Kind.COUNT, {"inferred": "true"}),
    Figure(
        "inferred_share",
        "Part of the closed calls whose end nobody reported.",
        "share",
        Kind.SHARE,
        {"inferred": "true"},
        {"closed": "true"},
    ),
)


def figures_of(tallies: Iterable[Tally], *, include_inferred: bool = False) -> dict[str, Value]:
    """Every figure by its name; null where there is nothing to average or to be a part of."""
    calls, talk_s, wholes = [0] * len(FIGURES), [0] * len(FIGURES), [0] * len(FIGURES)
    for tally in tallies:
        counted, whole = _counting(tally.direction, tally.outcome, tally.status, tally.has_duration, include_inferred)
        for place in counted:
            calls[place] += tally.calls
            talk_s[place] += tally.talk_s
        for place in whole:
            wholes[place] += tally.calls
    return {name: value(*amounts) for (name, value), *amounts in zip(_VALUES, calls, talk_s, wholes, strict=True)}


def links_of(given: Rows, *, include_inferred: bool = False, as_of: str | None = None) -> dict[str, str | None]:
    """For each figure of the calls that `given` filters, where exactly its rows are listed; null: there can be none.

    `as_of`: of calls as they were known then.
    """
    then = {} if as_of is None else {"as_of": as_of}
    found: dict[str, str | None] = {}
    for figure in FIGURES:
        rows = figure.counted(include_inferred=include_inferred)
        contradicts = any(given.get(name, word) != word for name, word in rows.items())
        query = urlencode({**given, **rows, **then})
        found[figure.name] = None if contradicts else f"/api/v1/calls?{query}" if query else "/api/v1/calls"
    return found


@cache
def _counting(
    direction: str,
    outcome: str,
    status: str,
    has_duration: bool,  # noqa: FBT001 - a tally's own field
    include_inferred: bool,  # noqa: FBT001 - the caller's own switch
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The places in `FIGURES` of those that count such calls, and of those shares whose whole they are a part of."""
    kind = Tally(direction, outcome, status, has_duration, 1, 0)

    def matches(rows: Rows) -> bool:
        return all(kind.word(name) == word for name, word in rows.items())

    figures = list(enumerate(FIGURES))
    counted = tuple(place for place, one in figures if matches(one.counted(include_inferred=include_inferred)))
    return counted, tuple(place for place, one in figures if one.whole is not None and matches(one.whole))


_VALUE_OF: Final[Mapping[Kind, Callable[[int, int, int], Value]]] = {
    Kind.COUNT: lambda calls, _talk_s, _whole: calls,
    Kind.TALK: lambda _calls, talk_s, _whole: talk_s,
    Kind.MEAN: lambda calls, talk_s, _whole: round(talk_s / calls, 3) if calls else None,
    Kind.SHARE: lambda calls, _talk_s, whole: round(calls / whole, 6) if whole else None,
}
_VALUES: Final = tuple((figure.name, _VALUE_OF[figure.kind]) for figure in FIGURES)
"""How each figure is had from its calls, their talk time, and the calls of its whole."""


def _said(value: bool) -> str:  # noqa: FBT001 - the value itself, not a switch
    return "true" if value else "false"
