"""The certificate of the HTTP port, for the TLS of Python's own library."""

from __future__ import annotations

import ssl
import threading
import time
from typing import Final

import structlog

from biosegment.errors import FailedPrecondition
from biosegment.rpc.tls import Certificate

_LOOK_EVERY_S: Final = 1.0

_log = structlog.get_logger("biosegment_gateway.http")


def web_context(certificate: Certificate) -> ssl.SSLContext:
    """A context for a server, whose certificate is read again for new connections when its files change.

    Raises:
        FailedPrecondition: BAD_CERTIFICATE.
    """
    renewal = _Renewal(certificate)
    outer = _context(certificate)
    # Called with each new connection, whether it names a server or not.
    outer.sni_callback = renewal.renew
    return outer


class _Renewal:
    def __init__(self, certificate: Certificate) -> None:
        self._certificate = certificate
        self._age = certificate.age
        self._context: ssl.SSLContext | None = None
        self._look_at = time.monotonic() + _LOOK_EVERY_S
        self._lock = threading.Lock()

    def renew(
        self, connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, outer: ssl.SSLContext
    ) -> None:
        """Give a connection that begins the newest certificate."""
        with self._lock:
            if time.monotonic() >= self._look_at:
                self._look()
        if self._context is not None:
            connection.context = self._context

    def _look(self) -> None:
        self._look_at = time.monotonic() + _LOOK_EVERY_S
        try:
            age = self._certificate.age
            if age != self._age:
                self._context, self._age = _context(self._certificate), age
                _log.info("certificate_renewed", file=str(self._certificate.certificate_file))
        except (OSError, FailedPrecondition) as error:
            # Half of it written: the old one serves until the next look.
            _log.warning("certificate_not_renewed", error=str(error))


def _context(certificate: Certificate) -> ssl.SSLContext:
    certificate.read()  # says what is wrong better than the library does
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate.certificate_file, certificate.key_file)
    except ssl.SSLError as error:
        raise FailedPrecondition(
            "BAD_CERTIFICATE", f"{certificate.certificate_file} cannot be used: {error}"
        ) from error
    return context
