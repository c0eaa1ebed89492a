"""The embedded default: all four services on this machine, as child processes of one that looks after them.

Everything lives below one data folder:

    objects/   voxels, annotation blocks, models      db/    one SQLite file per service
    keys/      signing keys                           logs/  one file per service
    token      the administrator's API token          run/   lock, connection.json
"""

from __future__ import annotations

import asyncio
import fcntl
import importlib.util
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from biosegment.auth import SERVICES, generate_key
from biosegment.client.connection import connection_file
from biosegment.errors import FailedPrecondition, Unavailable
from biosegment.failpoint import VARIABLE as FAILPOINT_FILE
from biosegment.parent import SUPERVISOR
from biosegment.port import listen_anywhere
from biosegment.rpc.runtime import keep_grpc

DEFAULT_GRPC_PORT: Final = 7310
DEFAULT_HTTP_PORT: Final = 7311

_STOP_ORDER: Final = ("gateway", "sampler", "trainer", "datastore")
MALLOC: Final = {
    # glibc gives memory of big messages back to the system at once otherwise; streams are three times slower then.
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "MALLOC_TOP_PAD_": "67108864",
    # Each thread would keep what it freed for itself: twice the memory when many regions are read at once.
    "MALLOC_ARENA_MAX": "2",
}
_NEEDED: Final = {
    "datastore": ("sqlalchemy", "tensorstore", "tifffile"),
    "sampler": ("sqlalchemy", "tensorstore"),
    "trainer": ("sqlalchemy", "tensorstore", "torch", "monai", "ray"),
    "gateway": (
        "argon2",
        "httpx",
        "sqlalchemy",
        "starlette",
        "uvicorn",
        "python_multipart",
        "nibabel",
        "nrrd",
    ),
}


@dataclass(frozen=True, slots=True)
class Addresses:
    """host:port of every gRPC server, of the gateway's HTTP server, and of health checks where a port is encrypted."""

    grpc: dict[str, str]
    http: str
    health: dict[str, str] = field(default_factory=dict)


class Supervisor:
    """Starts the services, restarts those that die, and stops them in order."""

    def __init__(
        self,
        data_dir: Path,
        *,
        grpc_port: int = DEFAULT_GRPC_PORT,
        http_port: int = DEFAULT_HTTP_PORT,
        import_roots: Sequence[Path] = (),
        environment: dict[str, str] | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        """Nothing is started yet.

        Args:
            data_dir: Where everything is kept; made when missing.
            grpc_port: Port of the gateway on loopback; 0 takes a free one.
            http_port: Its HTTP port; likewise.
            import_roots: Folders that imports by path may read.
            environment: Further settings of the services, and others in place of the defaults here: those of one as
                `BIOSEGMENT_TRAINER__...`, those that all share as `BIOSEGMENT_OBJECT_STORE_URL` and the like.
            say: Told what happens, one line at a time.
        """
        self.data_dir = data_dir.resolve()
        self._ports = (grpc_port, http_port)
        self._import_roots = [root.resolve() for root in import_roots]
        self._environment = environment or {}
        self._say = say
        self._children: dict[str, asyncio.subprocess.Process] = {}
        self._watchers: list[asyncio.Task[None]] = []
        self._stopping = False
        self._lock_fd = -1

    async def start(self, timeout_s: float = 180.0) -> Addresses:
        """Start all services and return when all are serving.

        Args:
            timeout_s: Until the slowest serves; long, for only one that hangs is to meet it: one that ends is told of
                at once. On a busy machine with a cold disk importing alone takes a minute.

        Raises:
            FailedPrecondition: MISSING_DEPENDENCY, DATA_DIR_IN_USE, PORT_IN_USE, SERVICE_FAILED.
        """
        _require_dependencies()
        self._lock()
        # Of one that was killed: other programs may have its ports by now.
        connection_file(self.data_dir).unlink(missing_ok=True)
        try:
            addresses = self._choose_addresses()
            for service in SERVICES:
                generate_key(service, self.data_dir / "keys")
            for folder in ("objects", "db", "logs", "run"):
                (self.data_dir / folder).mkdir(mode=0o700, exist_ok=True)
            for service in SERVICES:
                await self._spawn(service, addresses)
            await asyncio.gather(
                *(
                    self._until_serving(service, self._health_address(service, addresses), timeout_s)
                    for service in SERVICES
                )
            )
            await self._until_listening(addresses.http, timeout_s)
            self._write_connection(addresses)
        except BaseException:
            await self.stop()
            raise
        self._watchers = [asyncio.create_task(self._watch(service, addresses)) for service in SERVICES]
        return addresses

    async def stop(self, grace_s: float = 15.0) -> None:
        """Stop all services, those in front first, and release the data folder."""
        self._stopping = True
        for watcher in self._watchers:
            watcher.cancel()
        connection_file(self.data_dir).unlink(missing_ok=True)
        for service in _STOP_ORDER:
            child = self._children.get(service)
            if child is None or child.returncode is not None:
                continue
            child.terminate()
            try:
                await asyncio.wait_for(child.wait(), grace_s)
            except TimeoutError:
                self._say(f"{service} did not stop within {grace_s:.0f} s: killed")
                child.kill()
                await child.wait()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def process_id(self, service: str) -> int:
        """Process id of a running service."""
        return self._children[service].pid

    def _lock(self) -> None:
        run = self.data_dir / "run"
        try:
            run.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock_fd = os.open(run / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise FailedPrecondition(
                "DATA_DIR_UNUSABLE", f"cannot use the data folder {self.data_dir}: {error.strerror}"
            ) from error
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._lock_fd, 32, 0).decode().strip() or "unknown"
            os.close(self._lock_fd)
            self._lock_fd = -1
            raise FailedPrecondition(
                "DATA_DIR_IN_USE",
                f"{self.data_dir} is in use by another instance (process {holder}); stop it or choose another --data",
            ) from error
        os.ftruncate(self._lock_fd, 0)
        os.pwrite(self._lock_fd, str(os.getpid()).encode(), 0)

    def _choose_addresses(self) -> Addresses:
        grpc_port, http_port = self._ports
        sockets = [_bind(grpc_port, "--grpc-port"), _bind(http_port, "--http-port")]
        sockets += [listen_anywhere() for _ in (*SERVICES[:-1], *SERVICES)]
        ports = [item.getsockname()[1] for item in sockets]
        for item in sockets:
            item.close()
        grpc_addresses = {"gateway": f"127.0.0.1:{ports[0]}"}
        inside, health = ports[2 : 1 + len(SERVICES)], ports[1 + len(SERVICES) :]
        for service, port in zip(SERVICES[:-1], inside, strict=True):
            grpc_addresses[service] = f"127.0.0.1:{port}"
        health_addresses = {
            service: f"127.0.0.1:{port}" for service, port in zip(SERVICES, health, strict=True)
        }
        return Addresses(grpc_addresses, f"127.0.0.1:{ports[1]}", health_addresses)

    def is_encrypted(self, service: str) -> bool:
        """Whether the settings give the ports of a service a certificate."""
        name = "TLS_CERTIFICATE_FILE" if service == "gateway" else "MTLS_CERTIFICATE_FILE"
        variable = f"BIOSEGMENT_{service.upper()}__{name}"
        return bool(self._environment.get(variable) or os.environ.get(variable))

    def _health_address(self, service: str, addresses: Addresses) -> str:
        return addresses.health[service] if self.is_encrypted(service) else addresses.grpc[service]

    def _service_environment(self, service: str, addresses: Addresses) -> dict[str, str]:
        data, prefix = self.data_dir, f"BIOSEGMENT_{service.upper()}__"
        # Of our own variables those alone that are meant for this service: where things are is said below.
        inherited = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith("BIOSEGMENT_") or k == FAILPOINT_FILE or k.startswith(prefix)
        }
        values = {
            "LISTEN": addresses.grpc[service],
            "DATABASE_URL": f"sqlite+aiosqlite:///{data / 'db' / service}.db",
            "SIGNING_KEY_FILE": str(data / "keys" / f"{service}.key"),
        }
        # Without a service's name in it, since a service's own variable would win over the caller's.
        shared = {
            "BIOSEGMENT_OBJECT_STORE_URL": f"file://{data / 'objects'}",
            "BIOSEGMENT_PUBLIC_KEYS_DIR": str(data / "keys"),
            SUPERVISOR: str(os.getpid()),
        }
        peers = {
            "datastore": (),
            "sampler": ("datastore", "trainer"),
            "trainer": ("datastore",),
            "gateway": ("datastore", "sampler", "trainer"),
        }[service]
        values |= {f"{peer.upper()}_ADDRESS": addresses.grpc[peer] for peer in peers}
        if self.is_encrypted(service):
            values["HEALTH_LISTEN"] = addresses.health[service]
        if service == "datastore":
            values["IMPORT_ROOTS"] = ":".join(map(str, self._import_roots))
        if service == "gateway":
            values |= {"HTTP_LISTEN": addresses.http, "ADMIN_TOKEN_FILE": str(data / "token")}
            values["MONAILABEL_DIR"] = str(data / "monailabel")
        own = {prefix + name: value for name, value in values.items()}
        # Threads of torch that wait for each other spin for some tenths of a millisecond: not at all costs a training a
        # fifth of its time, as long as they would by default takes the cores from the services beside them.
        threads = {"GOMP_SPINCOUNT": "10000"} if service == "trainer" else {}
        return {**inherited, **MALLOC, **threads, **shared, **own, **self._environment}

    async def _spawn(self, service: str, addresses: Addresses) -> None:
        with (self.data_dir / "logs" / f"{service}.log").open("ab") as log:
            self._children[service] = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                f"biosegment_{service}",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._service_environment(service, addresses),
                cwd=self.data_dir,
                # Ctrl-C reaches us alone; we stop the services in order. No session of their own: Linux shares the
                # processor evenly among sessions, whatever the priorities of the processes in them, so that the
                # workers of trainings, which run at a low one, would take as much as the services beside them.
                process_group=0,
            )

    async def _watch(self, service: str, addresses: Addresses) -> None:
        pause_s = 0.5
        while True:
            started = time.monotonic()
            code = await self._children[service].wait()
            if self._stopping:
                return
            pause_s = 0.5 if time.monotonic() - started > 60 else min(2 * pause_s, 10.0)
            self._say(f"{service} ended with code {code}; starting it again (log: {self._log(service)})")
            await asyncio.sleep(pause_s)
            await self._spawn(service, addresses)

    async def _until_serving(self, service: str, address: str, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        keep_grpc()
        async with grpc.aio.insecure_channel(
            address,
            options=[("grpc.min_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 200)],
        ) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            while True:
                self._require_alive(service)
                try:
                    answer = await stub.Check(
                        health_pb2.HealthCheckRequest(), timeout=2.0, wait_for_ready=True
                    )
                    if answer.status == health_pb2.HealthCheckResponse.SERVING:
                        return
                except grpc.aio.AioRpcError:
                    pass
                if time.monotonic() > deadline:
                    raise Unavailable(
                        "SERVICE_SLOW",
                        f"{service} does not serve after {timeout_s:.0f} s; see {self._log(service)}",
                    )
                await asyncio.sleep(0.1)

    async def _until_listening(self, address: str, timeout_s: float) -> None:
        host, port = address.rsplit(":", 1)
        deadline = time.monotonic() + timeout_s
        while True:
            self._require_alive("gateway")
            try:
                _, writer = await asyncio.open_connection(host, int(port))
                writer.close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise Unavailable(
                        "SERVICE_SLOW", f"nothing listens on {address} after {timeout_s:.0f} s"
                    ) from None
                await asyncio.sleep(0.1)

    def _require_alive(self, service: str) -> None:
        code = self._children[service].returncode
        if code is not None:
            last = self._log(service).read_text(errors="replace").strip().splitlines()[-1:]
            raise FailedPrecondition(
                "SERVICE_FAILED",
                f"{service} ended with code {code}: {' '.join(last)} (log: {self._log(service)})",
            )

    def _log(self, service: str) -> Path:
        return self.data_dir / "logs" / f"{service}.log"

    def _write_connection(self, addresses: Addresses) -> None:
        path = connection_file(self.data_dir)
        encrypted = self.is_encrypted("gateway")
        content = {
            "grpc": f"https://{addresses.grpc['gateway']}" if encrypted else addresses.grpc["gateway"],
            "http": f"{'https' if encrypted else 'http'}://{addresses.http}",
            "token_file": str(self.data_dir / "token"),
            "pid": os.getpid(),
        }
        partial = path.with_suffix(".part")
        partial.write_text(json.dumps(content, indent=1))
        partial.replace(path)


def _require_dependencies() -> None:
    missing = sorted(
        {
            name
            for service, needed in _NEEDED.items()
            for name in (f"biosegment_{service}", *needed)
            if importlib.util.find_spec(name) is None
        }
    )
    if missing:
        raise FailedPrecondition(
            "MISSING_DEPENDENCY",
            f"not installed: {', '.join(missing)}; install the servers with `pip install 'biosegment[server]'`",
        )


def _bind(port: int, option: str) -> socket.socket:
    if port == 0:
        return listen_anywhere()
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind(("127.0.0.1", port))
        found.listen()
    except OSError as error:
        found.close()
        raise FailedPrecondition(
            "PORT_IN_USE", f"port {port} on 127.0.0.1 is in use; choose another one with {option}"
        ) from error
    return found
