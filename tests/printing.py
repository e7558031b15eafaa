"""Printing moments as .NET does in a culture: by CLDR's patterns, and by a grammar that goes beyond them.

``corpus/cultures.json``: a locale, its short date, a time, its words for the halves of the day, once per combination;
from Unicode CLDR (as in Babel 2.18; licence Unicode-3.0).
"""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from hypothesis import strategies as st

Half = Literal["none", "am-pm", "unknown"]


@dataclass(frozen=True)
class Culture:
    """A way to print: a pattern in CLDR's letters, the words for the halves of the day, and what it leaves out."""

    pattern: str
    before_noon: str = "AM"
    after_noon: str = "PM"
    half: Half = "none"
    order: str = "ymd"

    def print(self, local: datetime) -> str:
        """The local time in this culture."""
        out, at = "", 0
        while at < len(self.pattern):
            letter = self.pattern[at]
            if letter == "'":
                end = self.pattern.index("'", at + 1)
                out, at = out + self.pattern[at + 1 : end], end + 1
                continue
            run = len(self.pattern[at:]) - len(self.pattern[at:].lstrip(letter)) if letter.isalpha() else 1
            out, at = out + self._part(letter * run, local), at + run
        return out

    def _part(self, part: str, local: datetime) -> str:
        width = len(part)
        numbers = {
            "y": local.year % 100 if width == 2 else local.year,
            "M": local.month,
            "d": local.day,
            "H": local.hour,
            "h": local.hour % 12 or 12,
            "m": local.minute,
            "s": local.second,
        }
        words = {
            "f": f"{local.microsecond * 10:07}"[:width],
            "a": self.before_noon if local.hour < 12 else self.after_noon,
            "z": _offset(local, part),
        }
        return f"{numbers[part[0]]:0{width}}" if part[0] in numbers else words.get(part[0], part)

    def cut(self, at: datetime) -> datetime:
        """The moment, as far as the culture prints it."""
        digits = min(self.pattern.count("f"), 6)
        at = at.replace(microsecond=at.microsecond // 10 ** (6 - digits) * 10 ** (6 - digits))
        return at if "s" in self.pattern.replace("'s'", "") else at.replace(second=0, microsecond=0)


def _offset(local: datetime, part: str) -> str:
    span = local.utcoffset() or timedelta()
    minutes = abs(span) // timedelta(minutes=1)
    sign = "-" if span < timedelta() else "+"
    return f"{sign}{minutes // 60:02}{':' if len(part) == 3 else ''}{minutes % 60:02}"


def cultures_of_cldr(path: Path) -> list[Culture]:
    """Every culture's short date with its short and its medium time, as .NET's default format joins them."""
    found = []
    for _, date, time, before, after in json.loads(path.read_text("utf-8")):
        letters = [letter for letter in date if letter in "yMd"]
        order = "".join(dict.fromkeys(letters)).lower()
        if order in {"dmy", "mdy", "ymd"}:  # year, day, month is read only where the day is beyond 12
            found.append(Culture(f"{date} {time}", before, after, "am-pm" if before else "none", order))
    return found


SEPARATORS = ("/", ".", "-", ". ", " ", "\u200f/", "\u2010", " / ")
CLOCK_SEPARATORS = (":", ".", "-", "'h'", " 'h' ")
JOINTS = (" ", "'T'", "  ", ", ", "\u00a0", "\u202f", "'T'")
HALVES = (("AM", "PM"), ("am", "pm"), ("a.m.", "p.m."), ("上午", "下午"), ("πμ", "μμ"), ("vorm.", "nachm."), ("ص", "م"))
UNKNOWN_HALVES = (("qaa", "qzz"),)


@st.composite
def grammar(draw: st.DrawFn, orders: tuple[str, ...] = ("dmy", "mdy", "ymd")) -> Culture:
    """A culture that may or may not exist: every order, separator, padding, clock, fraction and zone."""
    order = draw(st.sampled_from(orders))
    day, month = draw(st.sampled_from([("d", "M"), ("dd", "MM")]))
    year = draw(st.sampled_from(["yyyy", "yy"]))
    parts = {"d": day, "m": month, "y": year}
    date = draw(st.sampled_from(SEPARATORS)).join(parts[one] for one in order)
    date += draw(st.sampled_from(["", ".", "'年'"])) if order == "dmy" else ""
    half: Half = draw(st.sampled_from(["none", "am-pm", "unknown"]))
    hour = draw(st.sampled_from(["h", "hh"] if half != "none" else ["H", "HH"]))
    separator = draw(st.sampled_from(CLOCK_SEPARATORS))
    seconds = draw(st.booleans())
    clock = separator.join([hour, "mm", "ss"] if seconds else [hour, "mm"])
    if seconds and draw(st.booleans()):
        clock += draw(st.sampled_from([".", ","])) + "f" * draw(st.integers(1, 7))
    words = draw(st.sampled_from(UNKNOWN_HALVES if half == "unknown" else HALVES))
    if half != "none":
        clock = draw(st.sampled_from([f"{clock} a", f"{clock}\u202fa", f"a {clock}", f"a{clock}"]))
    # An offset settles all; it is printed after the time, in one of .NET's two forms.
    zone = draw(st.sampled_from(["", " zzz", "zzz", "zz"])) if half != "unknown" else ""
    joint = draw(st.sampled_from(JOINTS)) if not clock.startswith("a") else " "
    return Culture(date + joint + clock + zone, *words, half, order)
