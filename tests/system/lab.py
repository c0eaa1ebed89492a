"""A platform as a lab has it, on PostgreSQL and an S3 server: the four processes, or several datastores alone."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from biosegment_trainer.compute.ray_folder import default_folder
from biosegment_trainer.settings import TrainerSettings

from biosegment.auth import SERVICES, Kind, Principal, PrincipalSigner, generate_key
from biosegment.client import Client, connect
from biosegment.failpoint import VARIABLE
from biosegment.rpc import channel as rpc
from biosegment.supervisor import Addresses, Supervisor
from tests.rpc.datastore_server import Caller
from tests.servers import PostgresServer, RadosgwServer
from tests.servers.port import free_port

_UNUSED = {
    "BIOSEGMENT_SIGNING_KEY_FILE": "/",
    "BIOSEGMENT_PUBLIC_KEYS_DIR": "/",
    "BIOSEGMENT_TRAINER__DATASTORE_ADDRESS": "nowhere:1",
}
PASSWORD = "a-password-that-nobody-may-see"


@dataclass(frozen=True, slots=True)
class Backends:
    """The servers of a lab.

    Attributes:
        postgres: With one database for each service.
        s3: The object storage.
    """

    postgres: PostgresServer
    s3: RadosgwServer

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no log, error or file may hold."""
        return PASSWORD, self.s3.secret_access_key

    def shared(self, bucket: str) -> dict[str, str]:
        """Settings of all services."""
        return {
            "BIOSEGMENT_OBJECT_STORE_URL": f"s3://{bucket}/data",
            "BIOSEGMENT_S3_ENDPOINT_URL": self.s3.endpoint_url,
            "BIOSEGMENT_S3_ACCESS_KEY_ID": self.s3.access_key_id,
            "BIOSEGMENT_S3_SECRET_ACCESS_KEY": self.s3.secret_access_key,
        }

    def database(self, service: str, name: str) -> dict[str, str]:
        """The setting of one service's database, which is made."""
        self.postgres.create_database(name)
        return {f"BIOSEGMENT_{service.upper()}__DATABASE_URL": self.postgres.url(name, PASSWORD)}


@dataclass
class Lab:
    """The platform, run by a supervisor in a thread of this process.

    Attributes:
        data_dir: Keys, logs and token; neither voxels nor rows.
        said: What the supervisor said: that services ended, and nothing else.
    """

    data_dir: Path
    backends: Backends
    environment: dict[str, str]
    import_root: Path
    addresses: Addresses | None = None
    said: list[str] = field(default_factory=list)

    def start(self) -> None:
        self._loop = asyncio.new_event_loop()
        # The services die with the thread that started them, which is why it lives as long as they do.
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._supervisor = Supervisor(
            self.data_dir,
            grpc_port=0,
            http_port=0,
            import_roots=[self.import_root],
            environment=self.environment,
            say=self.said.append,
        )
        self.addresses = asyncio.run_coroutine_threadsafe(self._supervisor.start(), self._loop).result(200)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._supervisor.stop(), self._loop).result(200)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def connect(self) -> Client:
        return connect(data_dir=self.data_dir)

    @property
    def ray_dir(self) -> Path:
        """Where Ray and the workers write their logs."""
        url = TrainerSettings.load("trainer", {**self.environment, **_UNUSED}).database_url
        return default_folder(url)

    @property
    def http(self) -> str:
        assert self.addresses is not None
        return f"http://{self.addresses.http}"

    @property
    def token(self) -> str:
        return (self.data_dir / "token").read_text().strip()


@contextmanager
def running_lab(folder: Path, backends: Backends, import_root: Path) -> Iterator[Lab]:
    environment = backends.shared("lab")
    for service in SERVICES:
        environment |= backends.database(service, service)
    environment |= {"BIOSEGMENT_TRAINER__RAY_CPUS": "1", "BIOSEGMENT_TRAINER__SHIPPED_BUNDLES_DIR": ""}
    lab = Lab(folder / "data", backends, environment, import_root)
    try:
        lab.start()
        yield lab
    finally:
        lab.stop()


@dataclass
class Replica:
    """One of several datastore processes that share a database and a bucket.

    Attributes:
        folder: Its log and its failpoint.
        keys: Of all services.
        environment: Shared settings.
    """

    folder: Path
    keys: Path
    environment: dict[str, str]
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.folder / "datastore.log"

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        own = {
            "BIOSEGMENT_DATASTORE__LISTEN": f"127.0.0.1:{self.port}",
            "BIOSEGMENT_DATASTORE__SIGNING_KEY_FILE": str(self.keys / "datastore.key"),
            "BIOSEGMENT_PUBLIC_KEYS_DIR": str(self.keys),
            "BIOSEGMENT_DATASTORE__PROJECTION_LEASE_S": "2",
            VARIABLE: str(self.folder / "failpoint"),
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "biosegment_datastore"],
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment, **own},
            )

    def arm(self, point: str) -> None:
        """Let it die at `point`."""
        (self.folder / "failpoint").write_text(point)

    @property
    def has_died(self) -> bool:
        assert self.process is not None
        return self.process.poll() == -signal.SIGKILL

    def stop(self) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(30)

    def caller(self, user: str) -> Caller:
        signer = PrincipalSigner("gateway", self.keys / "gateway.key")
        token = rpc.ServiceCredentials(signer, "datastore").token
        principal = Principal(Kind.USER, user)
        channel = rpc.connect(f"127.0.0.1:{self.port}", credentials=lambda: token(principal))
        return Caller(channel)


def replicas(folder: Path, backends: Backends, import_root: Path, count: int = 2) -> list[Replica]:
    """Datastores, not started, on a new database and bucket."""
    keys = folder / "keys"
    for service in SERVICES:
        generate_key(service, keys)
    environment = {
        **backends.shared("replicas"),
        **backends.database("datastore", "replicas"),
        "BIOSEGMENT_DATASTORE__IMPORT_ROOTS": str(import_root),
    }
    return [Replica(folder / f"replica-{number}", keys, environment) for number in range(count)]
