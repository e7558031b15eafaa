"""An answer of 3CX's XAPI, which speaks OData: its rows, and whether more belong to them. Pure."""

from typing import Any, NamedTuple

import orjson


class Page(NamedTuple):
    """The rows of an answer. `next_link`: where the others are, if any; `total`: how many there are, if it is said."""

    rows: list[dict[str, Any]]
    next_link: str | None
    total: int | None

    @property
    def is_whole(self) -> bool:
        """Whether there are no others."""
        return self.next_link is None and (self.total is None or self.total <= len(self.rows))


def page_of(body: bytes) -> Page | None:
    """What a good answer holds: a JSON object with a list `value` of objects; null for a body that is none."""
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    rows = told.get("value") if isinstance(told, dict) else None
    if not isinstance(rows, list) or not all(isinstance(one, dict) for one in rows):
        return None
    link, total = told.get("@odata.nextLink"), told.get("@odata.count")
    return Page(rows, str(link) if link else None, total if isinstance(total, int) else None)
