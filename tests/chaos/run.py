"""A run: traffic, faults one after the other, healing, and the verdict."""

import asyncio
import itertools
import pickle
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from events.kafka import discard, transactional_producer
from tests.chaos import verdict
from tests.chaos.brokers import Node
from tests.chaos.follower import Follower
from tests.chaos.ledger import Attempt, Ledger, attempts_of
from tests.chaos.plan import Fault
from tests.chaos.reference import PROGRESS, Fold, Raw, expect_all, folded
from tests.chaos.site import PARTITIONS, RULES, Site
from tests.chaos.traffic import QUEUE, Sender, Traffic

STORES = {"sqlite": "SQLite", "postgres": "PostgreSQL"}
CALM_WEBHOOKS = 120
WHY_SAMPLE = 60
CATCH_UP_TIMEOUT_S = 120.0
ANSWER_S_MAX = 5.0
ANSWER_SLACK_S = 0.5
"""The harness shares its two cores with all that it watches."""


@dataclass
class Report:
    """What a run came to. `recovery_s`: from each fault's end until all that was in the log was in both views."""

    lines: list[verdict.Line] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    recovery_s: dict[str, list[float]] = field(default_factory=dict)
    answers_s: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def violations(self) -> list[str]:
        """Everything that is wrong; empty: green."""
        return [*(f"{line.holds}: {one}" for line in self.lines for one in line.violations), *self.problems]


class Run:
    """One run in a folder of its own."""

    def __init__(
        self, folder: Path, seed: int, per_s: float, brokers: int, faults: Sequence[Fault], say: Callable[[str], None]
    ) -> None:
        """Nothing is started yet."""
        self._folder = folder
        self._faults = faults
        self._say = say
        plain_times = any(fault.kind == "clock" for fault in faults)
        self.site = Site(folder, brokers, plain_times=plain_times)
        self._ledger = Ledger(folder / "ledger.jsonl")
        self._traffic = Traffic(seed, per_s, datetime.now(UTC).replace(microsecond=0), plain_times)
        self._sender = Sender(self._traffic, self.site.door, self._ledger)
        self._down: list[tuple[float, float]] = []
        self.report = Report()

    async def go(self, rest_s: float) -> Report:
        """All of it; `rest_s` lies between two faults. Leaves no process behind."""
        followers = {store: Follower(self.site.board(store)) for store in STORES}
        following: list[asyncio.Task[None]] = []
        sending: asyncio.Task[None] | None = None
        try:
            await self.site.start()
            following = [asyncio.create_task(one.run()) for one in followers.values()]
            sending = asyncio.create_task(self._sender.run())
            await asyncio.sleep(rest_s)
            for number, fault in enumerate(self._faults, 1):
                await self._bring_about(fault, number)
                await asyncio.sleep(rest_s)
            self._sender.stop()
            await sending
            await self._judge(followers)
        finally:
            for task in following if sending is None else [sending, *following]:
                task.cancel()
            self.site.kill_all()
            self._ledger.close()
            with (self._folder / "facts.pickle").open("wb") as file:
                pickle.dump(self._sender.facts, file)
        return self.report

    async def _bring_about(self, fault: Fault, number: int) -> None:
        began_s = time.monotonic()
        doer: Callable[[Fault], Awaitable[None]] = getattr(self, "_" + fault.kind.replace(" ", "_"))
        await doer(fault)
        self.report.done[fault.kind] += 1
        healed_s = time.monotonic()
        if (fault.target == "ingest" and fault.kind in {"kill", "freeze"}) or fault.kind == "rolling restart":
            self._down.append((began_s - 1, healed_s + 1))
        try:
            await self.site.caught_up(CATCH_UP_TIMEOUT_S)
        except TimeoutError:
            self.report.problems.append(f"{fault}: not caught up within {CATCH_UP_TIMEOUT_S:g} s")
        took_s = time.monotonic() - healed_s
        self.report.recovery_s.setdefault(fault.kind, []).append(took_s)
        self.site.look()
        self._say(
            f"{number}/{len(self._faults)} {fault}: caught up after {took_s:.1f} s;"
            f" {self._sender.sent} sent, {self._sender.accepted} accepted"
        )

    # The faults: each is over, and healed, when it returns.

    async def _kill(self, fault: Fault) -> None:
        self.site.kill(fault.target)
        await asyncio.sleep(fault.seconds)
        self.site.launch(fault.target)
        await self.site.answers(fault.target)

    async def _freeze(self, fault: Fault) -> None:
        self.site.send(fault.target, signal.SIGSTOP)
        await asyncio.sleep(fault.seconds)
        self.site.send(fault.target, signal.SIGCONT)

    async def _kill_broker(self, fault: Fault) -> None:
        await self._kill_nodes([self.site.cluster.node(int(fault.target[-1]))], fault.seconds)

    async def _kill_leaders(self, fault: Fault) -> None:
        await self._kill_nodes([self.site.cluster.node(await self.site.leader())], fault.seconds)

    async def _kill_coordinator(self, fault: Fault) -> None:
        await self._kill_nodes([self.site.cluster.node(await self.site.coordinator())], fault.seconds)

    async def _kill_all_brokers(self, fault: Fault) -> None:
        await self._kill_nodes(self.site.cluster.nodes, fault.seconds)

    async def _kill_nodes(self, nodes: Sequence[Node], seconds: float) -> None:
        for node in nodes:
            node.kill()
        await asyncio.sleep(seconds)
        for node in nodes:
            node.spawn()
        for node in nodes:
            await asyncio.to_thread(node.wait)

    async def _freeze_broker(self, fault: Fault) -> None:
        node = self.site.cluster.node(int(fault.target[-1]))
        node.signal(signal.SIGSTOP)
        await asyncio.sleep(fault.seconds)
        node.signal(signal.SIGCONT)

    async def _kill_database(self, fault: Fault) -> None:
        self.site.database.kill()
        await asyncio.sleep(fault.seconds)
        self.site.database.start()

    async def _cut(self, fault: Fault) -> None:
        way = self.site.ways[fault.target]
        way.cut = True
        way.reset()
        await asyncio.sleep(fault.seconds)
        way.heal()

    async def _reset(self, fault: Fault) -> None:
        for _ in range(5):
            self.site.ways[fault.target].reset()
            await asyncio.sleep(0.2)

    async def _stall(self, fault: Fault) -> None:
        self.site.ways[fault.target].stalled = True
        await asyncio.sleep(fault.seconds)
        self.site.ways[fault.target].heal()

    async def _stall_answers(self, fault: Fault) -> None:
        self.site.ways[fault.target].answers_stalled = True
        await asyncio.sleep(fault.seconds)
        self.site.ways[fault.target].heal()

    async def _slow(self, fault: Fault) -> None:
        self.site.ways[fault.target].bytes_per_s = 10_000
        await asyncio.sleep(fault.seconds)
        self.site.ways[fault.target].heal()

    async def _lose_commit_answers(self, _fault: Fault) -> None:
        way = self.site.ways["processors"]
        way.commit_answers_lost, way.commits_touched = 4, 0
        await self._touched(4)
        way.heal()

    async def _hold_commits(self, fault: Fault) -> None:
        way = self.site.ways["processors"]
        way.commits_held_s, way.commits_to_hold, way.commits_touched = fault.seconds, 4, 0
        await self._touched(4)
        way.heal()

    async def _touched(self, count: int) -> None:
        way = self.site.ways["processors"]
        async with asyncio.timeout(30):
            while way.commits_touched < count:  # noqa: ASYNC110 - counted by the proxy
                await asyncio.sleep(0.05)
        self.report.done["commits touched"] += count

    async def _clock(self, fault: Fault) -> None:
        self.site.set_clock(fault.seconds)
        await asyncio.sleep(3)
        self.site.set_clock(0.0)

    async def _steal_transactional_ids(self, _fault: Fault) -> None:
        """Somebody else starts producers with the ids of some partitions: their owners are fenced."""
        topic = self.site.kafka.topic_set.webhooks
        for partition in range(0, PARTITIONS, 3):
            producer = AIOKafkaProducer(**transactional_producer(self.site.kafka, f"processors-{topic}-{partition}"))
            try:
                async with asyncio.timeout(10):
                    await producer.start()
            except (KafkaError, TimeoutError) as error:
                self.report.problems.append(f"no id could be stolen: {error}")
            finally:
                await discard(producer)

    async def _scale(self, _fault: Fault) -> None:
        """1, 3, 1 processors, and back to two."""
        await self.site.stop("processors-2")
        self.site.launch("processors-2")
        self.site.launch("processors-3")
        await self.site.answers("processors-3")
        await asyncio.sleep(2)
        await self.site.stop("processors-2")
        self.site.kill("processors-3")
        self.site.launch("processors-2")
        await self.site.answers("processors-2")

    async def _rolling_restart(self, _fault: Fault) -> None:
        for name in list(self.site.services):
            await self.site.stop(name)
            self.site.launch(name)
            await self.site.answers(name)

    async def _double(self, _fault: Fault) -> None:
        """A second projections process on the same database and group, for a while."""
        self.site.launch("projections-double")
        await self.site.answers("projections-double")
        await asyncio.sleep(2)
        self.site.kill("projections-double")

    # The verdict

    async def _judge(self, followers: Mapping[str, Follower]) -> None:
        await self.site.caught_up(CATCH_UP_TIMEOUT_S)
        self._say("healed; counting in peace")
        deltas = await self._in_peace()
        await self.site.stop("ingest")  # no more ticks: what is in the log now is all
        await self.site.caught_up(CATCH_UP_TIMEOUT_S)
        topics = self.site.kafka.topic_set
        webhooks = await self.site.topic(topics.webhooks)
        sessions = await self.site.topic(topics.call_sessions)
        dead = await self.site.topic(topics.dead_letters)
        attempts = list(attempts_of(self._folder / "ledger.jsonl"))
        self._say(f"judging {len(webhooks)} records, {len(sessions)} session events, {len(attempts)} attempts")
        lines = [verdict.accepted_are_there(attempts, webhooks), verdict.nothing_unsent(attempts, webhooks)]
        unknown = [one for one in webhooks if one.header["ce_type"] != "threecx.clock.tick" and not self._knows(one)]
        if not unknown:
            expected = expect_all(by_partition(webhooks), self._sender.facts, RULES, frozenset({QUEUE}))
            lines.append(verdict.sessions_equal(expected, by_partition(sessions), dead, attempts))
            fold = folded(expected)
            for store, name in STORES.items():
                calls, agents = await self.site.calls(store), await self.site.agents(store)
                lines.append(verdict.views_equal(name, fold, calls, agents, await self._revisions(store, fold)))
                follower = followers[store]
                lines.append(verdict.stream_equals(name, follower.agents, agents, follower.problems))
                self.report.done[f"stream breaks ({name})"] = follower.breaks
        lines.append(verdict.counters_balance(CALM_WEBHOOKS, deltas))
        self.report.lines = sorted(lines, key=lambda line: line.holds)
        self._answers(attempts)
        self.report.problems += self.site.problems

    def _knows(self, record: Raw) -> bool:
        return (record.header["ce_source"].removeprefix("/pbx/"), record.value or b"") in self._sender.facts

    async def _in_peace(self) -> dict[str, float]:
        """What each service counted while so many webhooks came and no fault."""
        before = await self._at_rest()
        await self._sender.calmly(CALM_WEBHOOKS)
        after = await self._at_rest()

        def grew(name: str, metric: str, without: str = "\0") -> float:
            keys = {key for key in after if key.startswith(f"{name} threecx_{metric}{{") and without not in key}
            return sum(after[key] - before[key] for key in keys)

        # Ticks and progress go on meanwhile: they are left out.
        return {
            "accepted by ingest": grew("ingest", "ingest_accepted_total"),
            "forwarded by ingest": grew("ingest", "ingest_forwarded_total"),
            "read by processors": grew("processors", "processors_records_total", 'kind="tick"'),
            "session events by processors": grew("processors", "processors_session_events_total"),
            "folded on SQLite": grew("projections-sqlite", "projections_events_total", PROGRESS),
            "folded on PostgreSQL": grew("projections-postgres", "projections_events_total", PROGRESS),
        }

    async def _at_rest(self) -> Counter[str]:
        """Every counter, once nothing is under way and no timer has fired for a while."""
        deadline_s = time.monotonic() + 2 * RULES.call_duration_max_s
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

    def _answers(self, attempts: Sequence[Attempt]) -> None:
        """Every webhook is answered within 5 s, but while the door itself is killed or frozen."""
        for one in attempts:
            if one.answered_s is None or any(begin <= one.sent_s <= end for begin, end in self._down):
                continue
            took_s = one.answered_s - one.sent_s
            self.report.answers_s.append(took_s)
            if took_s > ANSWER_S_MAX + ANSWER_SLACK_S:
                self.report.problems.append(f"attempt {one.number} was answered {one.status} after {took_s:.1f} s")


def _is_of_webhooks(key: str) -> bool:
    """Whether a counter stands still while only ticks come."""
    told = ("ingest_accepted_total", "ingest_forwarded_total", "session_events_total", "events_total", "records_total")
    return any(name in key for name in told) and 'kind="tick"' not in key and PROGRESS not in key


def by_partition(records: Sequence[Raw]) -> dict[int, list[Raw]]:
    """The records of each partition, in their order; of sorted ones."""
    found = {number: list(ones) for number, ones in itertools.groupby(records, key=lambda one: one.partition)}
    return {number: found.get(number, []) for number in range(PARTITIONS)}
