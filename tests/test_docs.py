"""What the pages on deployment say is so: their commands exist, their tables are what the code gives."""

import importlib.metadata
import importlib.util
import itertools
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from bench.sizing import Site, report
from tests.documentation import NOT_RUN, commands, pages, split
from tests.test_dependencies import DIRECT, LOCKED

ROOT = Path(__file__).parent.parent
PAGES = ("operations.md", "sizing.md", "architecture.md", "dependencies.md", "3cx.md")
FREE = re.compile(r"MIT|BSD|Apache|MPL-2.0|PSF|ISC|Unicode|Unlicense|0BSD")


SPAN = re.compile(r"`((?:[A-Z_]+=\S+ )*python -m [^`]+)`")


def python_commands() -> dict[tuple[str, ...], set[str]]:
    """Each ``python -m`` command of the pages, in a block or in a sentence: its module and parts, to its options."""
    texts = [one.text for one in commands()]
    texts += [" ".join(span.split()) for page in pages() for span in SPAN.findall(page.read_text("utf-8"))]
    found: dict[tuple[str, ...], set[str]] = {}
    for text in texts:
        words = shlex.split(re.sub(r"^(?:export )?(?:\w+=\S+\s+)+", "", text.replace("\\\n", " ")), comments=True)
        if words[1:2] != ["-m"] or not words[0].endswith("python"):
            continue
        words = words[: words.index("--")] if "--" in words else words
        module, rest = words[2], words[3:]
        given = list(itertools.takewhile(lambda word: re.fullmatch(r"[a-z-]+", word) and word[0] != "-", rest))
        parts = given[: 2 if given[:1] in (["journal"], ["dead-letters"]) else 1]
        options = {word.split("=")[0] for word in rest if word.startswith("--")}
        found.setdefault((module, *parts), set()).update(options)
    return found


PYTHON = python_commands()


@pytest.mark.parametrize("command", sorted(PYTHON), ids=" ".join)
def test_a_python_command_of_a_page_is_one_that_there_is_with_these_options(command: tuple[str, ...]) -> None:
    text = source_of(command[0])
    if "argparse" not in text:  # it would begin its work
        assert PYTHON[command] == set()
        assert all(word in text for word in command[1:])
        return
    done = subprocess.run(
        [sys.executable, "-m", *command, "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [option for option in PYTHON[command] if option not in done.stdout] == []


def source_of(module: str) -> str:
    """What reads its command line."""
    found = importlib.util.find_spec(module)
    assert found is not None, module
    package = found.submodule_search_locations
    files = (
        [Path(package[0]) / name for name in ("__main__.py", "commands.py")] if package else [Path(found.origin or "")]
    )
    return "".join(file.read_text("utf-8") for file in files if file.exists())


def test_every_reason_for_not_running_a_command_is_one_of_a_command() -> None:
    texts = [one.text for one in commands()]
    assert [pattern for pattern in NOT_RUN if not any(re.search(pattern, text) for text in texts)] == []


def test_commands_are_cut_where_a_shell_cuts_them() -> None:
    block = "one # two\n\ncurl -d '{\n  a }' \\\n  -H x\n# a remark\nthree\n"
    assert list(split(block)) == ["one # two", "curl -d '{\n  a }' \\\n  -H x", "three"]


def test_every_make_target_of_a_page_is_one_that_there_is() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    said = {name for page in pages() for name in re.findall(r"`make (\w+)", page.read_text("utf-8"))}
    said |= {one.text.split()[1] for one in commands() if one.text.startswith("make ")}
    assert said <= targets


@pytest.mark.parametrize("page", [*PAGES, "3cx.fr.md"])
def test_a_file_that_a_page_names_is_there(page: str) -> None:
    text = (ROOT / "docs" / page).read_text("utf-8")
    named = re.findall(r"\]\(([\w./-]+\.\w+)\)", text)
    assert all((ROOT / "docs" / name).exists() for name in named)
    paths = re.findall(r"\b((?:deploy|docs|tests|events|ingest|processors|projections)/[\w./*-]*[\w*])", text)
    missing = [path for path in paths if not list(ROOT.glob(path)) and path not in {"deploy/.env", "events/s"}]
    assert missing == []


def test_the_simulated_sites_are_what_the_simulation_gives() -> None:
    sites = (
        Site(500, 5, 500, 12, 1, 60, 1),
        Site(10_000, 300, 500, 12, 2, 60, 1),
        Site(100_000, 10_000, 500, 48, 12, 60, 1),
    )
    columns = [dict(report(site)) for site in sites]
    text = (ROOT / "docs" / "sizing.md").read_text("utf-8")
    for name in columns[0]:
        assert f"| {name} | {' | '.join(column[name] for column in columns)} |" in text


def test_every_direct_dependency_is_justified_in_one_line() -> None:
    text = (ROOT / "docs" / "dependencies.md").read_text("utf-8")
    rows = re.findall(r"^\| ([\w-]+) \| (.+) \| (.+) \|$", text, re.MULTILINE)[1:]
    assert [name for name, _, _ in rows] == DIRECT


@pytest.mark.parametrize("name", sorted(LOCKED))
def test_every_package_that_is_locked_has_a_licence_that_lets_us_ship_it(name: str) -> None:
    try:
        told = importlib.metadata.metadata(name).json
    except importlib.metadata.PackageNotFoundError:
        assert name in {"async-timeout", "colorama", "exceptiongroup", "tzdata"}  # of another Python or system
        return
    classified = " ".join(one for one in told.get("classifier", ()) if one.startswith("License"))
    assert FREE.search(f"{told.get('license_expression')} {told.get('license')} {classified}"), name
    assert "GNU General" not in classified
