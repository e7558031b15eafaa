"""What is known of each partition's feed: how far it has come, and whether it has fallen silent. Pure.

The clocks are handed in: `now` the wall clock, `monotonic_s` this process's. A feed is silent when no progress came
for `silent_s`, or when what came was about a time longer ago than that (a backlog is being worked off).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pydantic import BaseModel

from events.session_events import FeedProgress
from events.times import Utc


class Feed(BaseModel):
    """The feed of one PBX."""

    pbx: str
    status: str
    as_of: Utc | None
    last_webhook_at: Utc | None


@dataclass(slots=True)
class _Heard:
    stream_time: datetime | None
    at_s: float | None


@dataclass(slots=True)
class Feeds:
    """The feeds of all `partition_count` partitions; `live` or `silent` after `silent_s`."""

    silent_s: float
    partition_count: int
    _partitions: dict[int, _Heard] = field(default_factory=dict)
    _pbxs: dict[str, dict[int, datetime]] = field(default_factory=dict)

    def known(self, partition: int, stream_time: datetime | None) -> None:
        """What the database says of a partition before anything was heard."""
        self._partitions.setdefault(partition, _Heard(stream_time, None))

    def heard(self, partition: int, progress: FeedProgress, monotonic_s: float) -> None:
        """A progress record came."""
        self._partitions[partition] = _Heard(progress.stream_time, monotonic_s)
        for pbx, at in progress.received_at.items():
            self._pbxs.setdefault(pbx, {})[partition] = at

    def as_of(self, partition: int) -> datetime | None:
        """Up to when the partition is known."""
        heard = self._partitions.get(partition)
        return None if heard is None else heard.stream_time

    def is_silent(self, partition: int, now: datetime, monotonic_s: float) -> bool:
        """Whether nobody knows what goes on now."""
        heard = self._partitions.get(partition)
        if heard is None or heard.stream_time is None or heard.at_s is None:
            return True
        return monotonic_s - heard.at_s > self.silent_s or now - heard.stream_time > timedelta(seconds=self.silent_s)

    def of_pbxs(self, names: Iterable[str], now: datetime, monotonic_s: float) -> list[Feed]:
        """The feed of each PBX that was heard of or is named, in order of names."""
        return [self._of_pbx(name, now, monotonic_s) for name in sorted({*names, *self._pbxs})]

    def _of_pbx(self, pbx: str, now: datetime, monotonic_s: float) -> Feed:
        # A PBX that never sent anything has no partition yet: it is as live as the slowest of all.
        mine = self._pbxs.get(pbx, {})
        partitions = sorted(mine) or list(range(self.partition_count))
        times = [self.as_of(partition) for partition in partitions]
        known = [at for at in times if at is not None]
        silent = any(self.is_silent(one, now, monotonic_s) for one in partitions)
        return Feed(
            pbx=pbx,
            status="silent" if silent else "live",
            as_of=min(known) if len(known) == len(times) and known else None,
            last_webhook_at=max(mine.values(), default=None),
        )
