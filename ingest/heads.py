"""Heads of requests that were read and let in before, byte for byte: a sender's next request mostly has the same head.

The parser has read those bytes, and the door has judged them for this peer; both say the same of the same bytes, since
the settings do not change while ingest runs. So such a request is not parsed again: its head is known, and what
follows is its body, as long as that head says. What depends on more than the head (rate, signature, body) is looked at
each time. A head is found by all of its bytes at once, the secret among them: the time tells nothing of a wrong one.
"""

from dataclasses import dataclass, field
from typing import Final

from ingest.requests import Request

HEADS_MAX: Final = 1_024
"""Beyond it all are forgotten, and read once more."""
HEAD_BYTES_MAX: Final = 1_024
"""A longer one is not kept."""
END: Final = b"\r\n\r\n"


@dataclass(slots=True)
class Heads:
    """One for all connections."""

    _known: dict[tuple[str, bytes], Request] = field(default_factory=dict)

    def again(self, peer: str, data: bytes, now: float) -> Request | None:
        """The whole request that `data` is, when its head is known; null when it must be parsed."""
        end = data.find(END, 0, HEAD_BYTES_MAX) + len(END)
        known = self._known.get((peer, data[:end]))
        if known is None or len(data) - end != known.size:
            return None
        return known.again(now, data[end:])

    def keep(self, peer: str, data: bytes, request: Request) -> None:
        """Remember the head of a request that was let in, when `data` is all of it and nothing else."""
        end = data.find(END, 0, HEAD_BYTES_MAX) + len(END)
        if len(data) - end != request.size:
            return
        if len(self._known) >= HEADS_MAX:
            self._known.clear()
        self._known[peer, data[:end]] = request.again(request.began, b"")
