from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import psycopg.sql

from tests.servers.port import free_port, require, wait_for_port

_DEBIAN = Path("/usr/lib/postgresql")


@dataclass
class PostgresServer:
    """A server that can be stopped and started again on the same data and port.

    It asks for no password, so that a URL may hold any.
    """

    folder: Path
    port: int
    _process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "postgres", password: str = "") -> str:
        """`postgresql://...`"""
        user = f"biosegment:{password}" if password else "biosegment"
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str) -> None:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))

    def start(self) -> None:
        # No fsync: a test's data need not survive the machine, and it makes the server start in a second.
        options = ["-c", f"port={self.port}", "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        command = ["postgres", "-D", str(self.folder / "data"), "-k", str(self.folder), *options]
        with open(self.folder / "server.log", "ab") as log:
            self._process = subprocess.Popen(_as_user(command), cwd=self.folder, stdout=log, stderr=log)
        wait_for_port(self.port)
        _until_ready(self.url())

    def stop(self) -> None:
        """Break all connections off and stop, as an administrator's fast shutdown does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        self._process.wait(60)


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server in a temporary folder.

    PostgreSQL refuses to run as root, so that under root it runs as the user `postgres` of its package.
    """
    _debian_programs_on_path()
    require("initdb", "postgres")
    with TemporaryDirectory(prefix="postgres-") as folder:
        server = PostgresServer(Path(folder), free_port())
        _give_away(folder)
        data = str(server.folder / "data")
        _run(["initdb", "-D", data, "-U", "biosegment", "--auth=trust", "-E", "UTF8", "--no-sync"])
        try:
            server.start()
            yield server
        finally:
            server.stop()


@contextmanager
def postgres() -> Iterator[str]:
    """As `postgres_server`; yields `postgresql://...` of an empty database."""
    with postgres_server() as server:
        yield server.url()


def _debian_programs_on_path() -> None:
    if shutil.which("initdb") is None and _DEBIAN.is_dir():
        newest = max(_DEBIAN.iterdir(), key=lambda path: int(path.name))
        os.environ["PATH"] += f"{os.pathsep}{newest / 'bin'}"


def _give_away(folder: str) -> None:
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)


def _as_user(command: list[str]) -> list[str]:
    if os.geteuid() != 0:
        return command
    # setpriv replaces itself by the server, so that signals reach it; runuser would stay in between.
    path = shutil.which(command[0]) or command[0]
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", path, *command[1:]]


def _run(command: list[str]) -> None:
    done = subprocess.run(_as_user(command), cwd="/tmp", capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")


def _until_ready(url: str) -> None:
    for attempt in range(100):
        try:
            psycopg.connect(url, connect_timeout=5).close()
            return
        except psycopg.OperationalError:
            if attempt == 99:
                raise
            time.sleep(0.1)
