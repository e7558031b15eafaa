"""Appending to a journal from a test: the future of what the journal will tell."""

import asyncio

from ingest.journal import Journal


class RefusedError(Exception):
    """The disk refused the record's group."""


def appended(journal: Journal, payload: bytes) -> "asyncio.Future[int]":
    """The record's sequence once it is durable, or RefusedError; raises JournalFullError at once."""
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def told(sequence: int | None) -> None:
        if sequence is None:
            future.set_exception(RefusedError())
        elif not future.done():
            future.set_result(sequence)

    journal.append(payload, told)
    return future
