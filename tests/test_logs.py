"""What a log line says of an error: its kind and its place, never its words, which can hold a part of a webhook."""

import json
import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, gc, logging, sys
import structlog
from events import logs
from events.settings import Settings

logs.configure("test", Settings(log_format="{form}", log_level="DEBUG"))

def inner(text: str) -> None:
    raise ValueError(text)

def outer() -> None:
    try:
        inner("canary")
    except ValueError as error:
        raise RuntimeError("more canary") from error

async def unseen() -> None:
    asyncio.get_running_loop().set_exception_handler(logs.mishap_of_loop)
    task = asyncio.ensure_future(asyncio.to_thread(outer))
    await asyncio.wait({{task}})
    del task
    gc.collect()

try:
    outer()
except RuntimeError:
    structlog.get_logger().exception("ours")
    logging.getLogger("a library").exception("theirs")
asyncio.run(unseen())
outer()
"""


@pytest.mark.parametrize("form", ["json", "console"])
def test_an_error_is_told_by_kind_and_place_without_its_words(form: str) -> None:
    program = PROGRAM.format(form=form)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "canary" not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    for told in ("ours", "theirs", "a task failed unseen", "the process ends"):
        assert told in done.stderr
    assert done.stderr.count("RuntimeError") >= 4
    assert "outer:" in done.stderr


def test_a_line_is_json_with_the_chain_of_causes() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(form="json")], capture_output=True, text=True, check=False
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in lines] == ["ours", "theirs", "a task failed unseen", "the process ends"]
    for line in lines:
        assert (line["error"], line["because"], line["service"]) == ("RuntimeError", "ValueError", "test")
        assert line["where"].startswith("outer:")
