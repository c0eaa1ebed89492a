"""A real platform for tests: `biosegment up` as a process of its own, on free ports and a temporary folder."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from biosegment.client import Client, connect
from biosegment.client.connection import connection_file
from biosegment.failpoint import VARIABLE

START_TIMEOUT_S = 200.0
COLLECT_OFTEN = {"BIOSEGMENT_DATASTORE__COLLECT_EVERY_S": "2"}
"""For tests that wait until what failed work left behind is removed, which is looked for once a minute otherwise."""


class Platform:
    """One running instance.

    Attributes:
        data_dir: Its data folder.
        failpoint_file: Where the name of the point at which to die next is written.
        output: What `up` prints.
    """

    def __init__(self, folder: Path, *, import_root: Path, environment: dict[str, str] | None = None) -> None:
        self.data_dir = folder / "data"
        self.failpoint_file = folder / "failpoint"
        self._import_root = import_root
        self.output = folder / "up.log"
        self._environment = {
            **os.environ,
            VARIABLE: str(self.failpoint_file),
            # Threads of torch wait for each other at every step, which takes long where others have the cores as well.
            "BIOSEGMENT_TRAINER__RAY_CPUS": "1",
            "BIOSEGMENT_SAMPLER__POLL_INTERVAL_S": "0.5",
            "BIOSEGMENT_TRAINER__SHIPPED_BUNDLES_DIR": "",
            **(environment or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "biosegment.cli", "up", "--data", str(self.data_dir)]
        command += ["--grpc-port", "0", "--http-port", "0", "--import-root", str(self._import_root)]
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output, env=self._environment)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not connection_file(self.data_dir).exists():
            assert self._process.poll() is None, self.output.read_text()
            assert time.monotonic() < deadline, f"not up after {START_TIMEOUT_S} s: {self.output.read_text()}"
            time.sleep(0.05)

    def stop(self) -> int:
        """Ctrl-C; returns the exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(60)

    def connect(self) -> Client:
        return connect(data_dir=self.data_dir)

    def process(self, service: str) -> psutil.Process:
        """A running service; after a death the supervisor waits some seconds before it starts it again."""
        assert self._process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            for child in psutil.Process(self._process.pid).children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    if f"biosegment_{service}" in child.cmdline():
                        return child
            time.sleep(0.1)
        raise AssertionError(f"{service} does not run")

    def processes(self) -> list[psutil.Process]:
        """`up` and everything below it: the services, and what they started."""
        assert self._process is not None
        whole = psutil.Process(self._process.pid)
        return [whole, *whole.children(recursive=True)]

    def kill(self, service: str) -> None:
        self.process(service).kill()

    def kill_supervisor(self) -> None:
        """`up` itself, which has no time to stop anything."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(60)

    def arm(self, point: str) -> None:
        """Let the next process that reaches `point` die there."""
        self.failpoint_file.write_text(point)

    @property
    def fired(self) -> bool:
        return not self.failpoint_file.exists()

    def objects(self) -> set[str]:
        """Every file of the object storage; `os.walk` does not mind files that vanish meanwhile."""
        root = self.data_dir / "objects"
        return {
            str(Path(folder, name).relative_to(root)) for folder, _, names in os.walk(root) for name in names
        }

    def log(self, service: str) -> str:
        return (self.data_dir / "logs" / f"{service}.log").read_text(errors="replace")


@contextmanager
def running(
    folder: Path, *, import_root: Path, environment: dict[str, str] | None = None
) -> Iterator[Platform]:
    platform = Platform(folder, import_root=import_root, environment=environment)
    try:
        platform.start()
        yield platform
    finally:
        if platform._process is not None and platform._process.poll() is None:
            platform.stop()


def lives(process: psutil.Process) -> bool:
    """Not so who has ended and waits for a process 1 that may never ask."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Wait for a condition; the time is a limit, never what is tested."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(0.1)
