from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.servers.port import free_port, require, wait_for_port
from tests.servers.s3 import S3Server

_SCRIPT = Path(__file__).with_name("radosgw.sh")


@dataclass(frozen=True, slots=True)
class RadosgwServer(S3Server):
    """The gateway of a store that keeps its objects while the gateway is stopped."""

    folder: Path = Path()

    def stop(self) -> None:
        pid = int((self.folder / "run" / "client.rgw.pid").read_text())
        os.kill(pid, signal.SIGKILL)
        while Path(f"/proc/{pid}").exists():
            time.sleep(0.05)

    def start(self) -> None:
        environment = {**os.environ, "CEPH_CONF": str(self.folder / "ceph.conf")}
        subprocess.run(["radosgw", "-n", "client.rgw"], env=environment, check=True, timeout=90)
        wait_for_port(int(self.endpoint_url.rpartition(":")[2]))


@contextmanager
def radosgw_s3() -> Iterator[RadosgwServer]:
    """Ceph's S3 gateway with a monitor and a store in memory: a real server, about 20 s to start."""
    require("radosgw", "ceph-mon", "ceph-osd", "ceph")
    port = free_port()
    with TemporaryDirectory(prefix="radosgw-") as state:
        environment = {**os.environ, "RGW_PORT": str(port), "MON_PORT": str(free_port())}
        folder = str(Path(state) / "ceph")
        started = subprocess.run(
            ["bash", str(_SCRIPT), "start", folder],
            env=environment,
            capture_output=True,
            text=True,
            timeout=150,
        )
        try:
            if started.returncode:
                raise RuntimeError(
                    f"radosgw did not start:\n{started.stdout[-2000:]}\n{started.stderr[-2000:]}"
                )
            wait_for_port(port)
            yield RadosgwServer(f"http://127.0.0.1:{port}", "test-key", "test-secret", folder=Path(folder))
        finally:
            subprocess.run(["bash", str(_SCRIPT), "stop", folder], env=environment, check=True, timeout=30)
