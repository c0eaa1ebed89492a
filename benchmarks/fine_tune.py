"""A fine-tune as an annotator waits for it: 40 new patches, from the request to the registered version.

usage: python -m benchmarks.fine_tune [--runs 3] [--steps N] [--longer 5]

On a running platform with Ray warm, on real data (EPFL's training volume, slices 0 to 79). A first model learns
from 40 patches; 40 others are then annotated and it is fine-tuned on all 80. The same is done again with five times
the steps. The IoU is that of slices 149 to 164, at full resolution, which no patch comes from.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import tifffile
from biosegment_trainer.learning.bundle import read_bundle

from benchmarks.report import Target, finish, print_header, print_samples
from biosegment.client import AsyncClient, aconnect
from biosegment.client.resources import Job
from biosegment.supervisor import Supervisor
from biosegment.volume import BACKGROUND, FIRST_CLASS, Index, Region, VoxelSize
from bundles.data import Stack, epfl
from bundles.evaluation import iou

PATCH = (1, 128, 128)
PATCHES = 40
TARGET_S, TARGET_IOU = 90.0, 0.02


def patches(stack: Stack, count: int, seed: int) -> list[Region]:
    """Regions at random, half of them with foreground, as someone annotates who is asked for both."""
    rng = np.random.default_rng(seed)
    found: list[Region] = []
    while len(found) < count:
        start = Index(*(int(rng.integers(0, n - p + 1)) for n, p in zip(stack.raw.shape, PATCH, strict=True)))
        region = Region.of_shape(PATCH, start)
        wanted = len(found) % 2 == 0
        if wanted == bool(stack.truth[region.slices].any()):
            found.append(region)
    return found


async def annotate(client: AsyncClient, volume: str, stack: Stack, regions: list[Region]) -> None:
    """Commit the truth of the regions."""
    for region in regions:
        labels = np.where(stack.truth[region.slices], FIRST_CLASS, BACKGROUND).astype(np.uint8)
        await client.annotations.commit(labels, volume=volume, region=region)


async def reached(client: AsyncClient, job: Job, folder: Path, held_out: Stack) -> float:
    """IoU of the model that a job made."""
    path = await client.models.export(job.model, folder / "model.zip")
    place = folder / job.model.replace("/", "-")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(place)
    (root,) = place.iterdir()
    return iou(read_bundle(root).model, held_out)


async def measure(folder: Path, options: argparse.Namespace) -> tuple[list[float], list[float], list[float]]:
    """Seconds of the fine-tunes, their IoU, and that of those which took five times the steps."""
    stack, held_out = epfl("train", 0, 80), epfl("train", 149, 165)
    tifffile.imwrite(folder / "raw.tif", stack.raw)
    environment = {"BIOSEGMENT_TRAINER__DEFAULT_PARENT": ""}
    supervisor = Supervisor(
        folder / "data",
        grpc_port=0,
        http_port=0,
        import_roots=[folder],
        environment=environment,
        say=lambda _: None,
    )
    seconds, short, long = [], [], []
    await supervisor.start()
    try:
        async with aconnect(data_dir=folder / "data") as client:
            for run in range(options.runs):
                project = (await client.projects.create(f"run-{run}", classes=["mitochondria"])).name
                imported = await client.jobs.import_volume(
                    project, str(folder / "raw.tif"), voxel_size=VoxelSize(5, 5, 5)
                )
                volume = (await client.jobs.wait(imported.name)).volume
                regions = patches(stack, 2 * PATCHES, run)
                await annotate(client, volume, stack, regions[:PATCHES])
                first = await client.jobs.wait((await client.jobs.train(project, seed=run)).name)
                await annotate(client, volume, stack, regions[PATCHES:])
                started = time.perf_counter()
                job = await client.jobs.train(project, parent=first.model, seed=run, max_steps=options.steps)
                job = await client.jobs.wait(job.name)
                seconds.append(time.perf_counter() - started)
                steps = int((await client.models.get(job.model)).metrics["steps"])
                longer = await client.jobs.train(
                    project, parent=first.model, seed=run, max_steps=options.longer * steps
                )
                longer = await client.jobs.wait(longer.name)
                short.append(await reached(client, job, folder, held_out))
                long.append(await reached(client, longer, folder, held_out))
                start = await reached(client, first, folder, held_out)
                print(
                    f"run {run}: {steps} steps, {seconds[-1]:.1f} s, IoU {short[-1]:.3f}; first model {start:.3f}; "
                    f"{options.longer} times the steps {long[-1]:.3f}",
                    flush=True,
                )
    finally:
        await supervisor.stop()
    return seconds, short, long


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=0, help="of the fine-tune; 0 for the default")
    parser.add_argument("--longer", type=int, default=5)
    options = parser.parse_args()
    print_header("fine_tune")
    with tempfile.TemporaryDirectory() as folder:
        seconds, short, long = asyncio.run(measure(Path(folder), options))
    spent = print_samples("request to registered version", seconds, "s")
    reached_short = print_samples("IoU", short, "")
    reached_long = print_samples(f"IoU of {options.longer} times the steps", long, "")
    return finish(
        [
            Target(
                "fine-tune on 40 new patches, Ray warm, request to registered version", spent, "s", TARGET_S
            ),
            Target(
                f"IoU that {options.longer} times the steps add ({reached_short:.3f} to {reached_long:.3f})",
                float(np.mean(long) - np.mean(short)),
                "IoU",
                TARGET_IOU,
            ),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
