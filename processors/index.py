"""An index: names to session ids, most of which hold a single one. Pure."""

from collections.abc import Iterable


class Index:
    """Which session ids stand under a name; a dictionary per name only where there are several, to spare memory."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: dict[tuple[str, ...], str | dict[str, None]] = {}

    def add(self, name: tuple[str, ...], session_id: str) -> None:
        """Put the id under the name."""
        held = self._held.get(name)
        if held is None:
            self._held[name] = session_id
        elif isinstance(held, str):
            self._held[name] = {held: None, session_id: None}
        else:
            held[session_id] = None

    def discard(self, name: tuple[str, ...], session_id: str) -> None:
        """Take the id from the name; raises KeyError when it does not stand there."""
        held = self._held[name]
        if isinstance(held, dict):
            del held[session_id]
            if not held:
                del self._held[name]
        elif held == session_id:
            del self._held[name]
        else:
            raise KeyError(session_id)

    def get(self, name: tuple[str, ...]) -> Iterable[str]:
        """The ids under the name, in no order that means anything."""
        held = self._held.get(name)
        if held is None:
            return ()
        return (held,) if isinstance(held, str) else held
