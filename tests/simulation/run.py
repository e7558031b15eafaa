"""The real core and the model over the same feed, compared event by event; and over many seeds, with progress."""

import gc
import json
import multiprocessing
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import orjson

from events.session_events import Reason
from processors.task import Batch, Task
from tests.builders import folded
from tests.simulation.facts import Step
from tests.simulation.faults import PBXS, Feed, feed_of
from tests.simulation.model import Model

CHUNK = 50
WEBHOOKS_REASONS = [reason for reason in Reason if reason not in {Reason.ABSENT_FROM_PBX, Reason.END_FROM_HISTORY}]
"""What polling shows is simulated by `tests.witness_days`."""
LOG_STEPS = 60


@dataclass(frozen=True, slots=True)
class Difference:
    """The first event that differs (null: one side told nothing more), and the feed up to it in short."""

    seed: int
    number: int
    core: dict[str, Any] | None
    model: dict[str, Any] | None
    log: str


def core_tells(feed: Feed, seed: int) -> list[bytes]:
    """What the real core writes to the session topic: batches of any size, now and then a restore in between."""
    random = Random(seed)
    task = _new_task(feed)
    batches: list[Batch] = []
    restores = random.choice((0.0, 0.02, 0.1))
    place = 0
    while place < len(feed.records):
        size = random.choice((1, 4, 20, 60, 200))
        batches.append(task.process(feed.records[place : place + size]))
        place += size
        if random.random() < restores:
            task = _restored(feed, batches, random)
    return [out.value or b"" for batch in batches for out in batch.session_events]


def _new_task(feed: Feed) -> Task:
    return Task(0, feed.rules, PBXS, "threecx.webhooks")


def _restored(feed: Feed, batches: list[Batch], random: Random) -> Task:
    kept = list(folded(batches).items())
    random.shuffle(kept)
    task = _new_task(feed)
    for key, value in kept:
        task.restore(key, value)
    task.restored()
    return task


def model_tells(feed: Feed) -> list[dict[str, Any]]:
    """What the design asks for."""
    model = Model(feed.rules, feed.shared_extensions)
    for step in feed.steps:
        model.take(step)
    return model.told


def check(seed: int) -> Difference | Counter[str]:
    """The first difference, or how often each reason came."""
    feed = feed_of(seed)
    core = [orjson.loads(value) for value in core_tells(feed, seed)]
    model = model_tells(feed)
    if core == model:
        return Counter(event["reason"] for event in model if "reason" in event)
    number = next((n for n, (one, other) in enumerate(zip(core, model, strict=False)) if one != other), -1)
    if number < 0:
        number = min(len(core), len(model))
    ours = core[number] if number < len(core) else None
    theirs = model[number] if number < len(model) else None
    return Difference(seed, number, ours, theirs, log_of(feed, core, number))


def log_of(feed: Feed, core: list[dict[str, Any]], number: int) -> str:
    """The webhooks up to the difference, and what the core told before it."""
    until = core[min(number, len(core) - 1)]["time"] if core else ""
    lines = [
        f"{step.received_at:%d %H:%M:%S.%f} {step.ce_id} {step.key} {'again ' if again else ''}{step.body.decode()}"
        for step, again in _webhooks(feed)
    ]
    events = [
        f"{event['time']} {event['type']} {event['reason']} {event['session_id'][:6]} "
        f"{event['session']['agent']['extension']} by {[one['ce_id'] for one in event['causes']]}"
        for event in core[: number + 1]
        if "reason" in event
    ]
    return "\n".join([f"rules: {feed.rules}; differs near {until}", *lines[:LOG_STEPS], *events[-LOG_STEPS:]])


def _webhooks(feed: Feed) -> Iterator[tuple[Step, bool]]:
    seen: set[str] = set()
    for step in feed.steps:
        if step.sequence is not None:
            yield step, step.ce_id in seen
            seen.add(step.ce_id)


def _check_chunk(seeds: range) -> list[Difference | Counter[str]]:
    outcomes = [check(seed) for seed in seeds]
    gc.collect()
    return outcomes


def run(first: int, seeds: int, processes: int, *, keep_going: bool = False) -> int:
    """All seeds, in chunks, by so many processes; the exit code: 1 on a difference or where a reason never came."""
    began, done, failed = time.monotonic(), 0, 0
    reasons: Counter[str] = Counter()
    end = first + seeds
    chunks = [range(begin, min(begin + CHUNK, end)) for begin in range(first, end, CHUNK)]
    with multiprocessing.Pool(processes, initializer=gc.disable) as pool:
        for chunk in pool.imap_unordered(_check_chunk, chunks):
            done += len(chunk)
            for outcome in chunk:
                if isinstance(outcome, Counter):
                    reasons += outcome
                    continue
                failed += 1
                if not keep_going:
                    print(f"\n{told(outcome)}")
                    pool.terminate()
                    return 1
                print(f"seed {outcome.seed} differs at {outcome.number}")
            _show_progress(done, seeds, time.monotonic() - began)
    print()
    for reason in WEBHOOKS_REASONS:
        print(f"{reasons[reason]:>10} {reason}")
    missing = [reason for reason in WEBHOOKS_REASONS if not reasons[reason]]
    print(f"{done} seeds, {failed} with a difference; reasons that never came: {missing or 'none'}")
    return 1 if failed or missing else 0


def _show_progress(done: int, seeds: int, elapsed_s: float) -> None:
    rate = done / elapsed_s
    left_s = max(0, seeds - done) / rate
    print(f"\r{done}/{seeds} seeds, {rate:.0f} seeds/s, {left_s:.0f} s left ", end="", flush=True)


def told(found: Difference) -> str:
    """The difference for a person."""
    ours, theirs = found.core or {}, found.model or {}
    return "\n".join(
        [
            f"seed {found.seed}: event {found.number} differs",
            f"core : {json.dumps(found.core)}",
            f"model: {json.dumps(found.model)}",
            f"differing: {[name for name in dict.fromkeys((*ours, *theirs)) if ours.get(name) != theirs.get(name)]}",
            found.log,
        ]
    )
