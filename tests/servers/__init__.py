"""Real servers for tests, each a context manager on a free port: an S3 emulator, Ceph radosgw, PostgreSQL."""

from tests.servers.moto import moto_s3
from tests.servers.postgres import postgres
from tests.servers.radosgw import radosgw_s3
from tests.servers.s3 import S3Server

__all__ = ["S3Server", "moto_s3", "postgres", "radosgw_s3"]
