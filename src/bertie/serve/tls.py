"""HTTPS from certificate files, which may be replaced while the server runs."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from bertie.errors import UsageError

LOG = logging.getLogger("bertie")


class Certificate:
    """A certificate and its key, on disk and as a context for connections.

    `context` stays the same object; new connections get what the files held when they were last read.
    """

    def __init__(self, cert: Path, key: Path) -> None:
        """Read both. Raises UsageError where one is missing, or they do not belong together."""
        self.cert, self.key = cert, key
        self._stamp = self._now()
        self.context = self._current = self._read()
        self.pair = self._bytes()
        """Key and chain as they are in use, in PEM."""
        # The new one is chosen for each handshake, whole: replacing certificate and key within a context is two
        # steps, and one that fails after the first would leave no usable pair.
        self.context.sni_callback = self._choose

    def refresh(self) -> None:
        """Read the files again if they have changed. Where that fails, the certificate stays as it was."""
        stamp = self._now()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._current, self.pair = self._read(), self._bytes()
        except UsageError as error:
            # As when only one of the two is replaced so far; the other one changes the stamp once more.
            LOG.error("the certificate stays as it was: %s", error.what)  # noqa: TRY400 - the sentence says it all
        else:
            LOG.info("read the certificate again")

    def _choose(self, connection: ssl.SSLObject, _: str | None, __: ssl.SSLContext) -> None:
        connection.context = self._current

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        for path, flag in ((self.cert, "--tls-cert"), (self.key, "--tls-key")):
            if not path.is_file():
                raise UsageError(f"there is no file {path}.", hint=f"check {flag}")
        try:
            context.load_cert_chain(self.cert, self.key, password=self._no_passphrase)
        except ssl.SSLError as error:
            reason = (error.reason or "neither PEM").lower().replace("_", " ")
            raise UsageError(
                f"{self.cert} and {self.key} are no certificate with its key: {reason}.",
                expected="a chain in PEM that begins with the server's own certificate, and that one's key",
            ) from None
        except OSError as error:
            raise UsageError(f"cannot read {self.cert} or {self.key}: {error.strerror}.") from None
        return context

    def _bytes(self) -> tuple[bytes, bytes]:
        return self.key.read_bytes(), self.cert.read_bytes()

    def _no_passphrase(self) -> str:
        # Without this OpenSSL would ask for it in the terminal, and wait.
        raise UsageError(f"{self.key} has a passphrase.", hint="openssl pkey -in KEY -out PLAIN_KEY takes it away")

    def _now(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_stamp(path) for path in (self.cert, self.key))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def certificate(cert: Path | None, key: Path | None) -> Certificate | None:
    """Return the certificate, None where there is none. Raises UsageError, also where one file of two is given."""
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise UsageError("a certificate needs its key, and a key its certificate.", hint="--tls-cert and --tls-key")
    return Certificate(cert, key)
