"""Working slices of a block's surroundings, read once each, while the network is busy with those before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from biosegment.volume import Index, Region
from biosegment_trainer.learning.normalisation import SliceStatistics, normalise
from biosegment_trainer.learning.resolution import downsample_raw

Reader = Callable[[Region], NDArray[np.generic]]
"""Reads raw voxels of a level-0 region inside the volume: (z, y, x), any real dtype. It is called from a thread of
its own, once at a time.
"""
Float32 = NDArray[np.float32]
_ROWS = 64
_RAW_VOXELS = 96 << 20
"""Most raw voxels that are held at once: at large factors the halos alone would be many times the tile."""


def working_slices(raw: NDArray[np.generic], factor: int, statistics: SliceStatistics) -> list[Float32]:
    """Slices as the network wants them: downsampled in plane and normalised, float32 (y, x) each.

    Some rows at a time, which stay in the processor's cache: floats of all the raw voxels would be the largest array of
    a worker.
    """
    height, width = raw.shape[1:]
    found = [np.empty((-(-height // factor), -(-width // factor)), np.float32) for _ in range(len(raw))]
    for z, plane in enumerate(found):
        for top in range(0, len(plane), _ROWS):
            rows = raw[z : z + 1, top * factor : (top + _ROWS) * factor]
            plane[top : top + _ROWS] = normalise(downsample_raw(rows, factor), statistics[z : z + 1])[0]
    return found


def slabs(region: Region, depth: int) -> list[Region]:
    """A region cut along z at multiples of `depth`, wherever it begins: those of the stored chunks."""
    cuts = [region.start.z, *range(region.start.z - region.start.z % depth + depth, region.stop.z, depth)]
    stops = [*cuts[1:], region.stop.z]
    return [
        Region(Index(z, *region.start[1:]), Index(stop, *region.stop[1:]))
        for z, stop in zip(cuts, stops, strict=True)
    ]


def bands(slab: Region, factor: int) -> list[Region]:
    """A slab cut along y into whole working pixels, so that none is larger than `_RAW_VOXELS`, if rows allow."""
    rows = max(1, _RAW_VOXELS // (slab.shape.z * slab.shape.x * factor)) * factor
    if slab.shape.y <= rows:
        return [slab]
    return [
        Region(
            Index(slab.start.z, y, slab.start.x), Index(slab.stop.z, min(y + rows, slab.stop.y), slab.stop.x)
        )
        for y in range(slab.start.y, slab.stop.y, rows)
    ]


class SliceStream:
    """Hands out working slices in order of z and forgets those that lie behind.

    The next slab is read, downsampled and normalised in a thread while the caller works on what it has: at most two
    slabs and the slices that one request spans are held. Of a slab of very many raw voxels, some rows are read at a
    time.

    Args:
        read: Gives raw voxels.
        region: What will be asked for, level-0 voxels; starts in y and x at multiples of `factor`.
        depth: Slices that are read together.
        factor: Level-0 voxels per working pixel.
        statistics: Of every slice of the volume.
        watch: Also told of every raw slice, with its z and its statistics, in the thread that reads.
    """

    def __init__(
        self,
        read: Reader,
        region: Region,
        depth: int,
        factor: int,
        statistics: SliceStatistics,
        watch: Callable[[int, NDArray[np.generic], SliceStatistics], None] | None = None,
    ) -> None:
        self._read = read
        self._watch = watch
        self._factor = factor
        self._statistics = statistics
        self._slabs: Iterator[Region] = iter(slabs(region, depth))
        self._planes: deque[Float32] = deque()
        self._first = region.start.z
        self._executor = ThreadPoolExecutor(1, "slab")
        self._next: Future[list[Float32]] | None = None
        self._request()

    def planes(self, first: int, stop: int) -> Sequence[Float32]:
        """Slices [first, stop), float32 (y, x) each; `first` must not go back."""
        while self._first < first and self._planes:
            self._planes.popleft()
            self._first += 1
        while self._first + len(self._planes) < stop:
            assert self._next is not None, f"slices {first}:{stop} lie outside of what was announced"
            found = self._next.result()
            self._request()
            self._planes.extend(found)
            while self._first < first and self._planes:
                self._planes.popleft()
                self._first += 1
        return [self._planes[z - self._first] for z in range(first, stop)]

    def close(self) -> None:
        """Wait for what is being read, and read no more."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _request(self) -> None:
        slab = next(self._slabs, None)
        self._next = self._executor.submit(self._load, slab) if slab is not None else None

    def _load(self, slab: Region) -> list[Float32]:
        statistics = self._statistics[slab.start.z : slab.stop.z]
        if self._watch is None:
            parts = [
                working_slices(self._read(band), self._factor, statistics)
                for band in bands(slab, self._factor)
            ]
            return (
                parts[0] if len(parts) == 1 else [np.concatenate(each) for each in zip(*parts, strict=True)]
            )
        # Who watches wants whole slices.
        raw = self._read(slab)
        for number, plane in enumerate(raw):
            self._watch(slab.start.z + number, plane, statistics[number : number + 1])
        return working_slices(raw, self._factor, statistics)
