"""Targets: what a supervisor wants of a figure, for every PBX or for one; a setting, shown on the wallboard. Pure."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from projections.figures import FIGURES

_TARGET: Final = re.compile(
    r"(?:(?P<pbx>[a-z0-9][a-z0-9._-]*):)?(?P<figure>[a-z_]+)\s*(?P<bound><=|>=)\s*(?P<value>\S+)"
)
NAMES: Final = tuple(figure.name for figure in FIGURES)


@dataclass(frozen=True, slots=True)
class Target:
    """A figure is to be at most (`is_ceiling`) or at least `value`, in the figure's own unit."""

    value: float
    is_ceiling: bool


Targets = Mapping[tuple[str | None, str], Target]
"""By PBX (null: every one that has no target of its own) and figure."""


def targets_of(text: str) -> Targets:
    """The targets in ``missed<=10, geneva:average_handling_s<=300``; raises ValueError with what to write."""
    found: dict[tuple[str | None, str], Target] = {}
    for word in filter(None, (one.strip() for one in text.split(","))):
        read = _TARGET.fullmatch(word)
        if read is None or read["figure"] not in NAMES:
            raise ValueError(f"{word!r}: a target is [PBX:]FIGURE<=NUMBER or >=; figures: {', '.join(NAMES)}")
        key = read["pbx"], read["figure"]
        if key in found:
            raise ValueError(f"{word!r}: this figure has a target already; keep one")
        found[key] = Target(_value(read["value"], word), read["bound"] == "<=")
    return found


def told(targets: Targets, pbx: str | None) -> dict[str, dict[str, float]]:
    """The targets of a PBX's figures (null: those of every PBX): ``{"missed": {"at_most": 10}}``."""
    found: dict[str, dict[str, float]] = {}
    for name in NAMES:
        target = targets.get((pbx, name), targets.get((None, name)))
        if target is not None:
            found[name] = {"at_most" if target.is_ceiling else "at_least": target.value}
    return found


def _value(text: str, word: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{word!r}: the bound is a number of 0 or more, a share between 0 and 1")
    return value
