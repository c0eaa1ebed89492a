"""Real servers for tests, each a context manager on a free port: an S3 emulator, Ceph radosgw, PostgreSQL."""

from tests.servers.moto import moto_s3
from tests.servers.postgres import PostgresServer, postgres, postgres_server
from tests.servers.radosgw import RadosgwServer, radosgw_s3
from tests.servers.s3 import S3Server

__all__ = [
    "PostgresServer",
    "RadosgwServer",
    "S3Server",
    "moto_s3",
    "postgres",
    "postgres_server",
    "radosgw_s3",
]
