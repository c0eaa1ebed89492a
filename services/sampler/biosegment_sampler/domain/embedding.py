"""From a map of embeddings to what windows look like."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from biosegment.volume import Index
from biosegment_sampler.domain.grid import CandidateGrid
from biosegment_sampler.domain.scores import MIN_SCORED, ReadBox

_BLOCK: Final = (16, 64, 64)
"""Cells that are read at a time, besides what the windows reach over them: a few megabytes."""


def embed_windows(
    read_box: ReadBox, channels: int, downsampling: Index, grid: CandidateGrid, numbers: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Mean of the cells that each window touches, float32 (n, channels); NaN when less than half of them are scored.

    Args:
        read_box: Gives the map, whose cells are `downsampling` level-0 voxels large.
        channels: Values per cell.
        downsampling: Voxels per cell.
        grid: The windows.
        numbers: Those that are asked for, within the grid; int64 (n,).
    """
    places = np.unravel_index(numbers, grid.counts)
    starts = [axis[place] for axis, place in zip(grid.starts, places, strict=True)]
    low = np.stack([start // cell for start, cell in zip(starts, downsampling, strict=True)], 1)
    high = np.stack(
        [
            -(-(start + edge) // cell)
            for start, edge, cell in zip(starts, grid.window, downsampling, strict=True)
        ],
        1,
    )
    found = np.full((len(numbers), channels), np.nan, np.float32)
    for some in _together(low // np.array(_BLOCK)):
        first, last = low[some].min(0), high[some].max(0)
        cells = read_box(*(slice(int(a), int(b)) for a, b in zip(first, last, strict=True)))
        scored: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(cells), axis=-1, keepdims=True)
        sums = _box_sums(np.where(scored, cells, 0), low[some] - first, high[some] - first)
        counts = _box_sums(scored, low[some] - first, high[some] - first)
        enough = counts[:, 0] >= MIN_SCORED * np.prod(high[some] - low[some], axis=1)
        found[some[enough]] = sums[enough] / counts[enough]
    return found


def _together(blocks: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Places of the rows that are alike, kind by kind."""
    if not len(blocks):
        return
    order = np.lexsort(blocks.T[::-1])
    changes = np.flatnonzero((np.diff(blocks[order], axis=0) != 0).any(1)) + 1
    yield from np.split(order, changes)


def _box_sums(values: NDArray[Any], low: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sums of (z, y, x, channels) over boxes, float64 (n, channels)."""
    running = np.pad(values.astype(np.float64), ((1, 0), (1, 0), (1, 0), (0, 0)))
    for axis in range(3):
        np.cumsum(running, axis, out=running)
    total: NDArray[np.float64] = np.zeros((len(low), values.shape[-1]))
    for corner in np.ndindex(2, 2, 2):
        z, y, x = (np.where(upper, high[:, axis], low[:, axis]) for axis, upper in enumerate(corner))
        total += (-1) ** (3 - sum(corner)) * running[z, y, x]
    return total
