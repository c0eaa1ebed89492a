from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import postgres_server, radosgw_s3
from tests.system.lab import Backends


@pytest.fixture(scope="session")
def backends() -> Iterator[Backends]:
    """PostgreSQL and Ceph's S3 gateway, 20 s to start."""
    with postgres_server() as postgres, radosgw_s3() as s3:
        yield Backends(postgres, s3)
