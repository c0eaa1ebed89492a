from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.port import free_port, wait_for_port
from tests.servers.s3 import S3Server


@contextmanager
def moto_s3() -> Iterator[S3Server]:
    """The emulator in a process of its own; it takes any credentials and forgets everything at its end."""
    port = free_port()
    # Without its folder on the path (-P): beside it lies this module, which has the name of the package.
    script = Path(__file__).with_name("moto_process.py")
    command = [sys.executable, "-P", "-W", "ignore", str(script), "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port)
        yield S3Server(f"http://127.0.0.1:{port}", "test-key", "test-secret")
    finally:
        server.terminate()
        server.wait(10)
