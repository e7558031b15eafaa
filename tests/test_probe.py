"""The health check of the image: it asks the service that process 1 runs, and believes nothing but its own word."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from deploy.local.broker import free_port
from events.probe import main, service_of


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """The port of a server that answers everything so."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            """Quiet."""

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield str(server.server_address[1])
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b'{"status":"ok"}', 0),
        (200, b'{"status":"taking over partitions"}', 1),
        (503, b'{"status":"full"}', 1),
        (503, b'{"status":"ok"}', 1),
        (200, b"[]", 1),
        (200, b"<html>", 1),
    ],
)
def test_only_ok_with_200_is_well(status: int, body: bytes, expected: int) -> None:
    with answering(status, body) as port:
        assert main(["projections"], {"PROJECTIONS_PORT": port}) == expected


def test_a_service_that_does_not_answer_is_not_well() -> None:
    assert main(["ingest"], {"INGEST_PORT": str(free_port())}) == 1


def test_an_unknown_service_is_a_mistake_of_the_caller() -> None:
    assert main(["kafka"], {}) == 2


@pytest.mark.parametrize(
    ("command_line", "expected"),
    [
        (["python", "-m", "ingest"], "ingest"),
        (["/sbin/docker-init", "--", "python", "-m", "processors"], "processors"),
        (["python", "-m", "processors", "replay", "--to-prefix", "projections"], None),
        (["/sbin/docker-init", "--", "python", "-m", "ingest", "poll"], "polling"),
        (["python", "-m", "processors", "replay", "--resume"], None),
        (["/sbin/init"], None),
        ([], None),
    ],
)
def test_the_service_is_read_off_the_command_line_of_process_1(command_line: list[str], expected: str | None) -> None:
    assert service_of(command_line) == expected
