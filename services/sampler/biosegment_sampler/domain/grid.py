"""Candidate windows of a volume, on a grid whose last windows are shifted to the border."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from biosegment.volume import Index, Region

MAX_CANDIDATES: Final = 1 << 27
"""Of a pool; a larger one gets coarser grids, so that memory stays bounded: it takes about 5 bytes for each."""

Box = tuple[slice, slice, slice]


@dataclass(frozen=True, slots=True, eq=False)
class CandidateGrid:
    """All candidate windows of one volume, numbered in C order.

    Attributes:
        volume_id: Within the project.
        shape: Of the volume in level-0 voxels.
        window: Of a candidate in level-0 voxels, not larger than the volume.
        starts: First voxels of the windows along z, y and x; int64, ascending, the last ones end at the border.
    """

    volume_id: str
    shape: Index
    window: Index
    starts: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
    _lists: tuple[list[int], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_lists", tuple(axis.tolist() for axis in self.starts))

    @classmethod
    def over(
        cls, volume_id: str, shape: Index, window: Index, max_candidates: int = MAX_CANDIDATES
    ) -> CandidateGrid:
        """Windows half a window apart, every slice for flat ones; coarser when there would be too many."""
        z, y, x = (max(1, edge // 2) for edge in window)
        grid = cls._with_stride(volume_id, shape, window, Index(z, y, x))
        if len(grid) > max_candidates:
            y, x = window.y, window.x
            grid = cls._with_stride(volume_id, shape, window, Index(z, y, x))
        while len(grid) > max_candidates and z < shape.z:
            z *= 2
            grid = cls._with_stride(volume_id, shape, window, Index(z, y, x))
        return grid

    @classmethod
    def _with_stride(cls, volume_id: str, shape: Index, window: Index, stride: Index) -> CandidateGrid:
        z, y, x = (
            np.unique(np.append(np.arange(0, size - edge + 1, step), size - edge)).astype(np.int64)
            for size, edge, step in zip(shape, window, stride, strict=True)
        )
        return cls(volume_id, shape, window, (z, y, x))

    @property
    def counts(self) -> Index:
        z, y, x = self.starts
        return Index(len(z), len(y), len(x))

    def __len__(self) -> int:
        z, y, x = self.counts
        return z * y * x

    def region(self, number: int) -> Region:
        """The window with that number."""
        place = np.unravel_index(number, self.counts)
        start = Index(*(int(axis[i]) for axis, i in zip(self.starts, place, strict=True)))
        return Region.of_shape(self.window, start)

    def overlapping(self, region: Region, slices_apart: int = 1) -> Box:
        """Index ranges of the windows that share a voxel with `region`.

        Args:
            region: Level-0 voxels.
            slices_apart: Also those in plane with it whose slices are less than so many apart.
        """
        margin = (slices_apart - 1, 0, 0)
        # For a single region faster than `searchsorted`.
        z, y, x = (
            slice(
                bisect_right(starts, region.start[axis] - margin[axis] - self.window[axis]),
                bisect_left(starts, region.stop[axis] + margin[axis]),
            )
            for axis, starts in enumerate(self._lists)
        )
        return z, y, x

    def covered(self, box: Box) -> Region | None:
        """The smallest region that has all windows of a box in it; None for none."""
        if any(side.start >= side.stop for side in box):
            return None
        start, last = (
            Index(*(axis[place] for axis, place in zip(self._lists, places, strict=True)))
            for places in ([side.start for side in box], [side.stop - 1 for side in box])
        )
        return Region(start, Index(*(at + edge for at, edge in zip(last, self.window, strict=True))))

    def all_overlapping(self, regions: Sequence[Region], slices_apart: int = 1) -> list[Box]:
        """As `overlapping`, of many regions at once."""
        corners = np.array([(*region.start, *region.stop) for region in regions], np.int64).reshape(-1, 6)
        margin = (slices_apart - 1, 0, 0)
        sides = [
            (
                np.searchsorted(axis, corners[:, i] - margin[i] - self.window[i], side="right").tolist(),
                np.searchsorted(axis, corners[:, 3 + i] + margin[i], side="left").tolist(),
            )
            for i, axis in enumerate(self.starts)
        ]
        spans = [[slice(*ends) for ends in zip(*side, strict=True)] for side in sides]
        return list(zip(*spans, strict=True))


class CandidateField:
    """The candidates of several volumes, numbered through."""

    def __init__(self, grids: Sequence[CandidateGrid]) -> None:
        self.grids = tuple(grids)
        self._offsets = np.concatenate([[0], np.cumsum([len(grid) for grid in self.grids])]).astype(np.int64)

    @classmethod
    def over(
        cls, volumes: Sequence[tuple[str, Index, Index]], max_candidates: int = MAX_CANDIDATES
    ) -> CandidateField:
        """Grids over volumes, given as id, shape and window; all coarser when there would be too many candidates."""
        grids = [CandidateGrid.over(*volume, max_candidates) for volume in volumes]
        wanted = sum(map(len, grids))
        if wanted > max_candidates:
            grids = [
                CandidateGrid.over(*volume, max(1, max_candidates * len(grid) // wanted))
                for volume, grid in zip(volumes, grids, strict=True)
            ]
        return cls(grids)

    def only(self, volume_id: str) -> CandidateField:
        """The candidates of one volume; the grid stays as it is among the others."""
        return CandidateField([grid for grid in self.grids if grid.volume_id == volume_id])

    def __len__(self) -> int:
        return int(self._offsets[-1])

    def locate(self, number: int) -> tuple[str, Region]:
        """Volume id and region of a candidate."""
        which = int(np.searchsorted(self._offsets, number, side="right")) - 1
        grid = self.grids[which]
        return grid.volume_id, grid.region(number - int(self._offsets[which]))

    def parts(self) -> Iterator[tuple[CandidateGrid, slice]]:
        """Each grid with the numbers of its candidates."""
        for grid, (first, stop) in zip(self.grids, pairwise(self._offsets.tolist()), strict=True):
            yield grid, slice(first, stop)
