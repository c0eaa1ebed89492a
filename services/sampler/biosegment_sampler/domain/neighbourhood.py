"""Which candidates lie where something is known."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biosegment_sampler.domain.grid import CandidateField, CandidateGrid
from biosegment_sampler.domain.pool import VolumeRegion


def nearest(field: CandidateField, places: Iterable[VolumeRegion]) -> NDArray[np.int64]:
    """Candidates that lie nearest to regions, each once, ascending; int64 (k,).

    A region that is larger than a window has several, side by side; one of a volume that is not in the field none.
    """
    grids = {grid.volume_id: (grid, part.start) for grid, part in field.parts()}
    by_volume: defaultdict[str, list[tuple[int, ...]]] = defaultdict(list)
    for place in places:
        if place.volume_id in grids:
            by_volume[place.volume_id].append((*place.region.start, *place.region.stop))
    found = []
    for volume_id, corners in by_volume.items():
        grid, first = grids[volume_id]
        found.append(first + _nearest(grid, np.array(corners, np.int64)))
    return np.unique(np.concatenate(found)) if found else np.zeros(0, np.int64)


def _nearest(grid: CandidateGrid, corners: NDArray[np.int64]) -> NDArray[np.int64]:
    """By regions, (n, 6): all that are not larger than a window at once, the others one by one."""
    low, high = corners[:, :3], corners[:, 3:]
    is_small = (high - low <= np.array(grid.window)).all(axis=1)
    # The middles meet.
    wanted = (low + high - np.array(grid.window)) / 2
    steps = [_step(axis, wanted[is_small, i]) for i, axis in enumerate(grid.starts)]
    found = [np.ravel_multi_index(tuple(steps), grid.counts)]
    for start, stop in zip(low[~is_small], high[~is_small], strict=True):
        sides = []
        for axis, edge, begin, end in zip(grid.starts, grid.window, start, stop, strict=True):
            first = begin if end - begin >= edge else (begin + end - edge) / 2
            sides.append(np.unique(_step(axis, np.arange(first, max(end - edge, first) + 1, edge))))
        found.append(np.ravel_multi_index(np.meshgrid(*sides, indexing="ij"), grid.counts).reshape(-1))
    numbers: NDArray[np.int64] = np.concatenate(found).astype(np.int64)
    return numbers


def _step(starts: NDArray[np.int64], wanted: NDArray[Any]) -> NDArray[np.intp]:
    """Which of the windows along an axis begin nearest."""
    return np.searchsorted((starts[1:] + starts[:-1]) / 2, wanted)
