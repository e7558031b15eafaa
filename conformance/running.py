"""A consumer run as a command, on the whole stream; and, if it ends badly, on each fault alone, to name the one."""

import asyncio
import uuid
from collections.abc import Sequence
from typing import Final

from conformance import producing
from conformance.judging import Verdict, judged
from conformance.rules import Rule
from conformance.stream import ALL, Stream, stream
from events.kafka import KafkaSettings

ALONE_SESSIONS: Final = 16


class CommandFailedError(Exception):
    """The command ended with a failure or not at all; the message says which, and its last words."""


async def run(settings: KafkaSettings, command: Sequence[str], seed: int, sessions: int, timeout_s: float) -> Verdict:
    """The verdict on the command; ``{servers}`` and ``{topic}`` in it are replaced."""
    whole = stream(seed, sessions)
    try:
        return judged(await _output(settings, command, whole, timeout_s), whole)
    except CommandFailedError as error:
        return await _each_alone(settings, command, seed, timeout_s, error)


async def _each_alone(
    settings: KafkaSettings, command: Sequence[str], seed: int, timeout_s: float, failed: CommandFailedError
) -> Verdict:
    wrong: dict[Rule, list[str]] = {}
    for rule in Rule:
        alone = stream(seed, ALONE_SESSIONS, frozenset({rule}))
        try:
            found = judged(await _output(settings, command, alone, timeout_s), alone).wrong
            wrong |= {one: told for one, told in found.items() if one is rule}
        except CommandFailedError as error:
            wrong[rule] = [f"with this fault alone: {error}"]
        if rule is Rule.COMPLETE and rule in wrong:
            return Verdict(wrong, rules=frozenset({rule}))  # without any fault: nothing else can be told
    return Verdict(wrong or {Rule.COMPLETE: [f"with all faults at once: {failed}"]}, rules=ALL)


async def _output(settings: KafkaSettings, command: Sequence[str], given: Stream, timeout_s: float) -> list[str]:
    topic = f"conformance-{uuid.uuid4().hex[:12]}"
    await producing.produce(settings, topic, given, partitions=3)
    try:
        said = {"servers": settings.kafka_bootstrap_servers, "topic": topic}
        return await _run([_filled(word, said) for word in command], timeout_s)
    finally:
        await producing.delete(settings, topic)


def _filled(word: str, said: dict[str, str]) -> str:
    for name, value in said.items():
        word = word.replace(f"{{{name}}}", value)
    return word


async def _run(command: list[str], timeout_s: float) -> list[str]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise CommandFailedError(f"it did not end within {timeout_s:g} s") from None
    if process.returncode:
        last = err.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise CommandFailedError(f"it ended with status {process.returncode}: {''.join(last)[:200]}")
    return out.decode("utf-8", "replace").splitlines()
