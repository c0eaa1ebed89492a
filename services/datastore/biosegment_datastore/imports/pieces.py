"""Imports volumes of which not even sixteen planes fit into the memory, in pieces of whole shards.

Level 0 is read piece by piece, every other level from the one above it, out of the store. That costs decoding once
what was just encoded, and keeps the memory bounded for planes of any size.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import numpy as np

from biosegment.errors import BiosegmentError
from biosegment.storage.arrays import Array, Pending
from biosegment.storage.layout import DEFAULT_CHUNK
from biosegment.storage.multiscale import Level
from biosegment.volume import Index, Region
from biosegment_datastore.formats.source import RegionSource, VolumeSource, Voxels
from biosegment_datastore.imports.intensity import IntensityGatherer
from biosegment_datastore.imports.progress import ImportProgress
from biosegment_datastore.imports.target import Checkpoints, ImportTarget
from biosegment_datastore.pyramid import downsample
from biosegment_datastore.spool import SpooledPlanes


class PieceImport:
    """One import; see `biosegment_datastore.imports.importing`. Arguments as of `SlabImport`."""

    def __init__(
        self,
        source: VolumeSource,
        target: ImportTarget,
        levels: tuple[Level, ...],
        arrays: tuple[Array, ...],
        gatherer: IntensityGatherer,
        found: ImportProgress | None,
    ) -> None:
        self._source, self._target, self._gatherer = source, target, gatherer
        self._levels, self._arrays = levels, arrays
        self._checkpoints = Checkpoints(target, levels, arrays, found)
        self._planes = list(found.planes) if found else [0] * len(levels)
        self._pieces = found.pieces if found else 0
        self._unkept_bytes = 0
        self._pending: tuple[Pending, int] | None = None
        if found is not None:
            target.log(f"going on from slice {found.planes[0]}")

    def run(self) -> None:
        """Copy what is missing; raises when nothing is read or written any more."""
        try:
            whole = needs_whole_planes(self._source)
            with SpooledPlanes(self._source, whole, self._target.scratch_dir) as planes:
                self._write_level(0, planes.read_into)
            for number in range(1, len(self._levels)):
                self._write_level(number, self._halver(number))
            self._checkpoints.save(tuple(self._planes), self._gatherer.state())
            self._checkpoints.wait()
        finally:
            self._settle_quietly()
            self._checkpoints.close()

    def _write_level(self, number: int, fill: Callable[[Region, Voxels], None]) -> None:
        level, array = self._levels[number], self._arrays[number]
        depth = min(array.layout.shard[0], level.shape.z)
        while self._planes[number] < level.shape.z:
            start = self._planes[number]
            stop = min(start + depth, level.shape.z)
            for piece, region in enumerate(pieces(array, start, stop, self._target.memory.piece_bytes)):
                if piece < self._pieces:
                    continue
                voxels = np.empty(region.shape, array.dtype)
                fill(region, voxels)
                # One piece is written while the next one is read; what is kept must not tell of this one yet.
                self._settle()
                if number == 0:
                    self._gatherer.add(start, voxels, region.start.y, region.start.x)
                self._pending = array.start_write(region.slices, voxels), voxels.nbytes
                self._report(number, start)
            self._settle()
            self._planes[number], self._pieces = stop, 0
            self._report(number, stop)

    def _settle(self) -> None:
        """Wait for the piece that is on its way, and keep now and then that it arrived."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        write, written_bytes = pending
        write.result()
        self._pieces += 1
        self._unkept_bytes += written_bytes
        if self._unkept_bytes >= self._target.memory.keep_every_bytes:
            self._checkpoints.save(tuple(self._planes), self._gatherer.state(), self._pieces)
            self._unkept_bytes = 0

    def _settle_quietly(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            with contextlib.suppress(BiosegmentError):  # the failure that matters is already on its way up
                pending[0].result()

    def _report(self, number: int, done: int) -> None:
        """The lower levels are a third of the work of the first one: they count as its last slices."""
        depth = self._source.shape.z
        self._target.report(done if number == 0 and done < depth else depth, depth)

    def _halver(self, number: int) -> Callable[[Region, Voxels], None]:
        above, array = self._levels[number - 1], self._arrays[number - 1]
        factors = zip(above.downsampling, self._levels[number].downsampling, strict=True)
        step = Index(*(below // have for have, below in factors))

        def fill(region: Region, out: Voxels) -> None:
            for part in _parts(region, step):
                start = Index(*(edge * factor for edge, factor in zip(part.start, step, strict=True)))
                stop = Index(
                    *(min(edge * f, size) for edge, f, size in zip(part.stop, step, above.shape, strict=True))
                )
                out[part.relative_to(region).slices] = downsample(array.read(Region(start, stop)), step)

        return fill


def needs_whole_planes(source: VolumeSource) -> bool:
    """Whether a piece would decode whole planes."""
    return not isinstance(source, RegionSource) or source.region_rows >= source.shape.y


def pieces(array: Array, start: int, stop: int, most_bytes: int) -> Iterator[Region]:
    """Whole shards of a row of them, as many together as the memory holds, along x before y."""
    depth, rows, columns = array.layout.shard
    _, height, width = array.shape
    voxels = max(1, most_bytes // array.dtype.itemsize // depth)
    columns = max(columns, min(voxels // rows, width + columns) // columns * columns)
    rows = max(rows, voxels // min(columns, width) // rows * rows)
    for y in range(0, height, rows):
        for x in range(0, width, columns):
            yield Region(Index(start, y, x), Index(stop, min(y + rows, height), min(x + columns, width)))


def _parts(region: Region, step: Index) -> Iterator[Region]:
    """A piece in parts for which a chunk's depth of the level above, and few of its rows, are decoded at a time."""
    depth, rows = DEFAULT_CHUNK[0] // step.z, DEFAULT_CHUNK[1] // step.y
    for z in range(region.start.z, region.stop.z, depth):
        for y in range(region.start.y, region.stop.y, rows):
            yield Region(
                Index(z, y, region.start.x),
                Index(min(z + depth, region.stop.z), min(y + rows, region.stop.y), region.stop.x),
            )
