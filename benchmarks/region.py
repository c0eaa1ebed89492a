"""Reading a 1 x 768 x 1024 region: through SDK, gateway and datastore, against tensorstore on the same array.

usage: python -m benchmarks.region
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
from biosegment.client import AsyncClient, aconnect
from biosegment.supervisor import Supervisor
from biosegment.volume import Region, VoxelSize

SHAPE = (96, 768, 1024)
READS = 150
WARM_UP = 20


def _texture(seed: int) -> np.ndarray:
    """Smooth noise that compresses like an electron micrograph (about 1.4 : 1)."""
    rng = np.random.default_rng(seed)
    image = rng.normal(128, 24, SHAPE).astype(np.float32)
    for axis in (1, 2):
        image = 0.5 * image + 0.25 * (np.roll(image, 1, axis) + np.roll(image, -1, axis))
    return np.clip(image, 0, 255).astype(np.uint8)


async def _through_platform(client: AsyncClient, volume: str, slices: list[int]) -> list[float]:
    samples = []
    for z in slices:
        region = Region((z, 0, 0), (z + 1, *SHAPE[1:]))  # type: ignore[arg-type]
        started = time.perf_counter()
        array = await client.volumes.read(volume, region)
        samples.append(1e3 * (time.perf_counter() - started))
        assert array.shape == (1, *SHAPE[1:])
    return samples


def _direct(path: str, slices: list[int]) -> list[float]:
    store = ts.open({"driver": "zarr3", "kvstore": {"driver": "file", "path": path}}).result()
    samples = []
    for z in slices:
        started = time.perf_counter()
        store[z : z + 1].read().result()
        samples.append(1e3 * (time.perf_counter() - started))
    return samples


async def _measure() -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        tifffile.imwrite(root / "raw.tif", _texture(0))
        supervisor = Supervisor(
            root / "data", grpc_port=0, http_port=0, import_roots=[root], say=lambda _: None
        )
        await supervisor.start()
        try:
            async with aconnect(data_dir=root / "data") as client:
                project = await client.projects.create("bench", classes=["thing"])
                job = await client.jobs.import_volume(
                    project.name, str(root / "raw.tif"), voxel_size=VoxelSize(5, 5, 5)
                )
                volume = await client.volumes.get((await client.jobs.wait(job.name)).volume)
                path = f"{volume.uri.removeprefix('file://')}/{volume.levels[0].path}"
                rng = random.Random(0)
                slices = [rng.randrange(SHAPE[0]) for _ in range(READS)]
                await _through_platform(client, volume.name, slices[:WARM_UP])
                _direct(path, slices[:WARM_UP])
                through, direct = [], []
                # In turns, so that other load on the machine hits both alike.
                for begin in range(0, READS, 10):
                    part = slices[begin : begin + 10]
                    through += await _through_platform(client, volume.name, part)
                    direct += _direct(path, part)
        finally:
            await supervisor.stop()
    ours = print_samples("SDK, gateway, datastore", through, "ms")
    theirs = print_samples("tensorstore, same array", direct, "ms")
    return ours, theirs


def main() -> int:
    """Measure and print."""
    print_header("region")
    ours, theirs = asyncio.run(_measure())
    return finish([Target("1 x 768 x 1024 region, p50, platform / tensorstore", ours / theirs, "times", 3)])


if __name__ == "__main__":
    sys.exit(main())
