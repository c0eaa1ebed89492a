"""The table of 10 000 objects: from arrays in memory, and as a job on a platform.

usage: python -m benchmarks.objects [--runs 3] [--threads 2] [--edge 512] [--objects 10000] [--meshes] [--json FILE]

The volume is EPFL's size (165 x 768 x 1024), or with `--edge` a cube; its objects are ellipsoids of random size on a
jittered grid, about a fifth of all voxels, its grey values noise. In each run, one after the other:

- array to table: from ids and grey values in memory to the bytes of the CSV and the Parquet file, in blocks as the job
  takes them
- the job: from `jobs.measure_objects` until it has ended, on a platform that runs with Ray warm, which a first job
  that is not counted sees to
- with `--meshes` once: the same with a mesh of each object as STL
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from biosegment_trainer.objects.grid import ObjectGrid
from biosegment_trainer.objects.table import csv_bytes, object_table, parquet_bytes
from biosegment_trainer.objects.worker import ObjectBlocks
from numpy.typing import NDArray

from benchmarks.report import Target, finish, print_header, print_samples
from biosegment.client import aconnect
from biosegment.supervisor import Supervisor
from biosegment.volume import Index, Region, VoxelSize

EPFL = Index(165, 768, 1024)
SIZE = VoxelSize(5, 5, 5)
TARGET_S = 5.0


@dataclass(frozen=True, slots=True)
class Held:
    """An array in memory, as a worker reads one."""

    array: NDArray[Any]

    def read(self, region: Region) -> NDArray[Any]:
        """A view of a region."""
        return self.array[region.slices]


def some_objects(shape: Index, count: int, seed: int = 0) -> NDArray[np.uint32]:
    """Ids (z, y, x) of ellipsoids, each in a cell of its own."""
    rng = np.random.default_rng(seed)
    ids = np.zeros(shape, np.uint32)
    edge = (np.prod(shape) / count) ** (1 / 3)
    cells = [max(1, round(size / edge)) for size in shape]
    while np.prod(cells) < count:
        cells[int(np.argmax(np.array(shape) / cells))] += 1
    places = rng.permutation([*np.ndindex(*cells)])[:count]
    pitch = np.array(shape) / cells
    for number, place in enumerate(places, 1):
        radii = rng.uniform(0.25, 0.5, 3) * pitch
        middle = (place + 0.5) * pitch + rng.uniform(-0.1, 0.1, 3) * pitch
        low = np.maximum(0, np.floor(middle - radii)).astype(int)
        high = np.minimum(shape, np.ceil(middle + radii) + 1).astype(int)
        axes = np.ogrid[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
        inside = sum(((axis - m) / r) ** 2 for axis, m, r in zip(axes, middle, radii, strict=True)) <= 1
        ids[tuple(slice(a, b) for a, b in zip(low, high, strict=True))][inside] = number
    return ids


def array_to_table(ids: NDArray[Any], image: NDArray[Any], threads: int) -> tuple[float, float, int]:
    """Seconds, processor seconds, and rows of the table."""
    shape = Index(*ids.shape)
    grid = ObjectGrid(shape, SIZE, shape, Index(1, 1, 1), Region.of_shape(shape))
    began_s, worked_s = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(threads) as pool:
        sums = ObjectBlocks(Held(ids), Held(image), grid).measure(pool)
    assert sums is not None
    table = object_table(sums, grid, 2, "mitochondria")
    csv_bytes(table)
    parquet_bytes(table)
    return time.perf_counter() - began_s, time.process_time() - worked_s, table.num_rows


async def job_seconds(
    folder: Path, ids: NDArray[Any], image: NDArray[Any], runs: int, meshes: bool
) -> tuple[list[float], float]:
    """Seconds of the jobs, and of one with meshes, 0 without."""
    tifffile.imwrite(folder / "raw.tif", image, photometric="minisblack")
    tifffile.imwrite(folder / "objects.tif", ids, photometric="minisblack")
    supervisor = Supervisor(
        folder / "data", grpc_port=0, http_port=0, import_roots=[folder], say=lambda _: None
    )
    await supervisor.start()
    try:
        async with aconnect(data_dir=folder / "data") as client:
            project = (await client.projects.create("objects", classes=["mitochondria"])).name
            raw = await client.jobs.import_volume(project, str(folder / "raw.tif"), voxel_size=SIZE)
            volume = (await client.jobs.wait(raw.name)).volume
            labels = await client.jobs.import_labels(volume, str(folder / "objects.tif"), instances=True)
            (layer,) = (await client.jobs.wait(labels.name)).layers

            async def run(**options: Any) -> float:
                began_s = time.perf_counter()
                made = await client.jobs.measure_objects(layer, **options)
                await client.jobs.wait(made.name)
                return time.perf_counter() - began_s

            await run()
            seconds = [await run() for _ in range(runs)]
            return seconds, await run(meshes=True) if meshes else 0.0
    finally:
        await supervisor.stop()


def measure(options: argparse.Namespace) -> Sequence[Target]:
    """Run everything and print samples."""
    shape = Index(*[options.edge] * 3) if options.edge else EPFL
    ids = some_objects(shape, options.objects)
    image = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    print(
        f"{' x '.join(map(str, shape))} voxels, {100 * (ids > 0).mean():.0f} % in {options.objects} objects"
    )
    found = [array_to_table(ids, image, options.threads) for _ in range(options.runs)]
    assert {rows for *_, rows in found} == {options.objects}
    seconds = print_samples(f"array to table, {options.threads} threads", [each for each, *_ in found], "s")
    print_samples("array to table, processor time", [each for _, each, _ in found], "s")
    with tempfile.TemporaryDirectory() as folder:
        jobs, with_meshes = asyncio.run(job_seconds(Path(folder), ids, image, options.runs, options.meshes))
    of_job = print_samples("job, end to end", jobs, "s")
    if options.meshes:
        print_samples("job with meshes as STL, end to end", [with_meshes], "s")
    name = f"table of {options.objects} objects"
    return [
        Target(f"{name}, from arrays", seconds, "s", TARGET_S),
        Target(f"{name}, job end to end", of_job, "s", TARGET_S),
    ]


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--edge", type=int, default=0, help="of a cube; EPFL's size when 0")
    parser.add_argument("--objects", type=int, default=10_000)
    parser.add_argument("--meshes", action="store_true", help="also make meshes, once")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print_header("objects")
    return finish(measure(options), options.json)


if __name__ == "__main__":
    sys.exit(main())
