"""From somebody's file to our OME-Zarr, slab by slab.

Planes are read once, in order. Every level keeps the planes of its current row of shards in a buffer; a full
buffer is written, whole shards only. Planes are halved into the buffer of the next level as they come. So no
shard is ever written twice, and memory is bounded by the slab, however long the volume is. Reading, halving and
writing overlap. The metadata that makes the image visible is written last.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from biosegment.errors import FailedPrecondition, InvalidArgument
from biosegment.storage.arrays import Array, Arrays, Pending
from biosegment.storage.layout import DEFAULT_CHUNK, DEFAULT_SHARD, ArrayLayout
from biosegment.storage.multiscale import Level, write_multiscale_metadata
from biosegment.storage.objects import BlockingObjects
from biosegment.volume import Index, VoxelSize
from biosegment_datastore.formats.source import VolumeSource, Voxels
from biosegment_datastore.pyramid import downsample, plan_levels

SLAB_BYTES = 192 << 20
"""Largest level-0 buffer; two of them and the encoded shards of one are in memory at the same time."""

Progress = Callable[[int, int], None]
"""Called with slices done and slices in all."""


@dataclass(frozen=True, slots=True)
class IntensityStatistics:
    """Grey values slice by slice: EM slices flicker, and training normalises by these."""

    mean: npt.NDArray[np.float64]
    """(z,)"""
    std: npt.NDArray[np.float64]
    """(z,)"""
    minimum: float
    maximum: float


@dataclass(frozen=True, slots=True)
class ImportedVolume:
    """What an import made."""

    shape: Index
    dtype: str
    voxel_size: VoxelSize
    levels: tuple[Level, ...]
    statistics: IntensityStatistics


def import_volume(
    source: VolumeSource,
    voxel_size: VoxelSize | None,
    arrays: Arrays,
    objects: BlockingObjects,
    prefix: str,
    *,
    name: str = "",
    progress: Progress = lambda done, total: None,
    should_stop: Callable[[], bool] = lambda: False,
    levels: tuple[Level, ...] | None = None,
) -> ImportedVolume:
    """Copy `source` to an OME-Zarr 0.5 image at `prefix`; blocks, and uses several threads.

    Until it returns, nothing at `prefix` is an image. When it raises, no write is under way any more, and the
    caller removes `prefix` with `delete_prefix`.

    Args:
        source: The open image.
        voxel_size: Overrules the file's own; needed when the file has none.
        arrays: Where the voxels go.
        objects: The same store, for the metadata.
        prefix: Key of the image, such as `volumes/{id}.ome.zarr`, with nothing there.
        name: The image's name in its metadata.
        progress: Called from this thread after every few slices.
        should_stop: Asked as often; True cancels.
        levels: The pyramid; planned from shape and voxel size by default.

    Raises:
        InvalidArgument: VOXEL_SIZE_UNKNOWN, NOT_FINITE, or what the source raises for damaged data.
        FailedPrecondition: IMPORT_CANCELLED.
        ResourceExhausted: DISK_FULL.
        Unavailable: OBJECT_STORE_UNAVAILABLE.
    """
    size = voxel_size or source.voxel_size
    if size is None:
        raise InvalidArgument(
            "VOXEL_SIZE_UNKNOWN", "the file does not tell its voxel size: give it in nanometres, z, y and x"
        )
    levels = plan_levels(source.shape, size) if levels is None else levels
    pyramid = _Pyramid(arrays, prefix, levels, source.dtype)
    statistics = _SliceStatistics(source.shape.z)
    slabs = _slabs(source)
    try:
        done = 0
        for slab in slabs:
            if should_stop():
                raise FailedPrecondition(
                    "IMPORT_CANCELLED", "the import was cancelled; nothing of it is kept"
                )
            statistics.add(done, slab)
            pyramid.append(slab)
            done += len(slab)
            progress(done, source.shape.z)
        pyramid.finish()
    finally:
        # Also after a failure: the caller is about to close the source and to remove what these writes make.
        slabs.close()
        pyramid.wait_quietly()
    write_multiscale_metadata(objects, prefix, name or prefix, levels, size)
    return ImportedVolume(source.shape, source.dtype.name, size, levels, statistics.result())


def _slabs(source: VolumeSource) -> Generator[Voxels, None, None]:
    """The planes in order, several at a time; the next ones are read while the caller works on these."""
    depth, step = source.shape.z, source.slab_planes
    with ThreadPoolExecutor(1, thread_name_prefix="read") as reader:
        ahead = reader.submit(source.read_slab, 0, min(step, depth))
        for stop in range(step, depth + step, step):
            slab = ahead.result()
            if stop < depth:
                ahead = reader.submit(source.read_slab, stop, min(stop + step, depth))
            yield slab


def import_layout(shape: Index, itemsize: int, slab_bytes: int = SLAB_BYTES) -> ArrayLayout:
    """Default layout, or flatter and wider shards when a row of default shards is too large for the memory.

    A volume with planes of 20 000 x 20 000 voxels would otherwise need 100 GB to write whole shards.
    """
    depth, edge = DEFAULT_SHARD[0], DEFAULT_SHARD[1]
    while depth > DEFAULT_CHUNK[0] and depth * shape.y * shape.x * itemsize > slab_bytes:
        depth //= 2
        edge = edge * 2 if (depth.bit_length() - DEFAULT_SHARD[0].bit_length()) % 2 == 0 else edge
    return ArrayLayout((depth, edge, edge), DEFAULT_CHUNK).clamped(shape)


class _Pyramid:
    """All levels of the image that is being written; planes go in at the top."""

    def __init__(self, arrays: Arrays, prefix: str, levels: tuple[Level, ...], dtype: np.dtype[Any]) -> None:
        self._levels = []
        for level in levels:
            layout = import_layout(level.shape, dtype.itemsize)
            array = arrays.create(f"{prefix}/{level.path}", level.shape, dtype, layout=layout)
            self._levels.append(_LevelWriter(array, level))

    def append(self, planes: Voxels, number: int = 0) -> None:
        """Take the next planes of a level, and what they make of the levels below."""
        writer = self._levels[number]
        while len(planes):
            planes = planes[writer.take(planes) :]
            if number + 1 < len(self._levels):
                below = self._levels[number + 1].level.downsampling
                step = Index(*(b // a for a, b in zip(writer.level.downsampling, below, strict=True)))
                part = writer.planes_to_halve(step.z)
                if len(part):
                    self.append(downsample(part, step), number + 1)
            if writer.full:
                writer.write()

    def finish(self) -> None:
        for writer in self._levels:
            writer.finish()

    def wait_quietly(self) -> None:
        for writer in self._levels:
            writer.wait_quietly()


@dataclass(slots=True)
class _LevelWriter:
    array: Array
    level: Level
    _written: int = 0
    _filled: int = 0
    _halved: int = 0
    _buffer: Voxels | None = None
    _pending: list[Pending] = field(default_factory=list)

    @property
    def _depth(self) -> int:
        """Planes of the current row of shards; fewer at the end of the volume."""
        return min(self.array.layout.shard[0], self.level.shape.z - self._written)

    @property
    def full(self) -> bool:
        return 0 < self._filled == self._depth

    def take(self, planes: Voxels) -> int:
        """Copy as many planes as fit; return how many."""
        if self._buffer is None:
            self._buffer = np.empty((self._depth, *self.level.shape[1:]), self.array.dtype)
        count = min(len(planes), self._depth - self._filled)
        self._buffer[self._filled : self._filled + count] = planes[:count]
        self._filled += count
        return count

    def planes_to_halve(self, step: int) -> Voxels:
        """The planes taken since the last call, in whole groups of `step`; the odd last one at the very end."""
        assert self._buffer is not None
        start = self._halved
        self._halved = self._filled if self.full else self._filled - self._filled % step
        return self._buffer[start : self._halved]

    def write(self) -> None:
        """Begin to write the full buffer, which must not be changed any more."""
        assert self._buffer is not None
        start = self._written
        self.finish()  # at most one buffer of a level is on its way while the next one fills
        region = (slice(start, start + self._filled), slice(None), slice(None))
        self._pending = [self.array.start_write(region, self._buffer)]
        self._written, self._filled, self._halved, self._buffer = start + self._filled, 0, 0, None

    def finish(self) -> None:
        pending, self._pending = self._pending, []
        for write in pending:
            write.result()

    def wait_quietly(self) -> None:
        for write in self._pending:
            try:
                write.result()
            except Exception:  # the failure that matters is already on its way up
                continue


class _SliceStatistics:
    def __init__(self, depth: int) -> None:
        self._mean, self._std = np.zeros(depth), np.zeros(depth)
        self._minimum, self._maximum = np.inf, -np.inf

    def add(self, start: int, slab: Voxels) -> None:
        for z, plane in enumerate(slab, start):
            values = plane.astype(np.float32)
            # Sums row by row in single precision are exact enough and four times as fast as in double.
            mean = values.sum(axis=1).sum(dtype=np.float64) / values.size
            if not np.isfinite(mean):
                raise InvalidArgument(
                    "NOT_FINITE", f"slice {z} holds NaN or infinite values: replace them before the import"
                )
            values -= np.float32(mean)
            squares = np.einsum("ij,ij->i", values, values).sum(dtype=np.float64)
            self._mean[z], self._std[z] = mean, np.sqrt(squares / values.size)
        self._minimum = min(self._minimum, float(slab.min()))
        self._maximum = max(self._maximum, float(slab.max()))

    def result(self) -> IntensityStatistics:
        return IntensityStatistics(self._mean, self._std, self._minimum, self._maximum)
