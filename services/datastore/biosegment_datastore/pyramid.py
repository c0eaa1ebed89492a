"""Resolution pyramids: which levels, and how a level is made from the one before it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from biosegment.errors import InvalidArgument
from biosegment.storage.multiscale import Level
from biosegment.volume import Index, VoxelSize

Voxels = npt.NDArray[Any]
Method = Literal["mean", "mode"]

SMALLEST = 256
"""A level whose axes are all at most this long is the last one: a viewer shows it whole, in one tile."""

_ISOTROPIC = 2**0.5
"""An axis is halved unless its voxel edge is longer than the shortest edge by more than this."""

# Sums of eight voxels must fit; the means of what is stored as it is (floats) are made in its own type.
_SUM_DTYPE = {"uint8": "uint16", "int8": "int16", "uint16": "uint32", "int16": "int32", "float32": "float32"}

_PAIR = ("uint8", "int8", "uint16", "int16")

_BLOCK = 1 << 17
"""Voxels of a plane that are worked on at a time."""


def plan_levels(shape: Index, voxel_size: VoxelSize, smallest: int = SMALLEST) -> tuple[Level, ...]:
    """Levels of an image, the full one first; in-plane first while voxels are longer in z.

    Args:
        shape: Voxels of level 0.
        voxel_size: Decides which axes a step halves.
        smallest: The last level is the first whose axes are all at most this long.
    """
    levels = [Level("0", shape, Index(1, 1, 1))]
    while max(levels[-1].shape) > smallest:
        step = _next_factor(levels[-1].shape, voxel_size.scaled(levels[-1].downsampling))
        reached = Index(*(have * more for have, more in zip(levels[-1].downsampling, step, strict=True)))
        size = Index(*(-(-length // factor) for length, factor in zip(levels[-1].shape, step, strict=True)))
        levels.append(Level(str(len(levels)), size, reached))
    return tuple(levels)


def _next_factor(shape: Index, voxel_size: VoxelSize) -> Index:
    limit = _ISOTROPIC * min(edge for edge, length in zip(voxel_size, shape, strict=True) if length > 1)
    return Index(
        *(2 if edge <= limit and length > 1 else 1 for edge, length in zip(voxel_size, shape, strict=True))
    )


def downsample(array: Voxels, factor: Index, method: Method = "mean") -> Voxels:
    """Halve the axes whose factor is 2.

    An odd axis is rounded up: its last voxel stands for one plane, so that nothing is lost at the border.

    Args:
        array: (z, y, x); for `mean` uint8, int8, uint16, int16 or float32.
        factor: 1 or 2 for every axis.
        method: `mean` for grey values, rounded half up; `mode` for labels: the most frequent value, the
            larger one when two are equally frequent.

    Returns:
        Array of the same dtype with every axis `ceil(size / factor)` long.
    """
    if any(step not in (1, 2) for step in factor):
        raise InvalidArgument(
            "BAD_FACTOR", f"downsampling factor {tuple(factor)} is not 1 or 2 along every axis"
        )
    if method == "mean" and array.dtype.name not in _SUM_DTYPE:
        raise InvalidArgument(
            "BAD_DTYPE", f"cannot average {array.dtype} voxels: use {', '.join(_SUM_DTYPE)}"
        )
    size = tuple(-(-length // step) for length, step in zip(array.shape, factor, strict=True))
    result = np.empty(size, array.dtype)
    combine = _mean if method == "mean" else _mode
    if method == "mean" and factor.x == 2 and array.dtype.name in _PAIR:
        combine = _integer_mean
    # Some rows at a time: what is added stays in the processor's cache, three times as fast as whole arrays.
    rows = max(1, _BLOCK // max(1, array.shape[2]))
    for z in range(size[0]):
        planes = array[z * factor.z : (z + 1) * factor.z]
        for y in range(0, size[1], rows):
            combine(planes[:, y * factor.y : (y + rows) * factor.y], factor, result[z, y : y + rows])
    return result


def _integer_mean(planes: Voxels, factor: Index, out: Voxels) -> None:
    """Like `_mean`, three times as fast: two neighbours are read as one number of twice the width."""
    narrow, wide = np.dtype(f"u{planes.dtype.itemsize}"), np.dtype(f"u{2 * planes.dtype.itemsize}")
    bits = 8 * narrow.itemsize
    # A signed number with its highest bit flipped is the unsigned one that is larger by half the range.
    flip = narrow.type(1 << bits - 1) if planes.dtype.kind == "i" else None
    total: Voxels | None = None
    for plane in planes:
        pairs = _even(plane.view(narrow), flip).view(wide)
        sums = np.bitwise_and(pairs, wide.type((1 << bits) - 1))
        pairs = np.right_shift(pairs, wide.type(bits))
        sums += pairs
        total = sums if total is None else np.add(total, sums, out=total)
    assert total is not None
    count = 2 * len(planes) * factor.y
    if factor.y == 2:
        total = _pairs(total, 0, wide)
    total += wide.type(count // 2)
    total >>= wide.type(count.bit_length() - 1)
    out.view(narrow)[...] = total
    if flip is not None:
        np.bitwise_xor(out.view(narrow), flip, out=out.view(narrow))


def _even(plane: Voxels, flip: Any) -> Voxels:
    """The plane in one piece, with its last column twice when their number is odd, and flipped."""
    if plane.shape[1] % 2:
        wider = np.empty((plane.shape[0], plane.shape[1] + 1), plane.dtype)
        wider[:, :-1], wider[:, -1] = plane, plane[:, -1]
        plane = wider
    plane = np.ascontiguousarray(plane)
    return plane if flip is None else np.bitwise_xor(plane, flip)


def _mean(planes: Voxels, factor: Index, out: Voxels) -> None:
    wide = np.dtype(_SUM_DTYPE[planes.dtype.name])
    count = len(planes)
    total: Voxels = planes[0] if count == 1 else np.add(planes[0], planes[1], dtype=wide)
    for axis, step in ((0, factor.y), (1, factor.x)):
        if step == 2:
            total = _pairs(total, axis, wide)
            count *= 2
    if count == 1:
        out[...] = total
    elif wide.kind == "f":
        np.multiply(total, wide.type(1 / count), out=out)
    else:
        total += wide.type(count // 2)
        total >>= wide.type(count.bit_length() - 1)
        out[...] = total


def _pairs(plane: Voxels, axis: int, dtype: np.dtype[Any]) -> Voxels:
    """Sums of neighbours along an axis; a last lonely one counts twice, as its own mean does."""
    first, second = _halves(plane, axis)
    if first.shape == second.shape:
        return np.add(first, second, dtype=dtype)
    result = np.empty(first.shape, dtype)
    paired = tuple(slice(0, length) for length in second.shape)
    np.add(first[paired], second, dtype=dtype, out=result[paired])
    last = (slice(None),) * axis + (slice(-1, None),)
    np.add(first[last], first[last], dtype=dtype, out=result[last])
    return result


def _halves(plane: Voxels, axis: int) -> tuple[Voxels, Voxels]:
    before = (slice(None),) * axis
    return plane[(*before, slice(0, None, 2))], plane[(*before, slice(1, None, 2))]


def _mode(planes: Voxels, factor: Index, out: Voxels) -> None:
    votes = list(_ballots(planes, factor))
    out[...] = votes[0]
    differ = np.zeros(out.shape, bool)
    for vote in votes[1:]:
        differ |= vote != votes[0]
    if not differ.any():
        return
    # Most voxels of a label array agree with their neighbours: only the others are counted.
    rows = np.stack([vote[differ] for vote in votes], axis=1)
    rows.sort(axis=1)
    frequency = np.zeros(rows.shape, np.uint8)
    for column in range(rows.shape[1]):
        frequency += rows == rows[:, column : column + 1]
    last_best = rows.shape[1] - 1 - frequency[:, ::-1].argmax(axis=1)
    out[differ] = rows[np.arange(len(rows)), last_best]


def _ballots(planes: Voxels, factor: Index) -> Iterator[Voxels]:
    """Views or copies, one for each of the voxels that become one; borders vote for themselves."""
    for plane in planes:
        if factor.y == 2 and plane.shape[0] % 2:
            plane = np.concatenate([plane, plane[-1:]], axis=0)
        if factor.x == 2 and plane.shape[1] % 2:
            plane = np.concatenate([plane, plane[:, -1:]], axis=1)
        for y in range(factor.y):
            for x in range(factor.x):
                yield plane[y :: factor.y, x :: factor.x]
