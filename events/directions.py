"""Direction words in every spelling seen, and the outcomes that hide in them. Source: 3cx.md, section 1, fact 8.

``hangupincoming`` is what one dialect names its *started* event (fact 13): it says inbound and nothing of an end.
"""

from typing import Final

from events.session import Direction, Outcome

_INBOUND = (
    "inbound in incoming received hangupincoming inboundcall incomingcall inboundanswered entrant eingehend entrante"
)
_OUTBOUND = "outbound out outgoing dialed dialled outboundcall outgoingcall outboundanswered sortant ausgehend saliente"
_INTERNAL = "internal local intercom extension internalcall interne intern interno"
_MISSED = "missed missedcall inboundmissed missedinbound inboundunanswered inboundnotanswered abandoned manqué verpasst"
_NOT_ANSWERED = "notanswered unanswered noanswer outboundnotanswered outboundunanswered outboundmissed"

_WORDS: Final[dict[str, tuple[Direction, Outcome]]] = {
    **dict.fromkeys(_INBOUND.split(), (Direction.INBOUND, Outcome.UNKNOWN)),
    **dict.fromkeys(_OUTBOUND.split(), (Direction.OUTBOUND, Outcome.UNKNOWN)),
    **dict.fromkeys(_INTERNAL.split(), (Direction.INTERNAL, Outcome.UNKNOWN)),
    **dict.fromkeys(_MISSED.split(), (Direction.INBOUND, Outcome.MISSED)),
    **dict.fromkeys(_NOT_ANSWERED.split(), (Direction.OUTBOUND, Outcome.NOT_ANSWERED)),
}
_AS_PRINTED: Final = {word.capitalize(): said for word, said in _WORDS.items()}


def read(word: str) -> tuple[Direction, Outcome] | None:
    """What the word says, or null when it is not known; letters alone count, in any case."""
    said = _AS_PRINTED.get(word)
    return said if said is not None else _WORDS.get("".join(letter for letter in word.lower() if letter.isalpha()))
