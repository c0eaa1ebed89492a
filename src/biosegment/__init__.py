"""BioSegment: active-learning segmentation of volume electron microscopy.

    import biosegment

    client = biosegment.connect()          # or `async with biosegment.aconnect() as client`

Services and workers import parts of this package too; the client is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from biosegment.errors import (
    AlreadyExists,
    BiosegmentError,
    Conflict,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from biosegment.volume import Index, Region, VoxelSize

if TYPE_CHECKING:
    from biosegment.client import AsyncClient, Client, aconnect, connect

__version__ = "2.0.0a1"

_CLIENT = ("AsyncClient", "Client", "aconnect", "connect")

__all__ = [
    "AlreadyExists",
    "AsyncClient",
    "BiosegmentError",
    "Client",
    "Conflict",
    "DeadlineExceeded",
    "FailedPrecondition",
    "Index",
    "Internal",
    "InvalidArgument",
    "NotFound",
    "PermissionDenied",
    "Region",
    "ResourceExhausted",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "VoxelSize",
    "aconnect",
    "connect",
]


def __getattr__(name: str) -> Any:
    if name in _CLIENT:
        from biosegment import client

        return getattr(client, name)
    raise AttributeError(f"module 'biosegment' has no attribute {name!r}")
