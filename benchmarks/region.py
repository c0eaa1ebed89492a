"""Small regions through the SDK of an embedded platform, against tensorstore on the same array.

usage: python -m benchmarks.region

The SDK's way goes through gateway and datastore, in processes of their own.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tensorstore as ts
import tifffile

from benchmarks.report import Target, finish, print_header, print_samples
from benchmarks.stream import texture
from biosegment.client import AsyncClient, aconnect
from biosegment.supervisor import Supervisor
from biosegment.volume import Index, Region, VoxelSize

SHAPE = (128, 1024, 1024)
KINDS = {
    "1 x 1024 x 1024 slice": (1, 1024, 1024),
    "64 x 256 x 256 patch": (64, 256, 256),
    "1 x 256 x 256 tile": (1, 256, 256),
}
READS = 200
WARM_UP = 20
TURN = 10
FACTOR, EXTRA_MS = 1.5, 3.0


def regions(shape: tuple[int, int, int], count: int) -> list[Region]:
    """Places at random, the same ones in every run."""
    rng = random.Random(0)
    starts = (
        Index(*(rng.randint(0, whole - part) for whole, part in zip(SHAPE, shape, strict=True)))
        for _ in range(count)
    )
    return [Region.of_shape(shape, start) for start in starts]


async def through_platform(client: AsyncClient, volume: str, wanted: list[Region]) -> list[float]:
    """Milliseconds of each read."""
    samples = []
    for region in wanted:
        started = time.perf_counter()
        array = await client.volumes.read(volume, region)
        samples.append(1e3 * (time.perf_counter() - started))
        assert array.shape == tuple(region.shape)
    return samples


def direct(store: ts.TensorStore, wanted: list[Region]) -> list[float]:
    """Milliseconds of each read."""
    samples = []
    for region in wanted:
        started = time.perf_counter()
        store[region.slices].read().result()
        samples.append(1e3 * (time.perf_counter() - started))
    return samples


async def measure(folder: Path) -> dict[str, tuple[list[float], list[float]]]:
    """Samples by kind: platform and tensorstore."""
    tifffile.imwrite(folder / "raw.tif", texture(SHAPE))
    supervisor = Supervisor(
        folder / "data", grpc_port=0, http_port=0, import_roots=[folder], say=lambda _: None
    )
    await supervisor.start()
    samples = {}
    try:
        async with aconnect(data_dir=folder / "data") as client:
            project = await client.projects.create("bench", classes=["thing"])
            job = await client.jobs.import_volume(
                project.name, str(folder / "raw.tif"), voxel_size=VoxelSize(5, 5, 5)
            )
            volume = await client.volumes.get((await client.jobs.wait(job.name)).volume)
            path = f"{volume.uri.removeprefix('file://')}/{volume.levels[0].path}"
            store = ts.open({"driver": "zarr3", "kvstore": {"driver": "file", "path": path}}).result()
            for kind, shape in KINDS.items():
                wanted = regions(shape, READS)
                await through_platform(client, volume.name, wanted[:WARM_UP])
                direct(store, wanted[:WARM_UP])
                platform: list[float] = []
                alone: list[float] = []
                # In turns, so that other load on the machine meets both alike.
                for begin in range(0, READS, TURN):
                    platform += await through_platform(client, volume.name, wanted[begin : begin + TURN])
                    alone += direct(store, wanted[begin : begin + TURN])
                samples[kind] = platform, alone
    finally:
        await supervisor.stop()
    return samples


def targets() -> list[Target]:
    """Measure, print the samples and return the rows."""
    with tempfile.TemporaryDirectory() as folder:
        samples = asyncio.run(measure(Path(folder)))
    rows = []
    for kind, (platform, alone) in samples.items():
        ours = print_samples(f"{kind}, SDK", platform, "ms")
        theirs = print_samples(f"{kind}, tensorstore", alone, "ms")
        bound = round(FACTOR * theirs + EXTRA_MS, 2)
        print(
            f"{kind}: p99 {np.percentile(platform, 99):.3g} ms, tensorstore {np.percentile(alone, 99):.3g} ms"
        )
        rows.append(Target(f"{kind}, p50; tensorstore takes {theirs:.3g} ms", ours, "ms", bound))
    return rows


def main() -> int:
    """Measure and print."""
    print_header("region")
    return finish(targets())


if __name__ == "__main__":
    sys.exit(main())
