"""Certificates: of a server for the public, of services for one another, and whom a client trusts.

Between services both sides show a certificate that the same authority has signed and that names the service:
`datastore`, `sampler`, `trainer`, `gateway`, and `ray-worker` for workers on other machines. A caller's token counts
only over a connection of the service that signed it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from biosegment.auth import Kind, Principal
from biosegment.errors import FailedPrecondition, Unauthenticated

if TYPE_CHECKING:
    from biosegment.settings import ServiceSettings

RAY_WORKER: Final = "ray-worker"
"""Name in the certificate of Ray workers on other machines."""

_log = structlog.get_logger("biosegment.rpc")


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate with what leads to its authority, and its key; PEM files."""

    certificate_file: Path
    key_file: Path

    def read(self) -> tuple[bytes, bytes]:
        """Key and chain.

        Raises:
            FailedPrecondition: BAD_CERTIFICATE when a file is missing or is none, or the two do not belong together.
        """
        chain, secret = _content(self.certificate_file), _content(self.key_file)
        try:
            certificate = x509.load_pem_x509_certificates(chain)[0]
            key = serialization.load_pem_private_key(secret, password=None)
        except (ValueError, TypeError, IndexError) as error:
            raise FailedPrecondition(
                "BAD_CERTIFICATE",
                f"{self.certificate_file} and {self.key_file} must hold a certificate and its key without a password, "
                f"as PEM: {error}",
            ) from error
        kind, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        if certificate.public_key().public_bytes(kind, form) != key.public_key().public_bytes(kind, form):
            raise FailedPrecondition(
                "BAD_CERTIFICATE", f"the key in {self.key_file} is not that of {self.certificate_file}"
            )
        return secret, chain

    @property
    def age(self) -> tuple[int, ...]:
        """Changes when a file does."""
        return tuple(path.stat().st_mtime_ns for path in (self.certificate_file, self.key_file))


@dataclass(frozen=True, slots=True)
class ServerTls:
    """What a server shows, and whom it lets connect.

    Attributes:
        certificate: Its own; read again when its files change, for new connections.
        ca_file: Of the authority that must have signed the client's certificate; None lets everybody connect.
    """

    certificate: Certificate
    ca_file: Path | None = None

    def credentials(self) -> grpc.ServerCredentials:
        """For `add_secure_port`; FailedPrecondition BAD_CERTIFICATE."""
        source = _Source(self)
        # None says that nothing has changed, which the stubs do not know.
        renewed: Any = source.renewed
        made: grpc.ServerCredentials = grpc.dynamic_ssl_server_credentials(
            source.read(), renewed, require_client_authentication=self.ca_file is not None
        )
        return made


@dataclass(frozen=True, slots=True)
class ChannelTls:
    """Whom a client trusts, and what it shows.

    Attributes:
        ca_file: Of the authority that must have signed the server's certificate; None for those of the system.
        certificate: Its own, where the server wants one; read when the channel is made.
        peer_name: That the server's certificate must have; '' for the host of the address.
    """

    ca_file: Path | None = None
    certificate: Certificate | None = None
    peer_name: str = ""

    def credentials(self) -> grpc.ChannelCredentials:
        """For `secure_channel`; FailedPrecondition BAD_CERTIFICATE."""
        key, chain = self.certificate.read() if self.certificate else (None, None)
        made: grpc.ChannelCredentials = grpc.ssl_channel_credentials(_authority(self.ca_file), key, chain)
        return made

    @property
    def options(self) -> list[tuple[str, Any]]:
        """Of the channel."""
        return [("grpc.ssl_target_name_override", self.peer_name)] if self.peer_name else []


@dataclass(frozen=True, slots=True)
class MutualTls:
    """What one service shows to the others, as their server and as their client."""

    certificate: Certificate
    ca_file: Path

    @property
    def server(self) -> ServerTls:
        return ServerTls(self.certificate, self.ca_file)

    def towards(self, service: str) -> ChannelTls:
        """For a channel to another service, which must show that it is this one."""
        return ChannelTls(self.ca_file, self.certificate, service)


def mutual_tls(settings: ServiceSettings) -> MutualTls | None:
    """What the settings of a service say; None where they name no certificates."""
    files = settings.mtls_certificate_file, settings.mtls_key_file, settings.mtls_ca_file
    if not (files[0] and files[1] and files[2]):
        return None
    return MutualTls(Certificate(files[0], files[1]), files[2])


def towards(tls: MutualTls | None, service: str) -> ChannelTls | None:
    """As `MutualTls.towards`, None where nothing is encrypted."""
    return tls.towards(service) if tls is not None else None


def require_peer(principal: Principal, context: Any) -> None:
    """Check that a call came over a connection of the service that vouches for its caller.

    Raises:
        Unauthenticated: WRONG_PEER.
    """
    allowed = {
        Kind.USER: ("gateway",),
        Kind.SERVICE: (principal.subject,),
        Kind.JOB: ("trainer", RAY_WORKER),
    }[principal.kind]
    shown = context.auth_context()
    names = {
        name.decode("utf-8", "replace")
        for kind in ("x509_subject_alternative_name", "x509_common_name")
        for name in shown.get(kind, ())
    }
    if not names.intersection(allowed):
        raise Unauthenticated(
            "WRONG_PEER",
            f"calls of {principal} come from {' or '.join(allowed)}; the certificate names {sorted(names)}",
        )


def secure_channel(address: str, tls: ChannelTls | None, **arguments: Any) -> grpc.aio.Channel:
    """An asynchronous channel, encrypted where `tls` says how; arguments as for `grpc.aio.insecure_channel`."""
    if tls is None:
        return grpc.aio.insecure_channel(address, **arguments)
    options = [*arguments.pop("options", ()), *tls.options]
    return grpc.aio.secure_channel(address, tls.credentials(), options=options, **arguments)


@dataclass(slots=True)
class _Source:
    """Reads a server's files, and again when they have changed; called by gRPC with each new connection."""

    tls: ServerTls
    age: tuple[int, ...] = ()
    lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self) -> grpc.ServerCertificateConfiguration:
        """What the files hold; FailedPrecondition BAD_CERTIFICATE."""
        try:
            self.age = self._present_age()
        except OSError as error:
            raise FailedPrecondition(
                "BAD_CERTIFICATE", f"cannot read {error.filename}: {error.strerror}"
            ) from error
        key, chain = self.tls.certificate.read()
        authority = _authority(self.tls.ca_file)
        return grpc.ssl_server_certificate_configuration([(key, chain)], root_certificates=authority)

    def renewed(self) -> grpc.ServerCertificateConfiguration | None:
        with self.lock:
            try:
                if self._present_age() == self.age:
                    return None
                made = self.read()
            except (OSError, FailedPrecondition) as error:
                # Half of it written: the old one serves until the next connection looks again.
                self.age = ()
                _log.warning("certificate_not_renewed", error=str(error))
                return None
        _log.info("certificate_renewed", file=str(self.tls.certificate.certificate_file))
        return made

    def _present_age(self) -> tuple[int, ...]:
        authority = () if self.tls.ca_file is None else (self.tls.ca_file.stat().st_mtime_ns,)
        return (*self.tls.certificate.age, *authority)


def _authority(ca_file: Path | None) -> bytes | None:
    if ca_file is None:
        return None
    content = _content(ca_file)
    try:
        x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise FailedPrecondition(
            "BAD_CERTIFICATE", f"{ca_file} holds no certificates as PEM: {error}"
        ) from error
    return content


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FailedPrecondition("BAD_CERTIFICATE", f"cannot read {path}: {error.strerror}") from error
