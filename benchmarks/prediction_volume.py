"""Prediction of a whole volume by the platform against the network alone on the same tiles without overlap.

usage: python -m benchmarks.prediction_volume [--slices 64] [--edge 4096] [--repeats 3]

On a running platform: a volume of noise is imported at half of the working pixel, and the network that a project trains
by default predicts all of it, with probabilities, labels and no score maps. What counts is the processor time of the
workers, which read, normalise, compute, encode and write; not their start, nor the time in which they wait for others.
The network alone is what `benchmarks.prediction` runs, on a slice of the same width, one thread, before and after.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import tifffile
import torch

from benchmarks.prediction import FACTOR, OF_NETWORK, Slice, cpu_seconds
from benchmarks.report import Target, finish, print_header, print_samples
from biosegment.client import AsyncClient, aconnect
from biosegment.client.resources import Job
from biosegment.supervisor import Supervisor
from biosegment.volume import BACKGROUND, FIRST_CLASS, Index, Region, VoxelSize

VOXEL_SIZE = VoxelSize(30, 5, 5)


class Meter:
    """Processor seconds of the workers, and the blocks that were done when they were read."""

    def __init__(self) -> None:
        self.readings: list[tuple[int, int, float]] = []
        self._spent: dict[int, float] = {}

    def read(self, job: Job) -> None:
        """Take the time; workers that have ended keep theirs."""
        for process in psutil.Process().children(recursive=True):
            try:
                if "BlockActor" in " ".join(process.cmdline()):
                    times = process.cpu_times()
                    self._spent[process.pid] = times.user + times.system
            except psutil.Error:
                continue
        self.readings.append((job.done, job.total, sum(self._spent.values())))

    def seconds_per_block(self) -> float:
        """Between the first and the last block that was reported."""
        steady = [(done, spent) for done, _, spent in self.readings if done]
        (first, begin), (last, end) = steady[0], steady[-1]
        return (end - begin) / (last - first)


async def prepared(client: AsyncClient, folder: Path, shape: Index) -> tuple[str, str]:
    """A volume of noise, and a model of the default network that has learned next to nothing."""
    noise = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    tifffile.imwrite(folder / "noise.tif", noise)
    project = (await client.projects.create("volume", classes=["mitochondria"])).name
    job = await client.jobs.import_volume(project, str(folder / "noise.tif"), voxel_size=VOXEL_SIZE)
    volume = (await client.jobs.wait(job.name)).volume
    region = Region.of_shape((1, 256, 256))
    labels = np.where(noise[region.slices] > 150, FIRST_CLASS, BACKGROUND).astype(np.uint8)
    await client.annotations.commit(labels, volume=volume, region=region)
    job = await client.jobs.train(project, from_scratch=True, max_steps=1)
    return volume, (await client.jobs.wait(job.name)).model


async def measure(folder: Path, options: argparse.Namespace) -> tuple[list[float], list[float], list[float]]:
    """Per run, Mpixel per processor second of the network alone and of the workers; and the seconds of the jobs."""
    shape = Index(options.slices, options.edge, options.edge)
    pixels = shape.z * (shape.y // FACTOR) * (shape.x // FACTOR)
    work = Slice(options.edge // FACTOR)
    alone, forward = [], work.network_alone("auto")
    forward()
    whole, waited = [], []
    supervisor = Supervisor(
        folder / "data", grpc_port=0, http_port=0, import_roots=[folder], say=lambda _: None
    )
    await supervisor.start()
    try:
        async with aconnect(data_dir=folder / "data") as client:
            volume, model = await prepared(client, folder, shape)
            for _ in range(options.repeats):
                around = [cpu_seconds(forward)]
                meter, started = Meter(), time.perf_counter()
                job = await client.jobs.predict(volume, model=model, probabilities=True)
                ended = await client.jobs.wait(job.name, on_change=meter.read)
                waited.append(time.perf_counter() - started)
                around.append(cpu_seconds(forward))
                alone.append(work.image.numel() / statistics.mean(around) / 1e6)
                whole.append(pixels / ended.total / meter.seconds_per_block() / 1e6)
                print(f"{ended.total} blocks in {waited[-1]:.0f} s", flush=True)
    finally:
        await supervisor.stop()
    return alone, whole, waited


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=64)
    parser.add_argument("--edge", type=int, default=4096, help="of a slice, voxels")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print_header("prediction_volume")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        alone, whole, waited = asyncio.run(measure(Path(folder), options))
    print_samples("the network alone", alone, "Mpixel/s of one processor")
    print_samples("the workers, from storage to storage", whole, "Mpixel/s of one processor")
    print_samples("the job, from request to end", waited, "s")
    share = print_samples("share", [a / b for a, b in zip(whole, alone, strict=True)], "")
    return finish(
        [Target("whole volume's share of the network's throughput", share, "", OF_NETWORK, at_most=False)]
    )


if __name__ == "__main__":
    sys.exit(main())
