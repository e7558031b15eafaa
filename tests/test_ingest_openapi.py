"""The door does what its OpenAPI document says: schemathesis, every phase that applies.

Two of its checks are left out, since no schema says which bodies can be read: that reading is tolerant is the point.
"""

import asyncio
import subprocess
import sys
from pathlib import Path

from tests.doors import opened

EXAMPLES = "15"


async def test_schemathesis_finds_no_answer_that_is_not_declared(tmp_path: Path) -> None:
    async with opened(tmp_path, ingest_webhook_secrets="first") as rig:
        ran = await asyncio.to_thread(
            subprocess.run,
            [
                *(
                    str(Path(sys.executable).parent / "schemathesis"),
                    "run",
                    f"http://127.0.0.1:{rig.port}/openapi.json",
                ),
                *("--header", "X-Webhook-Secret: first", "--max-examples", EXAMPLES, "--seed", "1"),
                *("--phases", "examples,coverage,fuzzing,stateful", "--request-timeout", "10"),
                *("--exclude-checks", "positive_data_acceptance,negative_data_rejection"),
            ],
            cwd=tmp_path,
            capture_output=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout.decode()[-6_000:]
        assert await rig.kept(), "some were accepted"
