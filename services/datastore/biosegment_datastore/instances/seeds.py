"""Telling the parts of an object apart by points in them."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from biosegment_datastore.annotations.annotation import Labels

_UNITS = 4
"""Lengths are counted in this part of the shortest edge of a voxel."""


def parts_by_seeds(
    is_object: npt.NDArray[np.bool_],
    seeds: Sequence[Sequence[tuple[int, int, int]]],
    voxel_size_nm: tuple[float, float, float],
) -> Labels:
    """The part of each voxel: that of the nearest seed, on a way from voxel to face neighbour within the object.

    Where two seeds are equally near, the earlier part gets the voxel. Voxels that no seed reaches are in part 0.

    Args:
        is_object: (z, y, x), whether a voxel is the object's.
        seeds: Positions in `is_object` of each part's seeds, zyx; all are the object's.
        voxel_size_nm: Edges of a voxel, zyx.

    Returns:
        (z, y, x) uint8: 0 for the first part and all that is in no other one, 1 for the second part, and so on.
    """
    shape = tuple(size + 2 for size in is_object.shape)
    # A border of 'not the object', so that no neighbour is outside of the array.
    free = np.zeros(shape, bool)
    free[1:-1, 1:-1, 1:-1] = is_object
    free = free.reshape(-1)
    parts = np.zeros(free.size, np.uint8)
    strides = (shape[1] * shape[2], shape[2], 1)
    shortest = min(voxel_size_nm)
    lengths = [max(1, round(_UNITS * edge / shortest)) for edge in voxel_size_nm]
    steps = [
        (sign * stride, length) for stride, length in zip(strides, lengths, strict=True) for sign in (1, -1)
    ]
    waiting: dict[int, list[tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]]] = {}
    for part, points in enumerate(seeds):
        starts = [sum((p + 1) * stride for p, stride in zip(point, strides, strict=True)) for point in points]
        waiting.setdefault(0, []).append((np.array(starts, np.int64), np.full(len(starts), part, np.uint8)))
    distances = [0]
    # Dijkstra's algorithm, all voxels at one distance at a time.
    while distances:
        distance = heapq.heappop(distances)
        arrived = waiting.pop(distance)
        places = np.concatenate([each for each, _ in arrived])
        of = np.concatenate([each for _, each in arrived])
        order = np.lexsort((of, places))
        places, of = places[order], of[order]
        is_first = np.diff(places, prepend=-1) != 0
        places, of = places[is_first], of[is_first]
        is_new = free[places]
        places, of = places[is_new], of[is_new]
        free[places] = False
        parts[places] = of
        for step, length in steps:
            beside = places + step
            is_free = free[beside]
            if is_free.any():
                if distance + length not in waiting:
                    waiting[distance + length] = []
                    heapq.heappush(distances, distance + length)
                waiting[distance + length].append((beside[is_free], of[is_free]))
    return parts.reshape(shape)[1:-1, 1:-1, 1:-1]
