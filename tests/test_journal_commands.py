"""``python -m ingest journal``: read-only commands beside a running ingest, and records sent again."""

import asyncio
import base64
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from events.kafka import KafkaSettings
from ingest.journal import Journal
from tests.journals import appended
from tests.system import kafka_environment, read_committed
from tests.test_forwarder_on_kafka import webhook, webhook_ids
from tests.test_journal import running

NO_KAFKA = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}


class Done(NamedTuple):
    """A command that has ended."""

    status: int | None
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


async def command(data_dir: Path, *arguments: str, kafka: dict[str, str] | None = None) -> Done:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ingest", "journal", *arguments),
        env={**os.environ, **(kafka or NO_KAFKA), "DATA_DIR": str(data_dir)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return Done(process.returncode, out.decode(), err.decode())


@asynccontextmanager
async def ten(data_dir: Path) -> AsyncIterator[Journal]:
    """A running journal with ten webhooks in two files."""
    async with running(data_dir / "journal") as journal:
        for number in range(10):
            await appended(journal, webhook(number, 10_000))
        yield journal


def snapshot(data_dir: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (data_dir / "journal").iterdir()}


async def test_list_verify_and_export_work_beside_a_running_ingest_and_change_nothing(tmp_path: Path) -> None:
    async with ten(tmp_path) as journal:
        before = snapshot(tmp_path)
        listed, verified = await command(tmp_path, "list"), await command(tmp_path, "verify")
        files, records = await command(tmp_path, "list", "--json"), await command(tmp_path, "list", "--records")
        exported = await command(tmp_path, "export")
        assert snapshot(tmp_path) == before
        assert {done.status for done in (listed, verified, files, records, exported)} == {0}
        assert f"instance {journal.instance}: 2 files, 10 records" in listed.out
        assert sum(row["records"] for row in files.lines) == 10
        assert verified.out == "10 records check; 0 bytes are damaged, 0 records cannot be decoded\n"
        assert "(100 %)" in verified.err
        assert [line["id"] for line in records.lines] == [f"id-{number}" for number in range(10)]
        assert {line["bytes"] for line in records.lines} == {10_000}
        assert "eHh4" not in records.out, "what is in a body is not shown"
        assert {base64.b64decode(line["body"]) for line in exported.lines} == {b"x" * 10_000}


async def test_verify_names_the_damage_and_export_keeps_it_and_both_say_so_by_their_status(tmp_path: Path) -> None:
    async with ten(tmp_path) as journal:
        await appended(journal, b"no webhook")
        path = min((tmp_path / "journal").glob("*.segment"))
        data = bytearray(path.read_bytes())
        data[15_000] ^= 1
        path.write_bytes(data)
        verified = await command(tmp_path, "verify")
        assert verified.status == 1
        assert f"{path.name}: bytes 10" in verified.out
        assert "1 records cannot be decoded; they go to the dead letters" in verified.out
        assert verified.out.endswith("10 records check; 10,148 bytes are damaged, 1 records cannot be decoded\n")
        output = tmp_path / "export"
        exported = await command(tmp_path, "export", "--output", str(output))
        assert (exported.status, exported.out) == (1, "")
        lines = [json.loads(line) for line in output.read_text("utf-8").splitlines()]
        (damage,) = [line for line in lines if "damaged" in line]
        assert base64.b64decode(damage["damaged"]) == bytes(data[damage["begin"] : damage["end"]])
        assert len(lines) == 11
        again = await command(tmp_path, "export", "--output", str(output))
        assert (again.status, len(again.err.splitlines())) == (2, 1)
        assert "is there already; name a new file" in again.err


async def test_resend_of_a_folder_refuses_beside_ingest_and_sends_the_same_names_after_it_and_changes_nothing(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    async with ten(tmp_path) as journal:
        refused = await command(tmp_path, "resend", kafka=kafka_environment(kafka))
        assert refused.status == 2
        assert "another ingest process has the journal" in refused.err
        assert len(refused.err.splitlines()) == 1
        instance = journal.instance
    before = snapshot(tmp_path)
    done = [await command(tmp_path, "resend", kafka=kafka_environment(kafka)) for _ in range(2)]
    assert [(one.status, one.out) for one in done] == [(0, "Kafka acknowledged 10 records\n")] * 2
    assert "10 / 10 records (100 %)" in done[0].err
    assert snapshot(tmp_path) == before
    sent = [dict(record.headers) for record in await read_committed(kafka, kafka.topic_set.webhooks)]
    assert {one["ingest"].decode() for one in sent} == {instance}
    assert [one["ingest_sequence"] for one in sent] == [b"%d" % number for number in (*range(1, 11), *range(1, 11))]
    assert await webhook_ids(kafka) == [f"id-{number}" for number in range(10)]


async def test_resend_of_an_export_works_beside_ingest_under_a_new_instance_with_the_old_ids(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    async with ten(tmp_path) as journal:
        output = tmp_path / "export"
        assert (await command(tmp_path, "export", "--output", str(output))).status == 0
        done = await command(tmp_path, "resend", "--export", str(output), kafka=kafka_environment(kafka))
        assert (done.status, done.out) == (0, "Kafka acknowledged 10 records\n"), done.err
        sent = [dict(record.headers) for record in await read_committed(kafka, kafka.topic_set.webhooks)]
        assert len({one["ingest"] for one in sent} - {journal.instance.encode()}) == 1
        assert await webhook_ids(kafka) == [f"id-{number}" for number in range(10)]
        output.write_text('{"a": 1}\n', "utf-8")
        wrong = await command(tmp_path, "resend", "--export", str(output))
        assert (wrong.status, len(wrong.err.splitlines())) == (2, 1)
        assert "line 1: it is no record of an export" in wrong.err


async def test_without_a_journal_every_command_says_so_in_one_sentence_and_makes_none(tmp_path: Path) -> None:
    for name in ("list", "verify", "export", "resend"):
        done = await command(tmp_path / "nothing", name)
        assert (done.status, len(done.err.splitlines())) == (2, 1), done.err
        assert "there is no journal in" in done.err
    assert not (tmp_path / "nothing").exists()
