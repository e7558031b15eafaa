"""A run: traffic, faults one after the other, healing, and the verdict."""

import asyncio
import contextlib
import itertools
import pickle
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from processors.rules import Rules
from tests.chaos import verdict
from tests.chaos.faults import Faults, NotMetError
from tests.chaos.follower import Follower
from tests.chaos.ledger import Ledger, attempts_of
from tests.chaos.plan import PARTITIONS, Fault, closes_the_door, lanes_of, may_refuse
from tests.chaos.reference import PROGRESS, TICK, Fold, Raw, expect_all, folded
from tests.chaos.site import ALWAYS, RULES, Site, Surroundings
from tests.chaos.soak import Watch
from tests.chaos.traffic import QUEUE, Sender, Traffic

STORES = {"sqlite": "SQLite", "postgres": "PostgreSQL"}
CALM_WEBHOOKS = 120
WHY_SAMPLE = 60
LINES = 8
"""The fourth and the fifth are of two databases."""
CATCH_UP_TIMEOUT_S = 120.0
REFUSES_AFTER_S = 5.0
"""So long after its disk is well again ingest may still refuse."""
FOLLOWS_TIMEOUT_S = 15.0


@dataclass
class Report:
    """What a run came to.

    `recovery_s`: for each fault from when all were up again until all that was in the log was in both views.
    `since_over_s`: the same from when its spell was over, which has the start of whoever was killed in it.
    """

    lines: list[verdict.Line] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    recovery_s: dict[str, list[float]] = field(default_factory=dict)
    since_over_s: dict[str, list[float]] = field(default_factory=dict)
    answers_s: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def violations(self) -> list[str]:
        """Everything that is wrong; empty: green."""
        return [*(f"{line.holds}: {one}" for line in self.lines for one in line.violations), *self.problems]


class Run:
    """One run in a folder of its own."""

    def __init__(
        self,
        folder: Path,
        seed: int,
        per_s: float,
        surroundings: Surroundings,
        faults: Sequence[Fault],
        say: Callable[[str], None],
        rules: Rules = RULES,
    ) -> None:
        """Nothing is started yet."""
        self._folder = folder
        self._faults = faults
        self._say = say
        plain_times = any(fault.kind == "clock" for fault in faults)
        self.site = Site(folder, surroundings, plain_times=plain_times, rules=rules)
        self._ledger = Ledger(folder / "ledger.jsonl")
        self._traffic = Traffic(seed, per_s, datetime.now(UTC).replace(microsecond=0), plain_times)
        self._sender = Sender(self._traffic, self.site.door, self._ledger)
        self._clock_was_right = not plain_times
        self._down: list[tuple[float, float]] = []
        self._refusing: list[tuple[float, float]] = []
        self.report = Report()
        log_bytes = self.site.log_bytes if surroundings.retention_s else None
        self.watch = Watch(self.site.watched, self.site.journal, ALWAYS, log_bytes)
        self._copying: asyncio.Task[None] | None = None
        self._doing = Faults(self.site, self.report.done, self.report.problems)

    async def one_by_one(self, rest_s: float, every_s: float = 0.0, warm_after: int = 0) -> Report:
        """All of it: after each fault until everything is caught up, and then a rest; one in `every_s` at the most.

        `warm_after`: after so many faults every process has had the worst, and what it takes is judged.
        """

        async def faults() -> None:
            for number, fault in enumerate(self._faults, 1):
                began_s = time.monotonic()
                over_s = await self._bring_about(fault)
                took_s = await self._caught_up(str(fault))
                since_over_s = time.monotonic() - (over_s or began_s)
                if over_s is not None:
                    self.report.recovery_s.setdefault(fault.kind, []).append(took_s)
                    self.report.since_over_s.setdefault(fault.kind, []).append(since_over_s)
                self._say(
                    f"{number}/{len(self._faults)} {fault}: caught up after {took_s:.1f} s ({since_over_s:.1f} s);"
                    f" {self._sender.sent} sent, {self._sender.accepted} accepted"
                )
                if number == warm_after:
                    self.watch.warm_s = time.monotonic()
                await asyncio.sleep(max(rest_s, began_s + every_s - time.monotonic()))

        return await self._go(faults, rest_s)

    async def side_by_side(self) -> Report:
        """The short form: faults of the services and faults around them at the same time, caught up only at the end."""

        async def lane(faults: Sequence[Fault]) -> None:
            for fault in faults:
                await self._bring_about(fault)
                self._say(f"{fault}: over")

        async def faults() -> None:
            async with asyncio.TaskGroup() as group:
                for one in lanes_of(self._faults):
                    group.create_task(lane(one))
            self.report.recovery_s["all"] = [await self._caught_up("all")]

        return await self._go(faults, 1.0)

    async def _go(self, faults: Callable[[], Awaitable[None]], rest_s: float) -> Report:
        """Traffic, faults, verdict; leaves no process behind."""
        followers = {store: Follower(self.site.board(store), number) for number, store in enumerate(STORES)}
        following: list[asyncio.Task[None]] = []
        sending: asyncio.Task[None] | None = None
        try:
            await self.site.start()
            if self.site.copies is not None:
                self._copying = asyncio.create_task(self.site.copies.run())
            following = [asyncio.create_task(one.run()) for one in followers.values()]
            sending = asyncio.create_task(self._sender.run())
            await asyncio.sleep(rest_s)
            watching = asyncio.create_task(self.watch.run())
            await faults()
            if watching.done():
                watching.result()
            watching.cancel()
            self._sender.stop()
            await sending
            await self._judge(followers)
        except (TimeoutError, AssertionError) as error:  # whoever hangs keeps the verdict from nobody
            self.report.problems.append(f"something did not come to its end: {error!r}")
        finally:
            for task in (sending, self._copying, *following):
                if task is not None:
                    task.cancel()
            self.site.kill_all()
            self._ledger.close()
            with (self._folder / "facts.pickle").open("wb") as file:
                pickle.dump(self._sender.facts, file)
        return self.report

    async def _bring_about(self, fault: Fault) -> float | None:
        """When it was over; null: nobody felt it, and it does not count."""
        began_s = time.monotonic()
        over_s: float | None = None
        try:
            over_s = await self._doing.bring_about(fault)
        except NotMetError as error:
            self.report.done[f"without effect ({error})"] += 1
        except (TimeoutError, AssertionError) as error:
            self.report.problems.append(f"{fault}: not well again: {error!r}")
        if closes_the_door(fault):
            self._down.append((began_s - 1, time.monotonic() + 1))
        if may_refuse(fault):
            self._refusing.append((began_s, time.monotonic() + REFUSES_AFTER_S))
        return over_s

    async def _caught_up(self, after: str) -> float:
        """Seconds until all that is in the log now has reached both views."""
        healed_s = time.monotonic()
        try:
            await self.site.caught_up(CATCH_UP_TIMEOUT_S)
        except TimeoutError:
            self.report.problems.append(f"{after}: not caught up within {CATCH_UP_TIMEOUT_S:g} s ({self.site.behind})")
        self.site.look()
        return time.monotonic() - healed_s

    # The verdict

    async def _judge(self, followers: Mapping[str, Follower]) -> None:
        for follower in followers.values():
            follower.stays = True
        calm: verdict.Line | None = None
        try:
            await self.site.caught_up(CATCH_UP_TIMEOUT_S)
            self._say("healed; counting in peace")
            calm = await self._in_peace()
        except (TimeoutError, AssertionError) as error:
            self.report.problems.append(f"no peace: {error or self.site.behind}")
        await self.site.stop("ingest")  # no more ticks: what is in the log now is all
        await self._caught_up("the end")
        topics = self.site.kafka.topic_set
        if self._copying is not None and self._copying.done():
            self._copying.result()
        webhooks = await self.site.topic(topics.webhooks)
        sessions = await self.site.topic(topics.call_sessions)
        dead = await self.site.topic(topics.dead_letters)
        attempts = list(attempts_of(self._folder / "ledger.jsonl"))
        self._say(f"judging {len(webhooks)} records, {len(sessions)} session events, {len(attempts)} attempts")
        lines = [
            verdict.accepted_are_there(attempts, webhooks, wall_s() if self._clock_was_right else None),
            verdict.nothing_unsent(attempts, webhooks, clock_was_right=self._clock_was_right),
        ]
        unknown = [one for one in webhooks if one.header["ce_type"] != TICK and not self._knows(one)]
        if not unknown:
            expected = expect_all(by_partition(webhooks), self._sender.facts, self.site.rules, frozenset({QUEUE}))
            lines.append(verdict.sessions_equal(expected, by_partition(sessions), dead, attempts))
            fold = folded(expected)
            for store, name in STORES.items():
                calls, asked = await self.site.calls(store), [datetime.now(UTC)]
                agents, position = await self.site.agents(store)
                asked.append(datetime.now(UTC))
                revisions = await self._revisions(store, fold)
                lines.append(verdict.views_equal(name, fold, calls, agents, revisions, self.site.zones, asked))
                follower = followers[store]
                await _comes_to(follower, position)
                lines.append(verdict.stream_equals(name, follower, calls, agents))
                self.report.done[f"stream breaks ({name})"] = follower.breaks
        if calm is not None:
            lines.append(calm)
        self.report.lines = sorted(lines, key=lambda line: line.holds)
        if len(lines) != LINES:
            self.report.problems.append(f"{len(lines)} of {LINES} lines; records that nobody knows: {len(unknown)}")
        self.report.answers_s, unanswered = verdict.answers(attempts, self._down, self._refusing)
        self.report.problems += unanswered
        self.report.problems += self.site.problems

    def _knows(self, record: Raw) -> bool:
        return (record.header["ce_source"].removeprefix("/pbx/"), record.value or b"") in self._sender.facts

    async def _in_peace(self) -> verdict.Line:
        """What each service counted while so many webhooks came and no fault."""
        before = await self._at_rest()
        await self._sender.calmly(CALM_WEBHOOKS)
        after = await self._at_rest()

        def grew(name: str, metric: str, without: str = "\0") -> float:
            keys = {key for key in after if key.startswith(f"{name} threecx_{metric}{{") and without not in key}
            return sum(after[key] - before[key] for key in keys)

        # Ticks and progress go on meanwhile: they are left out.
        grown = Counter(
            {
                "accepted by ingest": grew("ingest", "ingest_accepted_total"),
                "forwarded by ingest": grew("ingest", "ingest_forwarded_total"),
                "read by processors": grew("processors", "processors_records_total", 'kind="tick"'),
                "session events by processors": grew("processors", "processors_session_events_total"),
                "folded on SQLite": grew("projections-sqlite", "projections_events_total", PROGRESS),
                "folded on PostgreSQL": grew("projections-postgres", "projections_events_total", PROGRESS),
            }
        )
        return verdict.counters_balance(CALM_WEBHOOKS, grown, grew("ingest", "ingest_ticks_total"))

    async def _at_rest(self) -> Counter[str]:
        """Every counter, once nothing is under way and no timer has fired for a while."""
        deadline_s = time.monotonic() + 60 + self.site.rules.call_duration_max_s
        seen: Counter[str] = Counter()
        while time.monotonic() < deadline_s:
            last, seen = seen, Counter()
            await self.site.caught_up(CATCH_UP_TIMEOUT_S)
            for name in self.site.services:
                role = name if name.startswith("projections") else name.split("-")[0]
                seen += Counter({f"{role} {key}": value for key, value in (await self.site.counted(name)).items()})
            moving = {key for key in seen if seen[key] != last[key] and _is_of_webhooks(key)}
            if last and not moving:
                return seen
            await asyncio.sleep(1.0)
        message = "the counters did not come to rest"
        raise AssertionError(message)

    async def _revisions(self, store: str, fold: Fold) -> dict[str, int]:
        """How many revisions the view tells of each of a sample of calls."""
        ids = Random(len(fold.sessions)).sample(sorted(fold.sessions), min(WHY_SAMPLE, len(fold.sessions)))
        return {session_id: await self.site.revisions(store, session_id) for session_id in ids}


def wall_s() -> float:
    """What makes wall-clock seconds of monotonic ones."""
    return time.time() - time.monotonic()


async def _comes_to(follower: Follower, position: int) -> None:
    """Wait until it holds what others are told now; not for ever: it is judged all the same."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FOLLOWS_TIMEOUT_S):
            while follower.position < position:  # noqa: ASYNC110 - the client's own state
                await asyncio.sleep(0.1)


def _is_of_webhooks(key: str) -> bool:
    """Whether a counter stands still while only ticks come."""
    told = ("ingest_accepted_total", "ingest_forwarded_total", "session_events_total", "events_total", "records_total")
    return any(name in key for name in told) and 'kind="tick"' not in key and PROGRESS not in key


def by_partition(records: Sequence[Raw]) -> dict[int, list[Raw]]:
    """The records of each partition, in their order; of sorted ones."""
    found = {number: list(ones) for number, ones in itertools.groupby(records, key=lambda one: one.partition)}
    return {number: found.get(number, []) for number in range(PARTITIONS)}
