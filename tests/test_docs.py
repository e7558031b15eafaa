"""What the pages on deployment say is so: their commands exist, their tables are what the code gives."""

import importlib.metadata
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from bench.sizing import Site, report
from tests.test_dependencies import DIRECT, LOCKED

ROOT = Path(__file__).parent.parent
PAGES = ("operations.md", "sizing.md", "architecture.md", "dependencies.md", "3cx.md")
FREE = re.compile(r"MIT|BSD|Apache|MPL-2.0|PSF|ISC|Unicode|Unlicense|0BSD")


def blocks(page: str) -> list[str]:
    """The lines of the page's shell blocks, continued ones joined."""
    found = re.findall(r"```bash\n(.*?)```", (ROOT / "docs" / page).read_text("utf-8"), re.DOTALL)
    return [line for block in found for line in block.replace("\\\n", " ").splitlines() if line.strip()]


PYTHON = sorted(
    {line.split("#")[0].strip() for page in PAGES for line in blocks(page) if re.search(r"\bpython -m ", line)}
)


@pytest.mark.parametrize("line", PYTHON)
def test_a_python_command_of_a_page_is_one_that_there_is_with_these_options(line: str) -> None:
    words = shlex.split(re.sub(r"^\w+=\S+ ", "", line))
    module, options = words[2], words[3:]
    parts = [one for one in options[:2] if re.fullmatch(r"[a-z-]+", one) and not one.startswith("-")]
    done = subprocess.run(
        [sys.executable, "-m", module, *parts, "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for option in options:
        assert not option.startswith("--") or option in done.stdout, option


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
