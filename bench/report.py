"""The table of ratios."""

from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Line:
    """One figure: ours, what it is compared with (null: nothing), and the median of the pair ratios."""

    what: str
    ours: str
    bare: str
    ratio: str


def compared(what: str, unit: str, pairs: list[tuple[float, float]]) -> Line:
    """A line for pairs of (ours, bare), measured in turn."""
    ratio = median(ours / bare for ours, bare in pairs)
    ours, bare = median(pair[0] for pair in pairs), median(pair[1] for pair in pairs)
    return Line(what, f"{ours:,.0f} {unit}", f"{bare:,.0f} {unit}", f"{ratio:.2f}")


def shown(lines: list[Line]) -> str:
    """The table, as Markdown."""
    rows = [("what", "Callstream", "bare", "ratio"), *((one.what, one.ours, one.bare, one.ratio) for one in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    text = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(text)
