"""Commits of annotations by 32 writers, each durable before it is acknowledged, and pages of a long history.

usage: python -m benchmarks.annotation [--seconds 20] [--records 1000000] [--strace]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import psutil
import tifffile

from benchmarks import history
from benchmarks.report import Target, finish, print_header, print_samples
from biosegment.auth import SERVICES, Kind, Principal, PrincipalSigner, generate_key
from biosegment.client.annotations import Annotations
from biosegment.client.jobs import Jobs
from biosegment.client.projects import Projects
from biosegment.errors import Unavailable
from biosegment.port import listen_anywhere
from biosegment.rpc.channel import ServiceCredentials, connect
from biosegment.volume import Index, Region, VoxelSize

SHAPE = (64, 2048, 2048)
EDGE = 128
WRITERS = 32
WARM_UP_S = 3.0
COMMITS_PER_S = 200.0
PAGE_MS = 20.0
RECORDS = 1_000_000


@dataclass(slots=True)
class Datastore:
    """A datastore in a process of its own, on SQLite and a folder.

    Attributes:
        folder: Of its data.
        address: host:port.
        process: The datastore's.
        channel: To it, as a user.
    """

    folder: Path
    address: str
    process: psutil.Process
    channel: grpc.aio.Channel


@asynccontextmanager
async def running(folder: Path, wrapper: Sequence[str] = ()) -> AsyncIterator[Datastore]:
    """Start a datastore, with `wrapper` (such as strace) before its command."""
    keys = folder / "keys"
    with listen_anywhere() as probe:
        port = probe.getsockname()[1]
    for service in SERVICES:
        generate_key(service, keys)
    (folder / "scratch").mkdir(exist_ok=True)
    values = {
        "listen": f"127.0.0.1:{port}",
        "object_store_url": f"file://{folder / 'objects'}",
        "database_url": f"sqlite+aiosqlite:///{folder / 'datastore.sqlite'}",
        "signing_key_file": keys / "datastore.key",
        "public_keys_dir": keys,
        "import_roots": folder,
        "scratch_dir": folder / "scratch",
        "log_level": "warning",
    }
    environment = {f"BIOSEGMENT_DATASTORE__{name.upper()}": str(value) for name, value in values.items()}
    command = [*wrapper, sys.executable, "-m", "biosegment_datastore"]
    started = await asyncio.to_thread(subprocess.Popen, command, env={**os.environ, **environment})
    credentials = ServiceCredentials(PrincipalSigner("gateway", keys / "gateway.key"), "datastore")
    principal = Principal(Kind.USER, "ada")
    try:
        async with connect(f"127.0.0.1:{port}", credentials=lambda: credentials.token(principal)) as channel:
            async with asyncio.timeout(60):
                while True:
                    with contextlib.suppress(Unavailable):
                        await Projects(channel).list()
                        break
                    await asyncio.sleep(0.1)
            process = psutil.Process(started.pid)
            if wrapper:
                process = (process.children() or [process])[0]
            yield Datastore(folder, f"127.0.0.1:{port}", process, channel)
    finally:
        # What is traced outlives the tracer.
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(started.pid).children():
                child.terminate()
        started.terminate()
        await asyncio.to_thread(started.wait, 30)


async def new_volume(datastore: Datastore) -> str:
    """Import an empty volume; returns its name."""
    path = datastore.folder / "raw.tif"
    tifffile.imwrite(path, np.zeros(SHAPE, np.uint8), photometric="minisblack", compression="zlib")
    project = await Projects(datastore.channel).create("bench", classes=["mitochondria"])
    jobs = Jobs(datastore.channel)
    job = await jobs.import_volume(project.name, str(path), voxel_size=VoxelSize(8, 8, 8))
    return (await jobs.wait(job.name)).volume


class Writers:
    """Annotators who commit one sample after another, each somewhere else.

    Args:
        channel: To the datastore.
        volume: Name.
    """

    def __init__(self, channel: grpc.aio.Channel, volume: str) -> None:
        self._annotations = Annotations(channel)
        self._volume = volume
        random = np.random.default_rng(0)
        self._corners = random.integers(0, [SHAPE[0], SHAPE[1] - EDGE, SHAPE[2] - EDGE], (4096, 3))
        self._labels = [_drawing(random) for _ in range(32)]
        self.finished: list[tuple[float, float]] = []
        """When each commit was acknowledged, and how long it took, in seconds."""

    async def work(self, number: int, until: float) -> None:
        step = number
        while time.perf_counter() < until:
            z, y, x = (int(place) for place in self._corners[step % len(self._corners)])
            region = Region(Index(z, y, x), Index(z + 1, y + EDGE, x + EDGE))
            started = time.perf_counter()
            await self._annotations.commit(
                self._labels[step % len(self._labels)], volume=self._volume, region=region
            )
            now = time.perf_counter()
            self.finished.append((now, now - started))
            step += WRITERS

    async def work_together(self, seconds: float) -> None:
        until = time.perf_counter() + seconds
        await asyncio.gather(*(self.work(number, until) for number in range(WRITERS)))


def _drawing(random: np.random.Generator) -> np.ndarray:
    """Round objects on a background, as an annotator leaves them; (1, 128, 128) uint8."""
    y, x = np.mgrid[:EDGE, :EDGE]
    labels = np.ones((1, EDGE, EDGE), np.uint8)
    for _ in range(5):
        center, radius = random.integers(0, EDGE, 2), random.integers(5, 20)
        labels[0, (y - center[0]) ** 2 + (x - center[1]) ** 2 < radius**2] = 2
    return labels


async def measure_commits(seconds: float) -> Target:
    """Commits per second that are acknowledged, over the whole time."""
    with tempfile.TemporaryDirectory(prefix="annotation-") as folder:
        async with running(Path(folder)) as datastore:
            volume = await new_volume(datastore)
            writers = Writers(datastore.channel, volume)
            await writers.work_together(WARM_UP_S)
            writers.finished.clear()
            here = psutil.Process()
            before = [each.cpu_times() for each in (datastore.process, here)]
            started = time.perf_counter()
            await writers.work_together(seconds)
            took = time.perf_counter() - started
            after = [each.cpu_times() for each in (datastore.process, here)]
            await _check_stored(datastore, volume, len(writers.finished))
    rates = Counter(int(when - started) for when, _ in writers.finished if when - started < int(seconds))
    print_samples("commits in each second", [float(rates[n]) for n in range(int(seconds))], "1/s")
    print_samples("latency of a commit", [1e3 * one for _, one in writers.finished], "ms")
    for name, one, two in zip(("datastore", "writers"), before, after, strict=True):
        used = two.user + two.system - one.user - one.system
        print(
            f"{name}: {used:.1f} CPU seconds in {took:.1f} s, {1e3 * used / len(writers.finished):.2f} ms per commit"
        )
    return Target(
        f"{EDGE} x {EDGE} annotations committed by {WRITERS} writers",
        len(writers.finished) / took,
        "commits/s",
        COMMITS_PER_S,
        at_most=False,
    )


async def _check_stored(datastore: Datastore, volume: str, at_least: int) -> None:
    with contextlib.closing(sqlite3.connect(datastore.folder / "datastore.sqlite")) as database:
        (rows,) = database.execute("SELECT count(*) FROM annotations").fetchone()
    blocks = sum(1 for _ in (datastore.folder / "objects/projects/bench/annotations").iterdir())
    assert rows == blocks >= at_least, (rows, blocks, at_least)


async def trace_commits() -> None:
    """Show with strace that files, their folder and the database's log are flushed before the answers."""
    with tempfile.TemporaryDirectory(prefix="annotation-") as folder:
        log = Path(folder) / "strace"
        tracer = ["strace", "-f", "-y", "--seccomp-bpf", "-e", "trace=fsync,fdatasync,rename", "-o", str(log)]
        async with running(Path(folder), tracer) as datastore:
            volume = await new_volume(datastore)
            writers = Writers(datastore.channel, volume)
            await writers.work_together(2.0)
        lines = log.read_text(errors="replace").splitlines()
    print(f"strace, {len(writers.finished)} commits:")
    for what, call, place in (
        ("label blocks flushed", "fsync(", "/.incoming/"),
        ("folder of label blocks flushed", "fsync(", "/annotations>"),
        ("database log flushed", "fdatasync(", ".sqlite-wal"),
    ):
        print(f"  {what}: {sum(call in line and place in line for line in lines)}")


async def measure_pages(records: int) -> list[Target]:
    """A page of each kind of a long history."""
    with tempfile.TemporaryDirectory(prefix="annotation-") as folder:
        async with running(Path(folder)) as datastore:
            volume = await new_volume(datastore)
        # Between two lives of the datastore, which would wait for the database and give up.
        started = time.perf_counter()
        await asyncio.to_thread(history.fill, Path(folder) / "datastore.sqlite", volume, records)
        print(f"{records} records written in {time.perf_counter() - started:.0f} s")
        async with running(Path(folder)) as datastore:
            pages = await history.measure_pages(datastore.channel, volume, records)
    return [Target(f"{name}, of {records} records", ms, "ms", PAGE_MS) for name, ms in pages.items()]


def rows(seconds: float = 20.0, records: int = RECORDS) -> list[Target]:
    """All figures of this benchmark; prints raw samples."""
    return [asyncio.run(measure_commits(seconds)), *asyncio.run(measure_pages(records))]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--records", type=int, default=RECORDS)
    parser.add_argument("--strace", action="store_true", help="Also show the system calls of a few commits.")
    options = parser.parse_args()
    print_header("annotation")
    if options.strace and shutil.which("strace"):
        asyncio.run(trace_commits())
    return finish(rows(options.seconds, options.records))


if __name__ == "__main__":
    sys.exit(main())
