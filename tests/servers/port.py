from __future__ import annotations

import os
import shutil
import socket
import time

import pytest

from biosegment.port import listen_anywhere


def free_port() -> int:
    """A port that was free a moment ago; for servers that cannot choose one by themselves."""
    with listen_anywhere() as probe:
        return int(probe.getsockname()[1])


def wait_for_port(port: int, timeout_s: float = 90.0) -> None:
    """Return when something accepts connections on the port of this machine."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing listens on 127.0.0.1:{port} after {timeout_s} s") from None
            time.sleep(0.05)


def require(*programs: str) -> None:
    """Skip the test, and say how to get them, when programs are missing and we may not install them."""
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        hint = f"{', '.join(missing)} not found: run scripts/apt-packages.sh as root"
        if os.geteuid() == 0:
            pytest.fail(hint)  # root can install them, so that a skip here would hide a hole in the run
        pytest.skip(hint)
