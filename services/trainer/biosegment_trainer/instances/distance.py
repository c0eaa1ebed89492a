"""Distance to the surface, as far as it matters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

_TILE: Final = 64


def reach(cap: float, spacing: tuple[float, float, float]) -> tuple[int, int, int]:
    """How many voxels (z, y, x) around a voxel decide its distance up to `cap`, in the unit of `spacing`."""
    z, y, x = (int(cap / edge) for edge in spacing)
    return z, y, x


def capped_distance(
    mask: NDArray[np.bool_], spacing: tuple[float, float, float], cap: float
) -> NDArray[np.float32]:
    """Euclidean distance of each voxel to the nearest one that is not set, at most `cap`; exact below it.

    Nothing is known outside of the array, so its border is no surface. Separable, as in Felzenszwalb and Huttenlocher,
    "Distance transforms of sampled functions" (Theory of Computing 8, 2012), with windows instead of envelopes: only
    `reach` voxels matter, and where nothing is set there is nothing to do.

    Args:
        mask: (z, y, x).
        spacing: Edges of a voxel (z, y, x).
        cap: In the unit of `spacing`; more than 0.

    Returns:
        (z, y, x), 0 where nothing is set.
    """
    result = np.zeros(mask.shape, np.float32)
    margin = reach(cap, spacing)
    for tile in _tiles(mask.shape):
        if not mask[tile].any():
            continue
        around = tuple(
            slice(max(0, part.start - m), min(size, part.stop + m))
            for part, m, size in zip(tile, margin, mask.shape, strict=True)
        )
        squares = _along_x(mask[around], spacing[2], cap)
        squares = squares[:, :, _inside(tile[2], around[2])]
        squares = _along(squares, 1, margin[1], spacing[1])[:, _inside(tile[1], around[1])]
        squares = _along(squares, 0, margin[0], spacing[0])[_inside(tile[0], around[0])]
        np.sqrt(squares, out=result[tile])
    return np.minimum(result, np.float32(cap), out=result)


def _tiles(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice, slice]]:
    z, y, x = ([slice(low, min(low + _TILE, size)) for low in range(0, size, _TILE)] for size in shape)
    return ((a, b, c) for a in z for b in y for c in x)


def _inside(part: slice, around: slice) -> slice:
    return slice(part.start - around.start, part.stop - around.start)


def _along_x(mask: NDArray[np.bool_], edge: float, cap: float) -> NDArray[np.float32]:
    """Squared distance along x to the nearest voxel that is not set, or something above the cap's square."""
    far = int(cap / edge) + 2
    place = np.arange(mask.shape[2], dtype=np.int32)
    left = np.maximum.accumulate(np.where(mask, np.int32(-far), place), axis=2)
    right = np.minimum.accumulate(np.where(mask, np.int32(mask.shape[2] + far), place)[:, :, ::-1], axis=2)
    steps = np.minimum(place - left, right[:, :, ::-1] - place).astype(np.float32)
    return np.square(np.minimum(steps, np.float32(far)) * np.float32(edge))


def _along(squares: NDArray[np.float32], axis: int, margin: int, edge: float) -> NDArray[np.float32]:
    """The least of the squares within `margin` voxels along an axis, each with the square of its way."""
    result = squares.copy()
    size = squares.shape[axis]
    for step in range(1, min(margin, size - 1) + 1):
        way = np.float32((step * edge) ** 2)
        near, far = [slice(None)] * 3, [slice(None)] * 3
        near[axis], far[axis] = slice(0, size - step), slice(step, size)
        one, other = tuple(near), tuple(far)
        np.minimum(result[one], squares[other] + way, out=result[one])
        np.minimum(result[other], squares[one] + way, out=result[other])
    return result
