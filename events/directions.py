"""Direction words in every spelling seen, and the outcomes that hide in them. Source: 3cx.md, section 1, fact 8."""

from events.session import Direction, Outcome

_INBOUND = ("inbound", "in", "incoming", "received", "hangupincoming", "entrant", "eingehend")
_OUTBOUND = ("outbound", "out", "outgoing", "dialed", "dialled", "sortant", "ausgehend")
_INTERNAL = ("internal", "local", "interne", "intern")
_MISSED = ("missed", "inboundmissed", "missedinbound", "abandoned")
_NOT_ANSWERED = ("notanswered", "unanswered", "noanswer", "outboundnotanswered", "outboundunanswered")

_WORDS: dict[str, tuple[Direction, Outcome]] = {
    **dict.fromkeys(_INBOUND, (Direction.INBOUND, Outcome.UNKNOWN)),
    **dict.fromkeys(_OUTBOUND, (Direction.OUTBOUND, Outcome.UNKNOWN)),
    **dict.fromkeys(_INTERNAL, (Direction.INTERNAL, Outcome.UNKNOWN)),
    **dict.fromkeys(_MISSED, (Direction.INBOUND, Outcome.MISSED)),
    **dict.fromkeys(_NOT_ANSWERED, (Direction.OUTBOUND, Outcome.NOT_ANSWERED)),
}


def read(word: str) -> tuple[Direction, Outcome] | None:
    """What the word says, or null when it is not known."""
    known = _WORDS.get(word)
    return known or _WORDS.get("".join(letter for letter in word.lower() if letter.isalpha()))
