"""Coarser levels of a file that is being written, made from the level before, block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from biosegment.storage.multiscale import Level
from biosegment.volume import BlockGrid, Index, Region
from biosegment_datastore.formats.writers.target import ExportFrame, Voxels
from biosegment_datastore.pyramid import downsample, plan_levels

_READ_VOXELS = 4 << 20


def levels_of(frame: ExportFrame) -> tuple[Level, ...]:
    """The same pyramid as a volume of this shape has in the store."""
    return plan_levels(frame.shape, frame.voxel_size)


def total_slices(levels: tuple[Level, ...]) -> int:
    """What there is to write: the slices of all levels."""
    return sum(level.shape.z for level in levels)


def shrunk(
    read: Callable[[Region], Voxels], finer: Level, coarser: Level, block: Index, is_labels: bool
) -> Iterator[tuple[Region, Voxels]]:
    """The blocks of a level in C order.

    Args:
        read: Gives a box of the finer level.
        finer: The level before.
        coarser: The level to be made.
        block: How much of it is given at a time.
        is_labels: Take the most frequent value, not the mean.
    """
    factor = Index(*(b // a for a, b in zip(finer.downsampling, coarser.downsampling, strict=True)))
    for box in BlockGrid(coarser.shape, block):
        result: Voxels | None = None
        for part in BlockGrid(box.shape, _step(box.shape, factor)):
            below = _below(part.shifted(box.start), factor, finer.shape)
            small = downsample(read(below), factor, "mode" if is_labels else "mean")
            if result is None:
                result = np.empty(box.shape, small.dtype)
            result[part.slices] = small
        assert result is not None
        yield box, result


def _step(shape: Index, factor: Index) -> Index:
    """So many slices of a block that what they are made from stays small."""
    plane = shape.y * shape.x * factor.z * factor.y * factor.x
    return Index(max(1, min(shape.z, _READ_VOXELS // plane)), shape.y, shape.x)


def _below(box: Region, factor: Index, shape: Index) -> Region:
    start = Index(*(low * step for low, step in zip(box.start, factor, strict=True)))
    stop = Index(*(min(high * step, size) for high, step, size in zip(box.stop, factor, shape, strict=True)))
    return Region(start, stop)
