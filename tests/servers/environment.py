from __future__ import annotations

import os

import pytest

from tests.servers.s3 import S3Server

PREFIX = "BIOSEGMENT_TEST_S3_"


def environment_s3() -> S3Server:
    """The endpoint that environment variables name: MinIO, or any other; see docs/operations.md."""
    names = ("ENDPOINT_URL", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY")
    values = [os.environ.get(PREFIX + name, "") for name in names]
    if not all(values):
        pytest.skip(f"no S3 endpoint is given by {', '.join(PREFIX + name for name in names)}")
    return S3Server(*values, region=os.environ.get(PREFIX + "REGION", "us-east-1"))


def environment_bucket() -> str:
    """Its bucket; made when it is absent and left, without what a test put there."""
    return os.environ.get(PREFIX + "BUCKET", "biosegment-test")
