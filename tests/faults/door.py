"""Ingest as a process of its own, to be killed, and what it says of its journal."""

import asyncio
import json
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.load import Connection
from deploy.local.broker import free_port
from events.kafka import KafkaSettings
from tests.system import Service, kafka_environment
from tests.waiting import eventually

HEALTH = b"GET /webhook/3cx/health HTTP/1.1\r\nHost: faults\r\n\r\n"


class DoorProcess:
    """``python -m ingest`` on a port that stays the same; its journal is in `data_dir`, its output in `log`."""

    def __init__(self, kafka: KafkaSettings, data_dir: Path, log: Path, **environment: str) -> None:
        """Nothing is started yet."""
        self.port = free_port()
        self.data_dir = data_dir
        self.log = log
        self._environment = {
            **kafka_environment(kafka),
            "DATA_DIR": str(data_dir),
            "INGEST_PORT": str(self.port),
            **environment,
        }
        self.service: Service | None = None

    @property
    def running(self) -> Service:
        """The process that was started last."""
        if self.service is None:
            raise AssertionError
        return self.service

    def start(self, wrapper: Sequence[str] = ()) -> None:
        """Start it, by a command that becomes it."""
        self.service = Service("ingest", self._environment, self.log, wrapper=wrapper)

    def kill(self) -> None:
        """SIGKILL, whether it runs or not."""
        if self.service is not None:
            self.service.kill()

    async def freeze(self) -> None:
        """Stop it where it is; a thread that waits for the disk stops as soon as the disk has answered."""
        self.running.send(signal.SIGSTOP)
        status = Path(f"/proc/{self.running.pid}/stat")

        async def state() -> str:
            return status.read_text("ascii", "replace").rsplit(")", 1)[1].split()[0]

        await eventually(state, lambda seen: seen in "Tt")  # t: stopped, and traced

    async def health(self) -> dict[str, Any] | None:
        """What it says; null when it says nothing."""
        try:
            async with asyncio.timeout(5):
                loop = asyncio.get_running_loop()
                _, connection = await loop.create_connection(Connection, "127.0.0.1", self.port)
                try:
                    await connection.exchange(HEALTH)
                finally:
                    connection.close()
        except OSError:
            return None
        told: dict[str, Any] = json.loads(connection.body)
        return told

    async def accepting(self, timeout_s: float = 60) -> dict[str, Any]:
        """Wait until it says that it accepts."""

        def is_well(told: dict[str, Any] | None) -> bool:
            if self.running.returncode is not None:
                raise AssertionError(f"ingest ended: {self.log.read_text('utf-8', 'replace')[-2000:]}")
            return told is not None and told["status"] == "ok"

        told = await eventually(self.health, is_well, timeout_s)
        return told or {}

    async def drained(self, timeout_s: float = 300) -> None:
        """Wait until Kafka has everything."""
        await eventually(self.health, lambda told: told is not None and told["journal"]["records"] == 0, timeout_s)
