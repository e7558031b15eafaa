"""What is known of each partition's feed: how far it has come, and in what state the feed of each PBX is. Pure.

The clocks are handed in: `now` the wall clock, `monotonic_s` this process's. A feed is, the first that applies:

- silent: no progress came for `silent_s`, or none since this process began;
- lagging: progress comes, and what came last was older than `lagging_s` (a backlog is being worked off);
- quiet: progress comes in time, and the PBX sent no webhook for its `quiet_s` (a dead link looks the same);
- live.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import BaseModel

from events.session_events import FeedProgress
from events.times import Utc


class FeedState(StrEnum):
    """How the feed of a PBX is doing."""

    LIVE = "live"
    QUIET = "quiet"
    LAGGING = "lagging"
    SILENT = "silent"


class FeedReason(StrEnum):
    """Why a feed is not live."""

    NOT_HEARD = "not_heard"
    """No progress came since this process began."""
    NO_PROGRESS = "no_progress"
    """Progress stopped: ingest, Kafka or the processors are away."""
    BEHIND = "behind"
    """Progress comes late: a backlog is being worked off, or a clock is wrong."""
    NO_WEBHOOK = "no_webhook"
    """All is there, and the PBX sends nothing."""


class Feed(BaseModel):
    """The feed of one PBX: its state, why, and since when; `as_of`: up to when its calls are known."""

    pbx: str
    status: FeedState
    reason: FeedReason | None
    since: Utc | None
    as_of: Utc | None
    last_webhook_at: Utc | None


@dataclass(frozen=True, slots=True)
class _Heard:
    """The last progress of a partition; `at_s` null: only the database told of it."""

    stream_time: datetime | None
    at_s: float | None = None
    late: bool = False
    since: datetime | None = None
    """Since when progress came without a hole, and in time or late as now."""


@dataclass(frozen=True, slots=True)
class _Sent:
    """The latest webhook of a PBX in a partition, and the first one after it had been quiet."""

    at: datetime
    since: datetime


@dataclass(slots=True)
class Feeds:
    """The feeds of all `partition_count` partitions; spans in seconds, `quiet_s_of`: of PBXs that have their own."""

    silent_s: float
    partition_count: int
    lagging_s: float = 10.0
    quiet_s: float = 900.0
    quiet_s_of: Mapping[str, float] = field(default_factory=dict)
    _partitions: dict[int, _Heard] = field(default_factory=dict)
    _pbxs: dict[str, dict[int, _Sent]] = field(default_factory=dict)

    def known(self, partition: int, stream_time: datetime | None) -> None:
        """What the database says of a partition before anything was heard."""
        self._partitions.setdefault(partition, _Heard(stream_time))

    def heard(self, partition: int, progress: FeedProgress, now: datetime, monotonic_s: float) -> None:
        """A progress record came."""
        held = self._partitions.get(partition)
        late = now - progress.stream_time > timedelta(seconds=self.lagging_s)
        goes_on = held is not None and not self._is_hole(held, monotonic_s) and held.late is late
        since = held.since if held is not None and goes_on else now
        self._partitions[partition] = _Heard(progress.stream_time, monotonic_s, late, since)
        for pbx, at in progress.received_at.items():
            sent = self._pbxs.setdefault(pbx, {})
            before = sent.get(partition)
            quiet = before is None or at - before.at > timedelta(seconds=self._quiet_s(pbx))
            sent[partition] = _Sent(at, at if before is None or quiet else before.since)

    def as_of(self, partition: int) -> datetime | None:
        """Up to when the partition is known."""
        heard = self._partitions.get(partition)
        return None if heard is None else heard.stream_time

    def unknown_because(self, partition: int, now: datetime, monotonic_s: float) -> FeedReason | None:
        """Why nobody knows what goes on in the partition now; null: it is known."""
        heard = self._partitions.get(partition)
        if heard is None or heard.stream_time is None or heard.at_s is None:
            return FeedReason.NOT_HEARD
        if self._is_hole(heard, monotonic_s):
            return FeedReason.NO_PROGRESS
        return FeedReason.BEHIND if now - heard.stream_time > timedelta(seconds=self.silent_s) else None

    def unknown(self, now: datetime, monotonic_s: float) -> list[int]:
        """The partitions of which nobody knows what goes on."""
        return [one for one in range(self.partition_count) if self.unknown_because(one, now, monotonic_s)]

    def of_pbxs(self, names: Iterable[str], now: datetime, monotonic_s: float) -> list[Feed]:
        """The feed of each PBX that was heard of or is named, in order of names."""
        return [self._of_pbx(name, now, monotonic_s) for name in sorted({*names, *self._pbxs})]

    def _of_pbx(self, pbx: str, now: datetime, monotonic_s: float) -> Feed:
        # A PBX that never sent anything has no partition yet: it is as live as the slowest of all.
        mine = self._pbxs.get(pbx, {})
        partitions = sorted(mine) or list(range(self.partition_count))
        times = [self.as_of(partition) for partition in partitions]
        known = [at for at in times if at is not None]
        as_of = min(known) if len(known) == len(times) and known else None
        last = max((sent.at for sent in mine.values()), default=None)
        status, reason, since = self._state(partitions, now, monotonic_s)
        if status is FeedState.SILENT:
            since = as_of
        elif status is FeedState.LIVE and self._is_quiet(pbx, as_of, last or since):
            status, reason, since = FeedState.QUIET, FeedReason.NO_WEBHOOK, last or since
        elif status is FeedState.LIVE and since is not None:
            # It is live since progress comes in time and since it is not quiet, whatever came last.
            since = max([since, *(sent.since for sent in mine.values())])
        return Feed(pbx=pbx, status=status, reason=reason, since=since, as_of=as_of, last_webhook_at=last)

    def _state(
        self, partitions: Iterable[int], now: datetime, monotonic_s: float
    ) -> tuple[FeedState, FeedReason | None, datetime | None]:
        """The worst of the partitions, and the latest of their beginnings."""
        heard = [self._partitions.get(partition) for partition in partitions]
        reasons = {self.unknown_because(partition, now, monotonic_s) for partition in partitions}
        since = max((one.since for one in heard if one is not None and one.since is not None), default=None)
        for reason in (FeedReason.NOT_HEARD, FeedReason.NO_PROGRESS):
            if reason in reasons:
                return FeedState.SILENT, reason, since
        if FeedReason.BEHIND in reasons or any(one is not None and one.late for one in heard):
            return FeedState.LAGGING, FeedReason.BEHIND, since
        return FeedState.LIVE, None, since

    def _is_hole(self, heard: _Heard, monotonic_s: float) -> bool:
        return heard.at_s is None or monotonic_s - heard.at_s > self.silent_s

    def _is_quiet(self, pbx: str, as_of: datetime | None, last: datetime | None) -> bool:
        return as_of is not None and last is not None and as_of - last > timedelta(seconds=self._quiet_s(pbx))

    def _quiet_s(self, pbx: str) -> float:
        return self.quiet_s_of.get(pbx, self.quiet_s)
