"""Where annotations lie, as one number that an index of either database can look up.

An annotation belongs to one cell: that of its lowest corner, in a grid whose cells are at least as large as the
annotation. There are grids of several levels: 1 x 128 x 128 voxels, as most samples have, then each four times as deep
and twice as wide as the one before. Whatever overlaps a region thus has its cell in the region, or one cell before it
on an axis: a few ranges of numbers on each level.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from biosegment.volume import Region

LEVELS = 20
MAX_RANGES = 400
"""A region of more ranges is so large that going through the records in order finds a page sooner."""

_EDGES = (1, 128, 128)
_GROWTH = (2, 1, 1)
"""Powers of two from one level to the next."""
_BITS = (20, 19, 19)


def cell_of(region: Region) -> int:
    """The cell of an annotation, below 2 ** 63."""
    level = 0
    while level < LEVELS - 1 and any(extent > _edge(level, axis) for axis, extent in enumerate(region.shape)):
        level += 1
    return _number(level, *(_step(level, axis, low) for axis, low in enumerate(region.start)))


def cell_ranges(region: Region) -> Sequence[tuple[int, int]] | None:
    """Ranges, both ends included, that hold the cells of all annotations that overlap a region; None when too many."""
    ranges: list[tuple[int, int]] = []
    for level in range(LEVELS):
        (z0, z1), (y0, y1), (x0, x1) = (
            (_step(level, axis, max(0, low - _edge(level, axis) + 1)), _step(level, axis, high - 1))
            for axis, (low, high) in enumerate(zip(region.start, region.stop, strict=True))
        )
        if len(ranges) + (z1 - z0 + 1) * (y1 - y0 + 1) > MAX_RANGES:
            return None
        for z, y in product(range(z0, z1 + 1), range(y0, y1 + 1)):
            ranges.append((_number(level, z, y, x0), _number(level, z, y, x1)))
    return ranges


def _edge(level: int, axis: int) -> int:
    return _EDGES[axis] << _GROWTH[axis] * level


def _step(level: int, axis: int, position: int) -> int:
    # Beyond the last cell everything is in the last cell: rare, and still found.
    return min(position // _edge(level, axis), (1 << _BITS[axis]) - 1)


def _number(level: int, z: int, y: int, x: int) -> int:
    return ((level << _BITS[0] | z) << _BITS[1] | y) << _BITS[2] | x
