"""Clicks and strokes through the whole stack: SDK, gateway, trainer, datastore and the process that segments.

usage: python -m benchmarks.segmentation [--repeats 60] [--json FILE]

An embedded platform with a synthetic volume of 16 x 1024 x 1024 voxels of 10 nm and the shipped click model:

- a click on a region of 256 x 256, with the mask before, somewhere new each time: when nothing else runs, and while the
  platform trains a network
- strokes on a slice of 1024 x 1024: the first answer on a slice, and the one after another stroke
- the memory of the process that segments, after all of it (PSS), the time until it has started, and the processor time
  of a click by process, which other load on the machine changes little
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import tifffile

from benchmarks.report import Target, finish, print_header, print_samples, tree_memory_bytes
from biosegment.client import AsyncClient, aconnect
from biosegment.client.resources import JobState
from biosegment.supervisor import Supervisor
from biosegment.synthetic import generate
from biosegment.volume import Index, Region, VoxelSize

SHAPE, EDGE = (16, 1024, 1024), 256
VOXEL_SIZE = VoxelSize(30, 10, 10)
WARM_UP, SLICES = 5, 6
IDLE_MS, BUSY_MS, FIRST_MS, UPDATE_MS = 300.0, 600.0, 2000.0, 1000.0


class Annotator:
    """Somebody with a project and its volume.

    Args:
        client: Of the platform.
        volume: Name.
        truth: bool, of the volume's shape.
    """

    def __init__(self, client: AsyncClient, volume: str, truth: np.ndarray) -> None:
        self._client = client
        self._volume = volume
        self._truth = truth
        self._random = random.Random(0)

    async def click(self, base: int = 0) -> float:
        """Milliseconds of a click in the middle of a region somewhere, on a mask that is nearly right."""
        z, y, x = (
            self._random.randint(0, size - part) for size, part in zip(SHAPE, (1, EDGE, EDGE), strict=True)
        )
        region = Region.of_shape((1, EDGE, EDGE), Index(z, y, x))
        mask = self._truth[region.slices].astype(np.uint8)
        mask[:, :, EDGE // 2 :] = 0
        began = time.perf_counter()
        answer = await self._client.segmentation.segment(
            self._volume,
            region,
            class_value=2,
            clicks=[((z, y + EDGE // 2, x + EDGE // 2 + 20), True)],
            previous=mask,
            base_sequence=base,
        )
        milliseconds = 1e3 * (time.perf_counter() - began)
        assert answer.mask[0, EDGE // 2, EDGE // 2 + 20] == 1
        return milliseconds

    async def strokes(self, z: int) -> tuple[float, float]:
        """Milliseconds of the first answer on a slice, and of that after another stroke."""
        region = Region.of_shape((1, *SHAPE[1:]), Index(z, 0, 0))
        inside, outside = (np.argwhere(self._truth[z] == value) for value in (True, False))
        strokes, found = np.zeros(region.shape, np.uint8), []
        for _ in range(2):
            for value, places in ((2, inside), (1, outside)):
                for _ in range(10):
                    y, x = places[self._random.randrange(len(places))]
                    row = self._truth[z, y, x : x + 12] == (value == 2)
                    strokes[0, y, x : x + 12][row] = value
            began = time.perf_counter()
            await self._client.segmentation.segment(
                self._volume, region, class_value=2, scribbles=strokes, base_sequence=0
            )
            found.append(1e3 * (time.perf_counter() - began))
        return found[0], found[1]

    async def while_training(self, project: str, repeats: int) -> list[float]:
        """Milliseconds of clicks while a training runs, which is given up afterwards."""
        for z in (1, 9):
            region = Region.of_shape((1, 512, 512), Index(z, 256, 256))
            labels = np.where(self._truth[region.slices], 2, 1).astype(np.uint8)
            last = await self._client.annotations.commit(labels, volume=self._volume, region=region)
        job = await self._client.jobs.train(project, from_scratch=True, max_steps=100_000)
        while not (job.state is JobState.RUNNING and "loss" in job.metrics):
            assert job.state in (JobState.QUEUED, JobState.RUNNING), job
            await asyncio.sleep(0.5)
            job = await self._client.jobs.get(job.name)
        samples = [await self.click(base=last.sequence) for _ in range(repeats)]
        job = await self._client.jobs.get(job.name)
        assert job.state is JobState.RUNNING, job
        print(f"the training was at {job.step}")
        await self._client.jobs.cancel(job.name)
        return samples


async def measure(folder: Path, repeats: int) -> list[Target]:
    """Run everything, print the samples, give the rows."""
    raw, mask = generate(SHAPE, 1)
    tifffile.imwrite(folder / "raw.tif", raw)
    supervisor = Supervisor(
        folder / "data", grpc_port=0, http_port=0, import_roots=[folder], say=lambda _: None
    )
    await supervisor.start()
    try:
        async with aconnect(data_dir=folder / "data") as client:
            project = await client.projects.create(
                "bench", classes=["mitochondria"], working_resolution_nm=10
            )
            job = await client.jobs.import_volume(
                project.name, str(folder / "raw.tif"), voxel_size=VOXEL_SIZE
            )
            volume = (await client.jobs.wait(job.name)).volume
            annotator = Annotator(client, volume, mask > 0)
            print(f"first click, with the start of the process: {await annotator.click():.0f} ms")
            for _ in range(WARM_UP):
                await annotator.click()
            spent = processor_seconds(supervisor)
            idle = [await annotator.click() for _ in range(repeats)]
            spent = {name: now - spent[name] for name, now in processor_seconds(supervisor).items()}
            both = [await annotator.strokes(z) for z in range(SLICES)]
            process = _segmenting(supervisor.process_id("trainer"))
            memory = tree_memory_bytes(process) / 2**20
            busy = await annotator.while_training(project.name, repeats)
    finally:
        await supervisor.stop()
    print(f"memory of the process that segments: {memory:.0f} MiB")
    parts = ", ".join(f"{name} {1e3 * seconds / repeats:.0f}" for name, seconds in spent.items())
    print(f"processor time of a click, idle: {parts} ms")
    for name, samples in (("idle", idle), ("while training", busy)):
        print(f"click, {name}: p95 {np.percentile(samples, 95):.0f} ms")
    what = "click on 256 x 256 through the stack, p50"
    return [
        Target(f"{what}, idle", print_samples("click, idle", idle, "ms"), "ms", IDLE_MS),
        Target(f"{what}, while training", print_samples("click, training", busy, "ms"), "ms", BUSY_MS),
        Target("first answer to strokes on 1024 x 1024 through the stack, p50",
               print_samples("first strokes", [one for one, _ in both], "ms"), "ms", FIRST_MS),
        Target("... after another stroke, p50",
               print_samples("another stroke", [two for _, two in both], "ms"), "ms", UPDATE_MS),
    ]  # fmt: skip


def processor_seconds(supervisor: Supervisor) -> dict[str, float]:
    """Of the services, and of the process that segments, until now."""
    trainer = supervisor.process_id("trainer")
    processes = {"segmenting": _segmenting(trainer), "trainer": psutil.Process(trainer)}
    processes |= {name: psutil.Process(supervisor.process_id(name)) for name in ("gateway", "datastore")}
    return {name: sum(process.cpu_times()[:2]) for name, process in processes.items()}


def _segmenting(trainer: int) -> psutil.Process:
    children = psutil.Process(trainer).children()
    return next(each for each in children if "biosegment_trainer.interaction.child" in each.cmdline())


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print_header("segmentation")
    with tempfile.TemporaryDirectory() as folder:
        return finish(asyncio.run(measure(Path(folder), options.repeats)), options.json)


if __name__ == "__main__":
    sys.exit(main())
