"""Prediction of a whole volume by the platform against the network alone on the same tiles without overlap.

usage: python -m benchmarks.prediction_volume [--slices 128] [--edge 4096] [--repeats 3]

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

import psutil
import torch

from benchmarks.prediction import FACTOR, OF_NETWORK, Slice, cpu_seconds
from benchmarks.prediction_memory import noise_and_model
from benchmarks.report import Target, finish, print_header, print_samples
from biosegment.client import AsyncClient, aconnect
from biosegment.supervisor import Supervisor
from biosegment.volume import Index, VoxelSize

VOXEL_SIZE = VoxelSize(30, 5, 5)


class Meter:
    """Processor seconds of the workers, each time that the number of finished blocks has grown."""

    def __init__(self) -> None:
        self._spent: dict[int, float] = {}
        self._readings: dict[int, float] = {}
        self._total = 0

    async def watch(self, client: AsyncClient, name: str) -> None:
        """Read until cancelled."""
        while True:
            job = await client.jobs.get(name)
            for process in psutil.Process().children(recursive=True):
                try:
                    if "BlockActor" in " ".join(process.cmdline()):
                        times = process.cpu_times()
                        self._spent[process.pid] = times.user + times.system
                except psutil.Error:
                    continue
            if job.done:
                self._total = job.total
                self._readings.setdefault(job.done, sum(self._spent.values()))
            await asyncio.sleep(0.2)

    @property
    def workers(self) -> int:
        return len(self._spent)

    def seconds_per_block(self) -> float:
        """Between two moments at which one block was finished, and the others were as far as at the other moment.

        Workers begin together and take turns: after a block of each they are at the same place of the next. The last
        blocks are left out, in which some have nothing to do.
        """
        first = min(self._readings)
        last = max(
            done
            for done in self._readings
            if done <= self._total - self.workers + 1 and (done - first) % self.workers == 0
        )
        if last == first:
            raise SystemExit(f"{self._total} blocks are too few for {self.workers} workers; take more slices")
        return (self._readings[last] - self._readings[first]) / (last - first)


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
            volume, model = await noise_and_model(client, folder, shape, VOXEL_SIZE)
            for _ in range(options.repeats):
                around = [cpu_seconds(forward)]
                meter, started = Meter(), time.perf_counter()
                job = await client.jobs.predict(volume, model=model, probabilities=True)
                watching = asyncio.create_task(meter.watch(client, job.name))
                ended = await client.jobs.wait(job.name)
                waited.append(time.perf_counter() - started)
                watching.cancel()
                around.append(cpu_seconds(forward))
                alone.append(work.image.numel() / statistics.mean(around) / 1e6)
                whole.append(pixels / ended.total / meter.seconds_per_block() / 1e6)
                print(f"{ended.total} blocks by {meter.workers} workers in {waited[-1]:.0f} s", flush=True)
    finally:
        await supervisor.stop()
    return alone, whole, waited


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=128)
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
