"""`biosegment up`: seconds until every service is serving, and memory when idle.

usage: python -m benchmarks.startup
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.report import Target, finish, print_header, print_samples, tree_memory_bytes
from biosegment.client import connect
from biosegment.client.connection import connection_file

RUNS = 3
IDLE_S = 10.0


def measure() -> tuple[float, float]:
    """Start the platform once on a new folder; return seconds to SERVING and idle memory in MB."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        started = time.monotonic()
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "biosegment.cli",
                "up",
                "--data",
                folder,
                "--grpc-port",
                "0",
                "--http-port",
                "0",
            ],
            stdout=subprocess.DEVNULL,
        )
        try:
            while not connection_file(data).exists():
                if process.poll() is not None or time.monotonic() - started > 120:
                    raise SystemExit("the platform did not start")
                time.sleep(0.05)
            with connect(data_dir=data) as client:
                if any(service.health != "serving" for service in client.platform.status()):
                    raise SystemExit("a service is not serving")
            seconds = time.monotonic() - started
            time.sleep(IDLE_S)
            children = psutil.Process(process.pid).children()
            megabytes = sum(tree_memory_bytes(child) for child in children) / 1e6
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)
    return seconds, megabytes


def main() -> int:
    """Measure and print."""
    print_header("startup")
    runs = [measure() for _ in range(RUNS)]
    seconds = print_samples("seconds to SERVING", [run[0] for run in runs], "s")
    memory = print_samples("idle memory of the four services (PSS)", [run[1] for run in runs], "MB")
    return finish(
        [
            Target("biosegment up until all services are SERVING", seconds, "s", 15),
            Target("idle memory of the four services, without Ray", memory, "MB", 900),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
