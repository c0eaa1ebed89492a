"""From score maps to scores of windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from biosegment.volume import Index
from biosegment_sampler.domain.grid import CandidateGrid

MIN_SCORED: Final = 0.5
"""A window is scored when at least so much of its area is."""
_TILE_CELLS: Final = 1 << 22
"""Cells that are held at a time: 16 MiB as float32, a few times that while they are summed up."""
_TILE_SLICES: Final = 16
"""As many as a chunk of a map has, so that a chunk is decoded about once."""
_TOGETHER: Final = 16

ReadBox = Callable[[slice, slice, slice], NDArray[np.floating[Any]]]
"""Takes a box of cells and returns it as (z, y, x, channels), NaN where nothing was scored."""
Span = tuple[slice, slice]
"""Windows along an axis, and the cells that they touch."""


@dataclass(frozen=True, slots=True, eq=False)
class WindowScore:
    """A measure over the windows of a volume.

    Attributes:
        means: Per window, float32 of the grid's counts, with a last axis for channels when there are several; NaN where
            too little was scored.
        peak: Of any cell that a window covers, -inf when none is scored.
    """

    means: NDArray[np.float32]
    peak: float


def score_windows(read_box: ReadBox, channels: int, downsampling: Index, grid: CandidateGrid) -> WindowScore:
    """Mean of a map over every window, weighted by how much of a cell lies inside; NaN where too little is scored.

    The map is read tile by tile, so that what is held is one tile and a number per window and channel, however large
    the volume is, along whichever axis. Within a tile a sum over windows is a product with a matrix for each axis.

    Args:
        read_box: Gives the map, whose cells are `downsampling` level-0 voxels large.
        channels: Values per cell.
        downsampling: Voxels per cell.
        grid: The windows.
    """
    means = np.full((*grid.counts, channels), np.nan, np.float32)
    whole = float(np.prod([edge / cell for edge, cell in zip(grid.window, downsampling, strict=True)]))
    peak = -np.inf
    for windows, boxes in _tiles(grid, downsampling):
        cells = read_box(*boxes).astype(np.float32)
        scored = np.isfinite(cells)
        if not scored.any():
            continue
        peak = max(peak, float(cells.max(where=scored, initial=-np.inf)))
        weights = [
            _weights(axis[some], edge, cell, box)
            for axis, edge, cell, some, box in zip(
                grid.starts, grid.window, downsampling, windows, boxes, strict=True
            )
        ]
        for channel in range(channels):
            known = scored[..., channel]
            if known.all():
                means[(*windows, channel)] = _sums(cells[..., channel], weights) / np.float32(whole)
                continue
            sums = _sums(np.where(known, cells[..., channel], np.float32(0)), weights)
            area = _sums(known.astype(np.float32), weights)
            enough = area >= MIN_SCORED * whole
            means[(*windows, channel)] = np.where(enough, sums / np.where(enough, area, 1), np.nan)
    return WindowScore(means[..., 0] if channels == 1 else means, peak)


def _tiles(
    grid: CandidateGrid, downsampling: Index
) -> Iterator[tuple[tuple[slice, slice, slice], tuple[slice, slice, slice]]]:
    """Boxes of windows, and of the cells that they touch; neighbours share the cells that both touch."""
    reach = [-(-edge // cell) + 1 for edge, cell in zip(grid.window, downsampling, strict=True)]
    depth = max(_TILE_SLICES, 2 * reach[0])
    side = int((_TILE_CELLS / depth) ** 0.5)
    targets = (depth, max(side, 2 * reach[1]), max(side, 2 * reach[2]))
    axes = [
        list(_spans(starts, edge, cell, target))
        for starts, edge, cell, target in zip(grid.starts, grid.window, downsampling, targets, strict=True)
    ]
    for z_windows, z in axes[0]:
        for y_windows, y in axes[1]:
            for x_windows, x in axes[2]:
                yield (z_windows, y_windows, x_windows), (z, y, x)


def _spans(starts: NDArray[np.int64], edge: int, cell: int, target: int) -> Iterator[Span]:
    """Runs of windows that touch at most `target` cells together, or of a single one."""
    first_cells, stop_cells = starts // cell, -(-(starts + edge) // cell)
    first = 0
    while first < len(starts):
        low = int(first_cells[first])
        stop = max(first + 1, int(np.searchsorted(stop_cells, low + target, side="right")))
        yield slice(first, stop), slice(low, int(stop_cells[stop - 1]))
        first = stop


def _weights(starts: NDArray[np.int64], edge: int, cell: int, cells: slice) -> NDArray[np.float32]:
    """How much of each cell lies inside of each window along an axis; float32 (windows, cells)."""
    low = np.arange(cells.start, cells.stop) * cell
    begin = np.maximum(low, starts[:, None])
    end = np.minimum(low + cell, starts[:, None] + edge)
    weights: NDArray[np.float32] = (np.maximum(end - begin, 0) / cell).astype(np.float32)
    return weights


def _sums(cells: NDArray[np.float32], weights: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Weighted sums over windows, float32 (windows z, y, x)."""
    along_z, along_y, along_x = weights
    sums = _banded(cells.swapaxes(1, 2), along_y)  # (z, x, windows y)
    sums = _banded(sums.swapaxes(1, 2), along_x)  # (z, windows y, windows x)
    if along_z.shape[0] == along_z.shape[1] and np.array_equal(along_z, np.eye(len(along_z))):
        return sums
    thick: NDArray[np.float32] = np.tensordot(along_z, sums, 1)
    return thick


def _banded(values: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """`values @ weights.T` for weights that are nearly all 0: some windows at a time, with cells that they touch."""
    result = np.empty((*values.shape[:-1], len(weights)), np.float32)
    for first in range(0, len(weights), _TOGETHER):
        some = weights[first : first + _TOGETHER]
        touched = np.flatnonzero(some.any(0))
        part = slice(int(touched[0]), int(touched[-1]) + 1)
        np.matmul(values[..., part], some[:, part].T, out=result[..., first : first + len(some)])
    return result
