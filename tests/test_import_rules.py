"""The rules of the architecture, read off the source: who may import whom, and what deciding files must not touch."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import settings

ROOT = Path(__file__).parent.parent
SERVICES = ("ingest", "processors", "projections")
OURS = {"events", *SERVICES, "conformance", "deploy", "bench", "examples", "tests"}
MAY_IMPORT = {
    "events": {"events"},
    **{service: {"events", service} for service in SERVICES},
    "conformance": {"conformance", "events"},
    "examples": set(),
    "deploy": {"deploy", "events", *SERVICES},
    "bench": OURS,
    "tests": OURS,
}
WIRING = {
    *(
        "events/away.py",
        "events/commands.py",
        "events/kafka.py",
        "events/kafka_client.py",
        "events/logs.py",
        "events/memory.py",
        "events/metrics.py",
    ),
    *("events/pbx.py", "events/probe.py", "events/progress.py", "events/serving.py", "events/settings.py"),
    *("events/spans.py", "events/tracing.py"),
}
DECIDING = sorted(
    {str(path.relative_to(ROOT)) for path in (ROOT / "events").glob("*.py")} - WIRING
    | {
        str(path.relative_to(ROOT))
        for path in (ROOT / "processors").glob("*.py")
        if path.stem not in {"__main__", "app", "commands", "diff", "letters", "markers", "owner", "replay"}
        and path.stem not in {"restore", "runner", "settings", "takeover", "transaction", "working"}
    }
    | {
        f"projections/{name}.py"
        for name in (
            *("agent_status", "call_log", "feeds", "figures", "folding"),
            *("forgetting", "openapi", "records", "targets", "words"),
        )
    }
    | {
        f"ingest/{name}.py"
        for name in ("accepted", "authentication", "openapi", "rates", "recovery", "runs", "segments", "ticks")
    }
)
PURE = {
    *(
        "base64",
        "bisect",
        "codecs",
        "collections",
        "dataclasses",
        "datetime",
        "decimal",
        "enum",
        "functools",
        "hashlib",
    ),
    *(
        "heapq",
        "hmac",
        "ipaddress",
        "itertools",
        "json",
        "math",
        "operator",
        "re",
        "string",
        "struct",
        "types",
        "typing",
    ),
    *("unicodedata", "urllib", "zlib", "zoneinfo", "orjson", "phonenumbers", "pydantic", "typing_extensions"),
}
CLOCKS = re.compile(r"\b(now|utcnow|today|time_ns|monotonic|perf_counter|getrandbits|uuid4|urandom)\(")
BARE_STOP = re.compile(r"\bconsumer\.stop\b")
FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 420


def sources(*folders: str) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for folder in folders for path in (ROOT / folder).rglob("*.py"))


def imported(path: str) -> Iterator[str]:
    """The top-level packages that a file imports."""
    for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8"))):
        match node:
            case ast.Import(names=names):
                yield from (name.name.split(".")[0] for name in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module.split(".")[0]
            case ast.ImportFrom():
                pytest.fail(f"{path}: relative import")


@pytest.mark.parametrize("path", sources(*MAY_IMPORT))
def test_services_import_the_contract_and_themselves_and_never_each_other(path: str) -> None:
    wrong = set(imported(path)) & OURS - MAY_IMPORT[path.split("/", 1)[0]]
    assert not wrong, f"{path} imports {wrong}"


@pytest.mark.parametrize("path", DECIDING)
def test_a_deciding_file_touches_no_io_clock_log_or_chance(path: str) -> None:
    foreign = set(imported(path)) - PURE - OURS
    assert not foreign, f"{path} imports {foreign}"
    assert not CLOCKS.search((ROOT / path).read_text("utf-8")), f"{path} reads a clock or a random source"


@pytest.mark.parametrize("path", DECIDING)
def test_a_deciding_file_imports_only_deciding_files_of_ours(path: str) -> None:
    allowed = {name.removesuffix(".py").replace("/", ".") for name in DECIDING} | {"events.pbx", "ingest.settings"}
    for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8"))):
        if not isinstance(node, ast.ImportFrom) or node.module is None or node.module.split(".", 1)[0] not in OURS:
            continue
        is_package = (ROOT / node.module.replace(".", "/")).is_dir()
        names = [f"{node.module}.{name.name}" for name in node.names] if is_package else [node.module]
        assert set(names) <= allowed, f"{path} imports {set(names) - allowed}"


@pytest.mark.parametrize("path", sources("ingest", "processors", "projections", "conformance"))
def test_consumers_are_stopped_by_what_keeps_their_cancellation_to_themselves(path: str) -> None:
    assert not BARE_STOP.search((ROOT / path).read_text("utf-8")), f"{path}: see events.kafka.stop_consumer"


@pytest.mark.parametrize("path", sources(*OURS))
def test_functions_and_files_stay_small(path: str) -> None:
    text = (ROOT / path).read_text("utf-8")
    assert text.count("\n") <= FILE_LINES_MAX or path.startswith("tests/"), f"{path} is too long"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            assert node.end_lineno - node.lineno < FUNCTION_LINES_MAX, f"{path}: {node.name} does not fit a screen"


@pytest.mark.parametrize("path", sources(*OURS))
def test_nothing_is_left_unfinished_skipped_or_asleep(path: str) -> None:
    words = "|".join(
        ("TO" + "DO", "FIX" + "ME", "X" + "XX", "NotImplemented" + "Error", r"mark\.sk" + "ip", r"time\.sl" + r"eep\(")
    )
    found = re.search(rf"\b({words})", (ROOT / path).read_text("utf-8"))
    assert found is None, f"{path}: {found}"


def test_every_setting_is_documented() -> None:
    told = settings.PAGE.read_text("utf-8")
    readme = (ROOT / "README.md").read_text("utf-8")
    assert "docs/settings.md" in readme, "the README says where they all are"
    for service in settings.SERVICES.values():
        for name, field in service.model_fields.items():
            assert f"`{name.upper()}`" in told, "a setting is new: run python -m deploy.settings"
            assert field.description, f"{name} says nothing of itself"
