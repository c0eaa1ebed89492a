"""Measuring inside of a worker: the voxels of a layer and of its volume into a table and meshes."""

from __future__ import annotations

import json
import threading
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from biosegment.errors import FailedPrecondition
from biosegment.failpoint import failpoint
from biosegment.storage.arrays import Arrays
from biosegment.storage.objects import BlockingObjects, open_blocking_objects
from biosegment.storage.parts import PartWriter
from biosegment.volume import BlockGrid, Index, Region
from biosegment_trainer.compute.report import Reporter
from biosegment_trainer.compute.task import MadeFile, MeasureTask
from biosegment_trainer.compute.voxel import VoxelReader, open_voxels
from biosegment_trainer.compute.voxel_stream import StreamedVoxels
from biosegment_trainer.objects.grid import ObjectGrid
from biosegment_trainer.objects.mesh import affordable_cell, object_mesh, wanted_cell
from biosegment_trainer.objects.mesh_file import PRECOMPUTED_INFO, mesh_files
from biosegment_trainer.objects.sums import ObjectSums, RunningSums, add_up
from biosegment_trainer.objects.table import csv_bytes, object_table, parquet_bytes
from biosegment_trainer.request import MeshFormat

Voxels = NDArray[Any]
_T = TypeVar("_T")
_BLOCK: Final = Index(32, 1024, 1024)
"""Whole chunks, and broad, so that little is read twice for what lies around: 134 MB of ids of 32 bits."""
_CACHE_BYTES: Final = 256 << 20
"""For chunks that two neighbouring blocks, or objects, need."""
_AHEAD: Final = 64
"""Blocks that are begun before what an earlier one found is taken."""


def measure_objects(task: MeasureTask, reporter: Reporter) -> tuple[MadeFile, ...]:
    """Write the files of a task and say what they are.

    Raises:
        Stopped: The job was cancelled.
        Conflict: ATTEMPT_OUTDATED.
        FailedPrecondition: NO_OBJECTS.
        BiosegmentError: What reading or writing met with.
    """
    arrays, objects = Arrays(task.store, cache_bytes=_CACHE_BYTES), open_blocking_objects(task.store)
    with (
        _open_ids(task, arrays, reporter) as ids,
        open_voxels(task.volume, arrays, task.callback, reporter) as voxels,
        ThreadPoolExecutor(max(1, task.threads)) as threads,
    ):
        # What comes through the trainer is for one thread.
        image = _OneAtATime(voxels) if task.volume.is_reference else voxels
        layer = ids if task.edits_as_of is None else _OneAtATime(ids)
        blocks = ObjectBlocks(layer, image, task.grid)

        def progress(done: int, total: int) -> None:
            reporter.check()
            whole = 0.5 if task.meshes else 1.0
            reporter.progress(whole * done / total, "measuring", done, total, "blocks")

        sums = blocks.measure(threads, progress)
        if sums is None:
            raise FailedPrecondition("NO_OBJECTS", f"the layer {task.file_stem!r} holds no object")
        table = object_table(sums, task.grid, task.class_value, task.class_name)
        made = [
            _store(objects, task.csv, f"{task.file_stem}-objects.csv", "text/csv", csv_bytes(table)),
            _store(
                objects,
                task.parquet,
                f"{task.file_stem}-objects.parquet",
                "application/vnd.apache.parquet",
                parquet_bytes(table),
            ),
        ]
        failpoint("trainer.measure.table_written")
        reporter.log(f"measured {len(sums)} objects")
        if task.meshes is not None:
            made.append(_write_meshes(task, layer, sums, objects, threads, reporter))
    return tuple(made)


def _open_ids(task: MeasureTask, arrays: Arrays, reporter: Reporter) -> AbstractContextManager[VoxelReader]:
    if task.edits_as_of is None:
        return nullcontext(arrays.open(task.layer_key, immutable=True))
    return StreamedVoxels(task.layer, task.callback, reporter, edits_as_of=task.edits_as_of)


@dataclass(frozen=True, slots=True)
class ObjectBlocks:
    """The blocks of a layer of instances, and of the image under it.

    Attributes:
        layer: Ids.
        image: Level 0 of the volume.
        grid: How they lie.
        block: Voxels of the layer.
    """

    layer: VoxelReader
    image: VoxelReader
    grid: ObjectGrid
    block: Index = _BLOCK

    def measure(
        self, threads: ThreadPoolExecutor, progress: Callable[[int, int], None] = lambda done, total: None
    ) -> ObjectSums | None:
        """The sums over all blocks, None without objects; `progress` is told of each block, and may raise to end it."""
        region = self.grid.layer_region
        # Of what is coarser than the image less at a time: the image is read whole.
        block = (max(1, edge // each) for edge, each in zip(self.block, self.grid.downsampling, strict=True))
        cut = BlockGrid(self.grid.shape, Index(*map(min, block, self.grid.shape)))
        numbers = [*cut.overlapping(region)]
        total = RunningSums()
        for done, sums in enumerate(
            in_order(lambda at: self._block(cut[numbers[at]], region), len(numbers), threads)
        ):
            if sums is not None:
                total.add(sums)
            progress(done + 1, len(numbers))
        return total.sums()

    def _block(self, block: Region, region: Region) -> ObjectSums | None:
        core = block.intersection(region)
        assert core is not None
        around = core.padded((1, 1, 1), Region.of_shape(self.grid.shape))
        read = self.layer.read(around)
        if not read[core.relative_to(around).slices].any():
            return None
        beyond = [
            (1 - (low - near), 1 - (far - high))
            for low, near, high, far in zip(core.start, around.start, core.stop, around.stop, strict=True)
        ]
        padded = np.pad(read, beyond) if any(map(any, beyond)) else read
        return add_up(padded, self._values(core), core.start)

    def _values(self, core: Region) -> Voxels:
        """The image at the layer's voxels: means over what one of them covers."""
        values: Voxels = self.image.read(self.grid.at_level_0(core))
        factor = self.grid.downsampling
        if factor == (1, 1, 1):
            return values
        wide = values.astype(np.float64)
        # At the end of the volume a voxel of the layer may cover less than elsewhere.
        for axis, each in enumerate(factor):
            starts = np.arange(0, wide.shape[axis], each)
            counts = np.diff(starts, append=wide.shape[axis])
            shape = [-1 if other == axis else 1 for other in range(3)]
            wide = np.add.reduceat(wide, starts, axis=axis) / counts.reshape(shape)
        return wide


def in_order(
    make: Callable[[int], _T], count: int, threads: ThreadPoolExecutor, ahead: int = _AHEAD
) -> Iterator[_T]:
    """Of 0 to `count` what `make` returns, in order: `ahead` of them at most are begun and not taken yet."""
    waiting: deque[Future[_T]] = deque()
    try:
        for number in range(count):
            waiting.append(threads.submit(make, number))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


@dataclass(slots=True)
class _OneAtATime:
    """A reader that is for one thread, for several."""

    reader: VoxelReader
    lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, region: Region) -> Voxels:
        """As `VoxelReader.read`."""
        with self.lock:
            return self.reader.read(region)


def _store(
    objects: BlockingObjects, place: tuple[str, str], file_name: str, media_type: str, data: bytes
) -> MadeFile:
    artifact, prefix = place
    writer = PartWriter(objects, prefix)
    writer.write(data)
    return MadeFile(artifact, file_name, media_type, sha256=writer.finish(), size_bytes=writer.size_bytes)


def _write_meshes(
    task: MeasureTask,
    layer: VoxelReader,
    sums: ObjectSums,
    objects: BlockingObjects,
    threads: ThreadPoolExecutor,
    reporter: Reporter,
) -> MadeFile:
    assert task.meshes is not None
    artifact, prefix = task.meshes
    writer = PartWriter(objects, prefix)
    # In the order in which they lie in the storage, so that chunks are read once.
    sums = sums.only(np.lexsort([*(sums.start // [16, 128, 128]).T[::-1]]))
    entries: list[dict[str, Any]] = []
    # Little is gained by more than the first level, at several times the time.
    with zipfile.ZipFile(writer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        if MeshFormat.PRECOMPUTED in task.mesh_formats:
            archive.writestr(f"{MeshFormat.PRECOMPUTED}/info", PRECOMPUTED_INFO)
        for entry, files in _meshes(task, layer, sums, threads):
            reporter.check()
            for name, data in files:
                archive.writestr(name, data)
            entries.append(entry)
            done = len(entries)
            reporter.progress(0.5 + 0.5 * done / len(sums), "meshing", done, len(sums), "objects")
        archive.writestr("manifest.json", json.dumps(_manifest(task, entries)))
    if coarser := sum(entry["is_coarser"] for entry in entries):
        reporter.log(f"{coarser} objects are so large that their meshes are made on a coarser grid")
    name = f"{task.file_stem}-meshes.zip"
    return MadeFile(artifact, name, "application/zip", sha256=writer.finish(), size_bytes=writer.size_bytes)


def _manifest(task: MeasureTask, entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "unit": "nm",
        "axes": "xyz",
        "origin": "centre of the first voxel of the volume",
        "voxel_size_zyx_nm": [*task.grid.layer_voxel_size],
        "objects": sorted(entries, key=lambda entry: int(entry["id"])),
    }


def _meshes(
    task: MeasureTask, layer: VoxelReader, sums: ObjectSums, threads: ThreadPoolExecutor
) -> Iterator[tuple[dict[str, Any], list[tuple[str, bytes]]]]:
    """What the manifest says of each object, and its files."""
    size = task.grid.layer_voxel_size
    wanted = wanted_cell(size, task.mesh_cell_nm)

    def make(number: int) -> tuple[dict[str, Any], list[tuple[str, bytes]]]:
        object_id = int(sums.ids[number])
        box = Region(Index(*map(int, sums.start[number])), Index(*map(int, sums.stop[number])))
        cell = affordable_cell(box, size, wanted, task.mesh_cells)
        mesh = object_mesh(layer.read, object_id, box, task.grid, cell)
        entry = {
            "id": object_id,
            "cell_voxels_zyx": [*cell],
            "is_coarser": cell != wanted,
            "vertices": len(mesh.vertices),
            "triangles": len(mesh.faces),
        }
        return entry, [file for each in task.mesh_formats for file in mesh_files(mesh, object_id, each)]

    # A mesh may be large, and a single thread writes them: few that are done may wait.
    yield from in_order(make, len(sums), threads, max(1, task.threads) + 1)
