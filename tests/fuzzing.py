"""Coverage-guided bytes for reading: ``python -m tests.fuzzing -max_total_time=1200``, where atheris is installed.

Whatever the body and its content type: reading gives a value and raises nothing, `/test` can tell it as JSON, and
neither takes longer than the door would wait. The corpus of bodies is the seed; what fails is written to a file.
"""

import json
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import atheris

with atheris.instrument_imports(include=["events"]):
    from events import reading
    from events.pbx import DateOrder, Pbx

AT: Final = datetime(2026, 11, 24, 10, 0, 0, 123456, tzinfo=UTC)
TYPES: Final = (
    None,
    "application/json",
    "application/x-www-form-urlencoded",
    "text/plain; charset=",
    "application/json; charset=utf-7",
)
PBXS: Final = (
    Pbx(),
    Pbx(timezone="Europe/Zurich", date_order=DateOrder.DMY, country="CH"),
    Pbx(timezone="America/New_York", date_order=DateOrder.MDY, country="US"),
)
ANSWER_S_MAX: Final = 1.0


def one(data: bytes) -> None:
    """The first byte chooses type and PBX, the rest is the body."""
    chosen, body = (data[0], data[1:]) if data else (0, b"")
    content_type = TYPES[chosen % len(TYPES)]
    pbx = PBXS[chosen // len(TYPES) % len(PBXS)]
    began = time.process_time()
    reading.read(body, content_type, AT, pbx)
    reading.agent_key(reading.read(body, content_type, AT, pbx))
    json.dumps(reading.explain(body, content_type, AT, pbx).model_dump(mode="json"))
    if time.process_time() - began > ANSWER_S_MAX:
        message = "reading took too long"
        raise AssertionError(message)


def main() -> None:
    """Seed the corpus and go on until libFuzzer's own options say stop."""
    with tempfile.TemporaryDirectory() as folder:
        for path in (Path(__file__).parent / "corpus" / "bodies").glob("*.json"):
            for number, entry in enumerate(json.loads(path.read_text("utf-8"))):
                body = str(entry.get("body", entry)).encode("utf-8", "replace")
                (Path(folder) / f"{path.stem}-{number}").write_bytes(b"\0" + body)
        atheris.Setup([*sys.argv, "-max_len=65536", folder], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
