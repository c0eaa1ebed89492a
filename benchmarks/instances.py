"""Instances of the shipped model's prediction of EPFL's test volume, block by block, against the whole volume at once.

usage: python -m benchmarks.instances [--repeats 3] [--prediction FILE] [--tune] [--json FILE]

Two worker processes read labels of 165 x 768 x 1024 voxels from a folder and write ids, as those of an instances job
do; a time begins before the processes are started. Then, once:

- components against `scipy.ndimage.label` of the whole volume: must be the same partition
- the watershed against SciPy's distances and scikit-image's watershed of the whole volume: variation of information
- F1 of objects with an intersection over union above one half, against the components of the truth

Settings were chosen on EPFL's training slices 100 to 164, which the model has seen: `--tune` prints that table and
ends. `--prediction FILE` keeps the prediction in a file, or takes it from there.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from biosegment_trainer.compute.task import Callback
from biosegment_trainer.instances.block import BlockCut
from biosegment_trainer.instances.separation import COMPONENTS, WATERSHED, Separation
from biosegment_trainer.instances.task import InstancesTask, SourceArray, Stage
from biosegment_trainer.instances.worker import InstancesWorker
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed

from benchmarks.partition import f1_at_half, same_partition, variation_of_information
from benchmarks.report import Target, finish, print_header, print_samples
from biosegment.settings import ObjectStoreSettings
from biosegment.storage.arrays import Arrays
from biosegment.storage.layout import ArrayLayout
from biosegment.volume import FIRST_CLASS, Index, Region

if TYPE_CHECKING:
    from bundles.data import Stack

SPACING_NM = (5.0, 5.0, 5.0)
WORKERS = 2
SECONDS, BITS = 60.0, 0.01
MIN_SIZE, SEED_DISTANCE_NM = 4000, 20.0
"""As chosen on the validation slab."""
STRUCTURES = {6: ndimage.generate_binary_structure(3, 1), 26: ndimage.generate_binary_structure(3, 3)}


def separation(
    method: str, min_size: int = 0, seed_distance_nm: float = SEED_DISTANCE_NM, connectivity: int = 26
) -> Separation:
    """Settings of a method."""
    distance = seed_distance_nm if method == WATERSHED else 0.0
    return Separation(method, connectivity, min_size, distance, SPACING_NM)


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """What the processes found.

    Attributes:
        ids: Of the objects (z, y, x).
        seconds: From before their start to the last id.
        processor_seconds: Of both of them.
        memory_mib: Peak of the larger one.
    """

    ids: NDArray[np.uint32]
    seconds: float
    processor_seconds: float
    memory_mib: float


class Runner:
    """Labels in a folder, and the processes that find their objects."""

    def __init__(self, folder: Path, labels: NDArray[np.uint8]) -> None:
        self._store = ObjectStoreSettings(object_store_url=f"file://{folder}")
        self._arrays = Arrays(self._store)
        self._shape = Index(*labels.shape)
        array = self._arrays.create("labels", labels.shape, np.uint8)
        array.write(Region.of_shape(labels.shape), labels)
        self._runs = 0

    def run(self, wanted: Separation) -> Run:
        """Find the objects."""
        self._runs += 1
        task = self._task(wanted)
        began = time.perf_counter()
        pipes, processes = [], []
        for _ in range(WORKERS):
            here, there = multiprocessing.Pipe()
            process = multiprocessing.get_context("spawn").Process(target=work, args=(task, there))
            process.start()
            pipes.append(here)
            processes.append(process)
        for stage in task.stages:
            _share(pipes, [(stage, number) for number in task.numbers(stage)])
        seconds = time.perf_counter() - began
        memory, processor = [], []
        for pipe, process in zip(pipes, processes, strict=True):
            pipe.send(None)
            mebibytes, processor_seconds = pipe.recv()
            memory.append(mebibytes)
            processor.append(processor_seconds)
            process.join()
        ids = self._arrays.open(task.target).read(Region.of_shape(self._shape))
        return Run(ids, seconds, sum(processor), max(memory))

    def _task(self, wanted: Separation) -> InstancesTask:
        target = self._arrays.create(f"instances-{self._runs}", tuple(self._shape), np.uint32)
        shard, chunk = target.layout.shard, target.layout.chunk
        task = InstancesTask(
            store=self._store,
            callback=Callback("127.0.0.1:1", "nobody", f"trainer-{self._runs}", 1),
            source=SourceArray("labels", FIRST_CLASS, FIRST_CLASS, is_graded=False),
            boundary=None,
            target=target.name,
            cut=BlockCut(self._shape, Index(*shard), Region.of_shape(self._shape)),
            separation=wanted,
        )
        for stage in {Stage.LABEL, task.found}:
            self._arrays.create(
                task.ids_key(stage), tuple(self._shape), np.uint32, layout=ArrayLayout(shard, chunk)
            )
        return task


def work(task: InstancesTask, pipe: Connection) -> None:
    """A worker process: does what it is told, and says at last how much memory it took."""
    worker = InstancesWorker(task)
    while piece := pipe.recv():
        worker.compute(*piece)
        pipe.send(True)
    pipe.send((_peak_memory_mib(), time.process_time()))


def _peak_memory_mib() -> float:
    """Of this process; `getrusage` counts what its parent had when it was started."""
    (line,) = (
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")
    )
    return int(line.split()[1]) / 1024


def _share(pipes: list[Connection], pieces: list[tuple[Stage, int]]) -> None:
    """Have pieces of work done, each by whoever is free."""
    waiting, busy = list(reversed(pieces)), 0
    for pipe in pipes:
        if waiting:
            pipe.send(waiting.pop())
            busy += 1
    while busy:
        for pipe in cast(list[Connection], wait(pipes)):
            pipe.recv()
            busy -= 1
            if waiting:
                pipe.send(waiting.pop())
                busy += 1


def whole_components(mask: NDArray[np.bool_], connectivity: int = 26) -> NDArray[np.int32]:
    """Connected components of a whole volume, by SciPy."""
    ids: NDArray[np.int32] = ndimage.label(mask, STRUCTURES[connectivity])[0]
    return ids


def whole_watershed(mask: NDArray[np.bool_], distance_nm: float) -> NDArray[np.int32]:
    """The plain algorithm on a whole volume; what no seed reaches is an object for each component."""
    depth = _distance(mask, distance_nm)
    seeds = whole_components(depth >= np.float32(distance_nm))
    ids: NDArray[np.int32] = watershed(-depth, seeds, connectivity=3, mask=mask)
    rest = whole_components(mask & (ids == 0))
    return np.where(rest > 0, rest + seeds.max(), ids)


def _distance(mask: NDArray[np.bool_], cap_nm: float) -> NDArray[np.float32]:
    """SciPy's distances up to a cap, in slabs with more than the cap around them: it takes 60 bytes for each voxel."""
    margin, width = int(cap_nm / min(SPACING_NM)) + 1, 128
    result = np.zeros(mask.shape, np.float32)
    for start in range(0, mask.shape[2], width):
        low, stop = max(0, start - margin), min(start + width, mask.shape[2])
        found = ndimage.distance_transform_edt(mask[:, :, low : stop + margin], sampling=SPACING_NM)
        result[:, :, start:stop] = np.minimum(found[:, :, start - low : stop - low], cap_nm)
    return result


def labels_of(stack: Stack, cache: Path | None) -> NDArray[np.uint8]:
    """The shipped model's labels of a stack."""
    if cache is not None and cache.exists():
        cached: NDArray[np.uint8] = np.load(cache)
        return cached
    # Loads torch, which the worker processes, who import this module, do without.
    from biosegment_trainer.learning.bundle import read_bundle

    from bundles.data import ROOT
    from bundles.evaluation import predicted

    labels = predicted(read_bundle(ROOT / "bundles/mitochondria_vem_segmentation").model, stack)
    if cache is not None:
        np.save(cache, labels)
    return labels


def tune(stack: Stack, labels: NDArray[np.uint8]) -> None:
    """Print F1 on a stack for many settings."""
    truth = whole_components(stack.truth)
    print(f"{stack.name}: {truth.max()} objects in truth")
    with tempfile.TemporaryDirectory(prefix="instances-") as folder:
        runner = Runner(Path(folder), labels)
        for wanted in _candidates():
            ids = runner.run(wanted).ids
            sizes = np.bincount(ids.ravel())
            for min_size in (0, 1000, 2000, 4000, 8000, 16000):
                kept = np.where(sizes >= min_size, np.arange(len(sizes)), 0)
                kept[0] = 0
                f1, matched, found, _ = f1_at_half(kept[ids], truth)
                print(
                    f"{wanted.method} connectivity {wanted.connectivity} seeds {wanted.seed_distance_nm:g} nm, "
                    f"min size {min_size}: F1 {f1:.3f}, {matched} of {found} matched",
                    flush=True,
                )


def _candidates() -> Iterator[Separation]:
    for connectivity in (6, 26):
        yield separation(COMPONENTS, connectivity=connectivity)
    for distance in (20.0, 30.0, 40.0, 50.0, 60.0, 80.0):
        yield separation(WATERSHED, seed_distance_nm=distance)


def main() -> int:
    """Measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--prediction", type=Path)
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    from bundles.data import epfl

    print_header("instances")
    if options.tune:
        slab = epfl("train", 100, 165)
        tune(slab, labels_of(slab, options.prediction))
        return 0
    stack = epfl("test")
    labels = labels_of(stack, options.prediction)
    mask = labels == FIRST_CLASS
    truth = whole_components(stack.truth)
    targets = []
    with tempfile.TemporaryDirectory(prefix="instances-") as folder:
        runner = Runner(Path(folder), labels)
        for method in (COMPONENTS, WATERSHED):
            runs = [runner.run(separation(method)) for _ in range(options.repeats)]
            median = print_samples(method, [run.seconds for run in runs], "s")
            print_samples(f"{method}, processor time of both", [run.processor_seconds for run in runs], "s")
            print_samples(f"{method}, memory of a worker", [run.memory_mib for run in runs], "MiB")
            targets.append(Target(f"{method} of {labels.shape}, {WORKERS} processes", median, "s", SECONDS))
            ids = runs[-1].ids
            if method == COMPONENTS:
                differ = 0.0 if same_partition(ids, whole_components(mask)) else 1.0
                targets.append(Target("components differ from the whole volume's", differ, "", 0.0))
            else:
                bits = variation_of_information(ids, whole_watershed(mask, SEED_DISTANCE_NM))
                targets.append(Target("variation of information of the watershed", bits, "bit", BITS))
            kept = runner.run(separation(method, MIN_SIZE)).ids
            f1, matched, found, true = f1_at_half(kept, truth)
            print(
                f"{method}, min size {MIN_SIZE}: F1 at IoU 0.5 {f1:.3f}: {matched} matched of {found} found and "
                f"{true} in truth"
            )
    return finish(targets, options.json)


if __name__ == "__main__":
    sys.exit(main())
