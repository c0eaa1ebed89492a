"""The connection of a worker to the trainer, encrypted where the trainer asks for certificates."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import grpc

from biosegment.errors import FailedPrecondition
from biosegment.rpc.tls import Certificate, ChannelTls

_PREFIXES: Final = ("BIOSEGMENT_TRAINER__", "BIOSEGMENT_")
"""On the trainer's machine workers inherit its settings; on others they have a certificate of their own."""
_FILES: Final = ("MTLS_CERTIFICATE_FILE", "MTLS_KEY_FILE", "MTLS_CA_FILE")


def open_channel(address: str, options: Sequence[tuple[str, Any]] = ()) -> grpc.Channel:
    """Connect with the first call.

    Args:
        address: Of the trainer.
        options: Of gRPC.

    Raises:
        FailedPrecondition: BAD_CERTIFICATE, also when the environment names only some of the three files.
    """
    tls = _tls(os.environ)
    if tls is None:
        return grpc.insecure_channel(address, options=options)
    return grpc.secure_channel(address, tls.credentials(), options=[*options, *tls.options])


def _tls(environment: Mapping[str, str]) -> ChannelTls | None:
    found = [
        next((environment[prefix + name] for prefix in _PREFIXES if environment.get(prefix + name)), "")
        for name in _FILES
    ]
    if not any(found):
        return None
    if not all(found):
        raise FailedPrecondition(
            "BAD_CERTIFICATE", f"{', '.join(f'BIOSEGMENT_{name}' for name in _FILES)} must be set together"
        )
    certificate, key, authority = map(Path, found)
    return ChannelTls(authority, Certificate(certificate, key), "trainer")
