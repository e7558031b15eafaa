"""What a process does about its memory, seen from outside of it."""

import subprocess
import sys

import pytest

MEASURE = """
import ctypes, os, sys
from events.memory import give_back, give_large_buffers_back

def megabytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

given_back = "given back" in sys.argv
"""
FETCHES = """
if given_back:
    give_large_buffers_back()
large = b"x" * (24 * 2**20)
del large  # glibc takes as much from the heap from now on
before = megabytes()
small, fetched = [], []
for number in range(100):
    fetched.append(b"x" * 2**20)
    small.append(bytes(1000))  # beyond Python's own arenas
fetched.clear()
print(round(megabytes() - before))
"""
BURST = """
give_large_buffers_back()
before = megabytes()
burst, kept = [], []
for number in range(2000):
    burst.append(b"x" * 50_000)
    if not number % 50:
        kept.append(bytes(20_000))
burst.clear()
if given_back:
    give_back()
print(round(megabytes() - before))
"""


@pytest.mark.parametrize("code", [FETCHES, BURST], ids=["large buffers", "a burst of small ones"])
def test_what_was_read_leaves_the_process_from_between_what_is_kept(code: str) -> None:
    def held(*arguments: str) -> int:
        words = [sys.executable, "-c", MEASURE + code, *arguments]
        return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)

    assert held() > 50, "without it this test shows nothing"
    assert held("given back") < 10
