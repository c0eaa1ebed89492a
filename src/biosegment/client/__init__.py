"""The SDK: an asynchronous core and its synchronous twin.

client = biosegment.connect()
project = client.projects.create("hippocampus", classes=["mitochondria"])
job = client.jobs.import_volume(project.name, "/data/raw.tif", voxel_size=VoxelSize(5, 5, 5))
volume = client.jobs.wait(job.name).volume
claim = client.samples.claim(project.name, 5)
"""

from __future__ import annotations

from pathlib import Path

from biosegment.client.asynchronous import AsyncClient
from biosegment.client.connection import Connection, default_data_dir, find_connection
from biosegment.client.synchronous import Client

__all__ = [
    "AsyncClient",
    "Client",
    "Connection",
    "aconnect",
    "connect",
    "default_data_dir",
    "find_connection",
]


def connect(address: str = "", *, token: str = "", data_dir: Path | None = None) -> Client:
    """Connect to a platform.

    Args:
        address: host:port of its gRPC port, https://host:port where it is encrypted (with `BIOSEGMENT_CA_FILE` where
            the lab has an authority of its own); found by itself when empty (`BIOSEGMENT_ADDRESS`, else the platform
            that `biosegment up` runs on this machine).
        token: API token; found likewise, or what `biosegment login` kept.
        data_dir: Data folder of `biosegment up`, when it is not the default.

    Raises:
        FailedPrecondition: NOT_RUNNING when no address can be found.
        Unauthenticated: NO_TOKEN when no token can be found.
    """
    return Client(find_connection(address, token, data_dir))


def aconnect(address: str = "", *, token: str = "", data_dir: Path | None = None) -> AsyncClient:
    """Connect as `connect` does, for use within a running event loop."""
    return AsyncClient(find_connection(address, token, data_dir))
