"""``python -m tests.power_cuts``: real power cuts of a real file system under a loaded ingest. Root only.

1. An ext4 file system on a loop device holds the journal; ingest takes webhooks over 16 connections as fast as it can,
   Kafka behind a proxy that is there or away by chance.
2. At a random moment ingest is stopped where it is, writes and syncs under way included; the file system is shut down
   without flushing (what was not synced is gone), ingest killed, the file system mounted again, and ingest started on
   what is left. So it goes on, with one journal, cut after cut.
3. At the end everything is forwarded; every webhook that was answered 202 is looked for in Kafka, byte for byte.
4. Then the same under eatmydata, which makes every sync a lie: webhooks must be lost, or the proof is worthless.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

from events.kafka import KafkaSettings
from tests.faults.arrivals import arrived
from tests.faults.broker import Neighbour, neighbour
from tests.faults.door import DoorProcess
from tests.faults.load import Load
from tests.faults.loop import LoopDisk, loop_disk, own_mounts
from tests.faults.proxy import Link

LOAD_S = (0.05, 0.8)
MEGABYTES = 512
EATMYDATA = {"LD_PRELOAD": "libeatmydata.so"}


@dataclass
class Outcome:
    """Of one run."""

    cuts: int
    accepted: int
    lost: list[int]
    disordered: list[str]
    repeats: int
    instances: int

    def told(self) -> str:
        """In one line."""
        return (
            f"{self.cuts} power cuts, {self.accepted} webhooks answered 202: {len(self.lost)} lost,"
            f" {len(self.disordered)} out of order; {self.repeats} repeats, {self.instances} instances"
        )


def say(line: str) -> None:
    """Show progress."""
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


async def cut_once(door: DoorProcess, load: Load, disk: LoopDisk, load_s: float) -> None:
    """Load, freeze, cut, kill, mount."""
    door.start()
    await door.accepting()
    stop = asyncio.Event()
    posting = asyncio.create_task(load.until(stop))
    await asyncio.sleep(load_s)
    await door.freeze()
    disk.cut()
    stop.set()
    door.kill()
    await posting
    disk.unmount()
    disk.mount()


async def run(beside: Neighbour, prefix: str, cuts: int, scratch: Path, seed: int, **environment: str) -> Outcome:
    """One journal through so many cuts."""
    random = Random(seed)
    settings = beside.settings.model_copy(update={"kafka_topic_prefix": prefix})
    with loop_disk(scratch, MEGABYTES) as disk:
        door = DoorProcess(
            settings, disk.folder, scratch / "ingest.log", INGEST_JOURNAL_SEGMENT_BYTES="65536", **environment
        )
        load = Load(door.port)
        try:
            for number in range(1, cuts + 1):
                await beside.proxy.become(random.choice((Link.OPEN, Link.AWAY)))
                await cut_once(door, load, disk, random.uniform(*LOAD_S))
                if number % 10 == 0:
                    say(f"{prefix}: {number} cuts, {len(load.told.accepted)} accepted")
            await beside.proxy.become(Link.OPEN)
            door.start()
            await door.drained()
        finally:
            door.kill()
    return await judged(settings, load, cuts)


async def judged(settings: KafkaSettings, load: Load, cuts: int) -> Outcome:
    """What arrived, against what was answered."""
    found = await arrived(settings)
    accepted = load.told.accepted
    return Outcome(cuts, len(accepted), found.lost(accepted), found.disordered, found.repeats, len(found.instances))


async def both(given: argparse.Namespace, scratch: Path) -> int:
    """The run, and its control."""
    for name in ("kafka", "real", "control"):
        (scratch / name).mkdir()
    async with neighbour(scratch / "kafka") as beside:
        real = await run(beside, "real", given.cuts, scratch / "real", given.seed)
        say(real.told())
        control = await run(beside, "control", given.control, scratch / "control", given.seed, **EATMYDATA)
        say(f"control: {control.told()}")
    red = []
    if real.lost or real.disordered:
        red.append(f"lost {real.lost[:10]}, out of order {real.disordered[:5]}")
    if not control.lost:
        red.append("nothing was lost under eatmydata: this proof is worthless (is eatmydata installed?)")
    print("\n".join(("RED", *red)) if red else "GREEN: what was answered 202 survives a power cut")
    return bool(red)


def main() -> int:
    """0: green; 1: red; 2: not root."""
    parser = argparse.ArgumentParser(prog="python -m tests.power_cuts")
    parser.add_argument("--cuts", type=int, default=100)
    parser.add_argument("--control", type=int, default=10, help="cuts under eatmydata")
    parser.add_argument("--seed", type=int, default=Random().randrange(10**6))
    given = parser.parse_args()
    if os.geteuid() != 0:
        print("power cuts need root: a file system is mounted and shut down")
        return 2
    own_mounts()
    say(f"seed {given.seed}")
    with tempfile.TemporaryDirectory(prefix="power-cuts-") as scratch:
        return asyncio.run(both(given, Path(scratch)))


if __name__ == "__main__":
    sys.exit(main())
