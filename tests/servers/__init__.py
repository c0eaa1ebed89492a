"""Real servers for tests, each a context manager on a free port: an S3 emulator, Ceph radosgw, PostgreSQL."""

from tests.servers.environment import environment_bucket, environment_s3
from tests.servers.moto import moto_s3
from tests.servers.postgres import PostgresServer, postgres, postgres_server
from tests.servers.proxy import Proxy, Weather, bad_network
from tests.servers.radosgw import RadosgwServer, radosgw_s3
from tests.servers.s3 import S3Server

__all__ = [
    "PostgresServer",
    "Proxy",
    "RadosgwServer",
    "S3Server",
    "Weather",
    "bad_network",
    "environment_bucket",
    "environment_s3",
    "moto_s3",
    "postgres",
    "postgres_server",
    "radosgw_s3",
]
