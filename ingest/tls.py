"""TLS for a door without a proxy: version 1.2 or later, and a renewed certificate without a restart."""

import asyncio
import ssl
from pathlib import Path
from typing import Final

import structlog

from events.settings import ConfigurationError

LOOK_S: Final = 1.0

log = structlog.get_logger()


class Tls:
    """A certificate (PEM, with its chain) and its key; `context` always serves the last pair that fitted."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Raises ConfigurationError when the files cannot be used."""
        self._certificate = certificate
        self._key = key
        self._seen = self._state()
        try:
            self.context = self._loaded()
        except (OSError, ssl.SSLError) as error:
            message = (
                f"INGEST_TLS_CERTIFICATE_FILE, INGEST_TLS_KEY_FILE: they cannot be used ({error});"
                " give a readable PEM certificate and its key"
            )
            raise ConfigurationError(message) from None

    def _loaded(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._certificate, self._key)
        return context

    def _state(self) -> tuple[int, ...]:
        try:
            found = (self._certificate.stat(), self._key.stat())
        except OSError:
            return ()
        return tuple(number for one in found for number in (one.st_mtime_ns, one.st_ino, one.st_size))

    async def watch(self) -> None:
        """Take up changed files until cancelled; a pair that does not fit (half of it renewed) changes nothing."""
        while True:
            await asyncio.sleep(LOOK_S)
            state = self._state()
            if state != self._seen:
                self._seen = state
                self._reload()

    def _reload(self) -> None:
        try:
            self._loaded()  # tried on a context of its own: a failure must not leave the live one half changed
            self.context.load_cert_chain(self._certificate, self._key)
        except (OSError, ssl.SSLError) as error:
            log.warning("the TLS files changed and do not fit; the old certificate stays", error=type(error).__name__)
        else:
            log.info("TLS certificate reloaded")
