"""From score maps to scores of windows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from biosegment.volume import Index
from biosegment_sampler.domain.grid import CandidateGrid

MIN_SCORED: Final = 0.5
"""A window is scored when at least so much of its area is."""
_SLAB: Final = 16

ReadSlab = Callable[[int, int], NDArray[np.floating[Any]]]
"""Takes a range of slices of a map and returns those, (z, y, x) cells, NaN where nothing was scored."""


@dataclass(frozen=True, slots=True, eq=False)
class WindowScore:
    """A measure over the windows of a volume.

    Attributes:
        means: Per window, float32 of the grid's counts, NaN where too little was scored.
        peak: Of any cell that a window covers, -inf when none is scored.
    """

    means: NDArray[np.float32]
    peak: float


def score_windows(read_slab: ReadSlab, downsampling: Index, grid: CandidateGrid) -> WindowScore:
    """Mean of a map over every window, weighted by how much of a cell lies inside; NaN where too little is scored.

    Box sums are differences of running sums, so that a window costs the same whatever its size. The map is read in
    slabs: what is held is one slab and one number per window.

    Args:
        read_slab: Gives the map, whose cells are `downsampling` level-0 voxels large.
        downsampling: Voxels per cell.
        grid: The windows.
    """
    z_starts, y_starts, x_starts = grid.starts
    means, peak = np.full(grid.counts, np.nan, np.float32), -np.inf
    for first in range(0, len(z_starts), _SLAB):
        begin = z_starts[first : first + _SLAB]
        low = int(begin[0]) // downsampling.z
        high = -(-int(begin[-1] + grid.window.z) // downsampling.z)
        slab = read_slab(low, high).astype(np.float64)
        scored = np.isfinite(slab)
        peak = max(peak, float(slab.max(where=scored, initial=-np.inf)))
        parts = []
        for values in (np.where(scored, slab, 0.0), scored.astype(np.float64)):
            values = _box_sums(values, y_starts, grid.window.y, downsampling.y, 1)
            values = _box_sums(values, x_starts, grid.window.x, downsampling.x, 2)
            parts.append(_box_sums(values, begin - low * downsampling.z, grid.window.z, downsampling.z, 0))
        sums, weights = parts
        whole = np.prod([edge / cell for edge, cell in zip(grid.window, downsampling, strict=True)])
        enough = weights >= MIN_SCORED * whole
        means[first : first + _SLAB] = np.where(enough, sums / np.where(enough, weights, 1.0), np.nan)
    return WindowScore(means, peak)


def _box_sums(
    values: NDArray[np.float64], starts: NDArray[np.int64], edge: int, cell: int, axis: int
) -> NDArray[np.float64]:
    """Sums over `[start, start + edge)` voxels along one axis, in units of cells."""
    running = np.insert(np.cumsum(values, axis), 0, 0.0, axis)
    return _at(running, (starts + edge) / cell, axis) - _at(running, starts / cell, axis)


def _at(running: NDArray[np.float64], place: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    # The running sum of a map that is constant within a cell is linear within a cell.
    last = running.shape[axis] - 1
    below = np.minimum(place.astype(np.int64), last)
    above = np.minimum(below + 1, last)
    shape = [1] * running.ndim
    shape[axis] = -1
    part = (place - below).reshape(shape)
    result: NDArray[np.float64] = running.take(below, axis) * (1 - part) + running.take(above, axis) * part
    return result
