"""Memory of a prediction's workers over the first blocks of a sparse volume of 100 GB.

usage: python -m benchmarks.prediction_memory [--blocks 200] [--gigabytes 100] [--in-plane-nm 2.5]

On a running platform, with the network that a project trains by default. Importing 100 GB would measure the importer: a
small volume is imported and then said to be larger, in the datastore's table and in its array, whose other voxels are
absent and read as zeros. Blocks hold as many voxels as in any other volume, and all of their results are written.

Every second the resident memory of each worker is taken. It must stay below the bound, and not grow from the second
quarter of the blocks to the last.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import tifffile
from biosegment_trainer.learning.factor import working_factor
from biosegment_trainer.learning.tiling import default_tile
from biosegment_trainer.prediction.block import BlockPlan, VolumeBlocks

from benchmarks.report import Target, finish, print_header
from biosegment.client import AsyncClient, aconnect
from biosegment.client.resources import Job
from biosegment.supervisor import Supervisor
from biosegment.volume import BACKGROUND, FIRST_CLASS, Index, Region, VoxelSize

SMALL = Index(32, 512, 512)
EDGE = 8192
"""Of the large volume, in y and x."""
WORKING_NM = 10.0
MAX_GB, MAX_GROWTH = 3.0, 1.05


class Watch:
    """Resident memory of the workers, with the blocks that were done when it was taken."""

    def __init__(self) -> None:
        self.samples: dict[int, list[tuple[int, float]]] = {}
        self.job: Job | None = None

    async def run(self) -> None:
        """Take it every second until cancelled."""
        while True:
            done = self.job.done if self.job is not None else 0
            for process in psutil.Process().children(recursive=True):
                try:
                    if "BlockActor" in " ".join(process.cmdline()):
                        gigabytes = process.memory_info().rss / 1e9
                        self.samples.setdefault(process.pid, []).append((done, gigabytes))
                except psutil.Error:
                    continue
            await asyncio.sleep(1.0)

    def seen(self, job: Job) -> None:
        """Note how far the job is."""
        self.job = job


def enlarge(data: Path, shape: Index) -> None:
    """Say that the only volume of a platform that does not run is larger than it is."""
    with sqlite3.connect(data / "db" / "datastore.db") as database:
        ((key, levels),) = database.execute("select key, levels from volumes").fetchall()
        ((_, downsampling, path), *_) = json.loads(levels)
        mean, std = [128.0] * shape.z, [40.0] * shape.z
        database.execute(
            "update volumes set shape = ?, levels = ?, slice_mean = ?, slice_std = ?",
            tuple(map(json.dumps, (list(shape), [[list(shape), downsampling, path]], mean, std))),
        )
    metadata = data / "objects" / key / path / "zarr.json"
    array = json.loads(metadata.read_text())
    metadata.write_text(json.dumps(array | {"shape": list(shape)}))


async def noise_and_model(
    client: AsyncClient, folder: Path, shape: Index, voxel_size: VoxelSize
) -> tuple[str, str]:
    """A volume of noise, and a model of the default network that has learned next to nothing."""
    noise = np.random.default_rng(0).integers(60, 200, shape, np.uint8)
    tifffile.imwrite(folder / "noise.tif", noise)
    project = (await client.projects.create("noise", classes=["mitochondria"])).name
    job = await client.jobs.import_volume(project, str(folder / "noise.tif"), voxel_size=voxel_size)
    volume = (await client.jobs.wait(job.name)).volume
    region = Region.of_shape((1, 256, 256))
    labels = np.where(noise[region.slices] > 150, FIRST_CLASS, BACKGROUND).astype(np.uint8)
    await client.annotations.commit(labels, volume=volume, region=region)
    job = await client.jobs.train(project, from_scratch=True, max_steps=1)
    return volume, (await client.jobs.wait(job.name)).model


async def measure(folder: Path, options: argparse.Namespace) -> tuple[Watch, float, int]:
    """The workers' memory, seconds, and blocks that were predicted."""
    voxel_size = VoxelSize(30, options.in_plane_nm, options.in_plane_nm)
    shape = Index(round(options.gigabytes * 1e9 / EDGE**2), EDGE, EDGE)
    factor = working_factor(WORKING_NM, options.in_plane_nm)
    blocks = VolumeBlocks(shape, BlockPlan.of(factor, Region.of_shape(shape), default_tile(2, factor)))
    # Whole layers of blocks: as many as are asked for, or a few more.
    _, rows, columns = blocks.grid.counts
    layers = -(-options.blocks // (rows * columns))
    region = Region(Index(0, 0, 0), Index(min(layers * blocks.plan.block.z, shape.z), EDGE, EDGE))
    watch = Watch()

    def supervisor() -> Supervisor:
        return Supervisor(
            folder / "data", grpc_port=0, http_port=0, import_roots=[folder], say=lambda _: None
        )

    running = supervisor()
    await running.start()
    try:
        async with aconnect(data_dir=folder / "data") as client:
            volume, model = await noise_and_model(client, folder, SMALL, voxel_size)
    finally:
        await running.stop()
    enlarge(folder / "data", shape)
    running = supervisor()
    await running.start()
    try:
        async with aconnect(data_dir=folder / "data") as client:
            job = await client.jobs.predict(
                volume, model=model, region=region, probabilities=True, measures=["entropy"]
            )
            sampling = asyncio.create_task(watch.run())
            started = time.perf_counter()
            ended = await client.jobs.wait(job.name, on_change=watch.seen)
            seconds = time.perf_counter() - started
            sampling.cancel()
            return watch, seconds, ended.total
    finally:
        await running.stop()


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=200)
    parser.add_argument("--gigabytes", type=float, default=100.0)
    parser.add_argument("--in-plane-nm", type=float, default=2.5)
    options = parser.parse_args()
    print_header("prediction_memory")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        watch, seconds, blocks = asyncio.run(measure(Path(folder), options))
    targets = []
    print(f"{blocks} blocks of a volume of {options.gigabytes:g} GB in {seconds:.0f} s")
    for number, taken in enumerate(watch.samples.values()):
        memory = [gigabytes for _, gigabytes in taken]
        quarters = [
            [gigabytes for done, gigabytes in taken if low * blocks <= done < (low + 0.25) * blocks]
            for low in (0.25, 0.75)
        ]
        print(f"worker {number}: {' '.join(f'{value:.2f}' for value in memory[:: len(memory) // 40 + 1])} GB")
        targets.append(Target(f"peak of worker {number}", max(memory), "GB", MAX_GB))
        if all(quarters):
            early, late = map(statistics.median, quarters)
            targets.append(
                Target(f"growth of worker {number}, last quarter by second", late / early, "x", MAX_GROWTH)
            )
    return finish(targets)


if __name__ == "__main__":
    sys.exit(main())
