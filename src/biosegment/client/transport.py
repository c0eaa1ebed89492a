"""How to reach a platform: in plain text, or encrypted where its address begins with https://."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Final

from biosegment.errors import FailedPrecondition, InvalidArgument
from biosegment.rpc.tls import ChannelTls

CA_FILE: Final = "BIOSEGMENT_CA_FILE"
"""Variable with the PEM file of the authority that has signed the platform's certificate, where the lab has its own."""

_DEFAULT_PORTS: Final = {"https": "443", "http": "80"}


def transport(address: str) -> tuple[str, ChannelTls | None]:
    """What gRPC calls an address, and how it is encrypted.

    Args:
        address: `host:port` or `http://host:port` for plain text, `https://host:port` for TLS; other targets of gRPC,
            such as `dns:///host:port`, are plain text too.

    Raises:
        InvalidArgument: BAD_ADDRESS.
    """
    scheme, separator, rest = address.partition("://")
    if not separator or scheme not in _DEFAULT_PORTS:
        return address, None
    host = rest.rstrip("/")
    if not host or "/" in host or "@" in host:
        raise InvalidArgument(
            "BAD_ADDRESS", f"address {address!r} is not of the form host:port or {scheme}://host:port"
        )
    if not host.rpartition(":")[2].isdecimal() or host.endswith("]"):
        host = f"{host}:{_DEFAULT_PORTS[scheme]}"
    return host, ChannelTls(_ca_file()) if scheme == "https" else None


def https_context() -> ssl.SSLContext:
    """Trusts the authorities of the system, and that of `BIOSEGMENT_CA_FILE`.

    Raises:
        FailedPrecondition: BAD_CERTIFICATE.
    """
    context = ssl.create_default_context()
    path = _ca_file()
    if path is not None:
        try:
            context.load_verify_locations(path)
        except (OSError, ssl.SSLError) as error:
            raise FailedPrecondition(
                "BAD_CERTIFICATE", f"{CA_FILE}: cannot use {path} as certificates in PEM: {error}"
            ) from error
    return context


def _ca_file() -> Path | None:
    value = os.environ.get(CA_FILE, "")
    return Path(value).expanduser() if value else None
