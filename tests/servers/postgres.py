from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg

from tests.servers.port import free_port, require, wait_for_port

_DEBIAN = Path("/usr/lib/postgresql")


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL server in a temporary folder; yields `postgresql://...` of an empty database.

    PostgreSQL refuses to run as root, so that under root it runs as the user `postgres` of its package.
    """
    _debian_programs_on_path()
    require("initdb", "postgres")
    port = free_port()
    with TemporaryDirectory(prefix="postgres-") as folder:
        data = Path(folder) / "data"
        _give_away(folder)
        # No fsync: a test's data need not survive the machine, and it makes the server start in a second.
        _run(["initdb", "-D", str(data), "-U", "biosegment", "--auth=trust", "-E", "UTF8", "--no-sync"])
        options = ["-c", f"port={port}", "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        command = ["postgres", "-D", str(data), "-k", folder, *options]
        with open(Path(folder) / "server.log", "wb") as log:
            server = subprocess.Popen(_as_user(command), cwd=folder, stdout=log, stderr=log)
        try:
            wait_for_port(port)
            _until_ready(folder, port)
            yield f"postgresql://biosegment@127.0.0.1:{port}/postgres"
        finally:
            server.terminate()
            server.wait(20)


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


def _until_ready(folder: str, port: int) -> None:
    for attempt in range(100):
        try:
            psycopg.connect(f"postgresql://biosegment@127.0.0.1:{port}/postgres", connect_timeout=5).close()
            return
        except psycopg.OperationalError:
            if attempt == 99:
                raise
            time.sleep(0.1)
