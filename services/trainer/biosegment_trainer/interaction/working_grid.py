"""Between the voxels of a box, those of the pyramid level that is read, and the square pixels that a network sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from biosegment.volume import Index, Region, VoxelSize

Float32 = NDArray[np.float32]
_WHOLE: Final = 0.02
"""Voxels per pixel that are so near to a whole number, relatively, are taken for it."""


@dataclass(frozen=True, slots=True)
class Level:
    """One level of a pyramid: voxels, and voxels of level 0 per voxel."""

    shape: Index
    downsampling: Index


@dataclass(frozen=True, slots=True)
class GridAxis:
    """One axis of a grid.

    Attributes:
        start: First voxel of level 0.
        stop: First one behind the box.
        step: Voxels of level 0 per voxel of the level.
        size: Voxels of the level, all of them.
        ratio: Voxels of the level per working pixel; below 1 pixels are interpolated.
    """

    start: int
    stop: int
    step: int
    size: int
    ratio: float

    @property
    def low(self) -> int:
        """First voxel of the level."""
        return min(self.start // self.step, self.size - 1)

    @property
    def high(self) -> int:
        """First voxel of the level behind the box."""
        return max(self.low + 1, min(-(-self.stop // self.step), self.size))

    @property
    def pixels(self) -> int:
        """Working pixels; the last one may reach beyond the box."""
        return max(1, int(np.ceil((self.high - self.low) / self.ratio - 1e-9)))

    @property
    def is_identity(self) -> bool:
        return self.step == 1 and self.ratio == 1

    def pixel_of(self, voxels: NDArray[np.int64]) -> NDArray[np.int64]:
        """The pixel in which the centre of each voxel of level 0 lies; grows with the voxel."""
        place = (voxels + 0.5) / self.step - self.low
        return np.clip(np.floor(place / self.ratio), 0, self.pixels - 1).astype(np.int64)

    def all_pixels(self) -> NDArray[np.int64]:
        """The pixel of each voxel of the box."""
        return self.pixel_of(np.arange(self.start, self.stop))

    def taps(self) -> Iterator[tuple[NDArray[np.int64], Float32]]:
        """What pixels are made of: sums of voxels of the level, by place, times weights; (pixels,) each.

        The weights are those of a pixel's mean over what it covers, or linear between centres.
        """
        count = self.high - self.low
        if self.ratio < 1:
            centre = np.clip((np.arange(self.pixels) + 0.5) * self.ratio - 0.5, 0, count - 1)
            below = np.floor(centre).astype(np.int64)
            share = centre - below
            yield below, np.asarray(1 - share, np.float32)
            yield np.minimum(below + 1, count - 1), np.asarray(share, np.float32)
            return
        begin = np.arange(self.pixels) * self.ratio
        end = np.minimum(begin + self.ratio, count)
        first = np.floor(begin).astype(np.int64)
        for step in range(int(np.ceil(self.ratio)) + 1):
            voxel = first + step
            covered = np.clip(np.minimum(end, voxel + 1) - np.maximum(begin, voxel), 0, 1)
            if covered.any():
                yield np.minimum(voxel, count - 1), np.asarray(covered / (end - begin), np.float32)


@dataclass(frozen=True, slots=True)
class WorkingGrid:
    """The grid of a box; `z`, `y`, `x` are its axes, arrays are zyx."""

    z: GridAxis
    y: GridAxis
    x: GridAxis

    @property
    def axes(self) -> tuple[GridAxis, GridAxis, GridAxis]:
        return self.z, self.y, self.x

    @property
    def shape(self) -> Index:
        """Working pixels."""
        return Index(*(axis.pixels for axis in self.axes))

    @property
    def box(self) -> Region:
        """Voxels of level 0."""
        return Region(Index(*(axis.start for axis in self.axes)), Index(*(axis.stop for axis in self.axes)))

    @property
    def level_region(self) -> Region:
        """What is read: voxels of the level."""
        return Region(Index(*(axis.low for axis in self.axes)), Index(*(axis.high for axis in self.axes)))

    def position_of(self, voxel: Index) -> Index:
        """The working pixel that holds a voxel of level 0."""
        found = [int(axis.pixel_of(np.array([at]))[0]) for axis, at in zip(self.axes, voxel, strict=True)]
        return Index(*found)

    def image(self, voxels: Float32) -> Float32:
        """Voxels of the level as working pixels: means, or linear where pixels are smaller than voxels."""
        for number, axis in enumerate(self.axes):
            if axis.ratio != 1:
                wide = [-1 if other == number else 1 for other in range(3)]
                terms = (voxels.take(at, number) * weight.reshape(wide) for at, weight in axis.taps())
                voxels = sum(terms, start=np.zeros((1, 1, 1), np.float32))
        return np.ascontiguousarray(voxels, np.float32)

    def shares(self, mask: NDArray[Any]) -> Float32:
        """The share of each pixel's voxels that `mask`, over the box at level 0, holds; float32 working pixels."""
        found = mask.astype(np.float32)
        for number, axis in enumerate(self.axes):
            if axis.is_identity:
                continue
            present, first, counts = np.unique(axis.all_pixels(), return_index=True, return_counts=True)
            wide = [1, 1, 1]
            wide[number] = len(counts)
            means = np.add.reduceat(found, first, number) / counts.reshape(wide)
            # A pixel in which no voxel's centre lies takes the next one's.
            next_one = np.searchsorted(present, np.arange(axis.pixels)).clip(max=len(present) - 1)
            found = np.asarray(means.take(next_one, number), np.float32)
        return found

    def strokes(self, strokes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Class values of strokes as working pixels: a stroke that covers a part of a pixel is on it."""
        if all(axis.is_identity for axis in self.axes):
            return strokes
        found = np.zeros(self.shape, np.uint8)
        best = np.zeros(self.shape, np.float32)
        for value in np.flatnonzero(np.bincount(strokes.ravel(), minlength=256)):
            if value:
                share = self.shares(strokes == value)
                found[share > best] = value
                best = np.maximum(best, share)
        return found

    def at_voxels(self, pixels: NDArray[Any], part: Region | None = None) -> NDArray[Any]:
        """Values of pixels at the voxels of level 0 that lie in them; of a part of the box, in its own frame."""
        part = part or Region.of_shape(self.box.shape)
        if all(axis.is_identity for axis in self.axes):
            return pixels[part.slices]
        rows = [axis.all_pixels()[cut] for axis, cut in zip(self.axes, part.slices, strict=True)]
        return pixels[np.ix_(*rows)]

    def voxels_of(self, part: Region) -> Region | None:
        """The voxels of level 0 that lie in a box of pixels, in the box's own frame; None for none."""
        start, stop = [], []
        for axis, low, high in zip(self.axes, part.start, part.stop, strict=True):
            pixels = axis.all_pixels()
            start.append(int(np.searchsorted(pixels, low)))
            stop.append(int(np.searchsorted(pixels, high)))
        if any(low >= high for low, high in zip(start, stop, strict=True)):
            return None
        return Region(Index(*start), Index(*stop))

    def pixel_size(self, voxel_size: VoxelSize) -> VoxelSize:
        """Edges of a working pixel, from those of a voxel of level 0."""
        edges = zip(voxel_size, self.axes, strict=True)
        return VoxelSize(*(edge * axis.step * axis.ratio for edge, axis in edges))


def choose_level(
    levels: Sequence[Level], voxel_size: VoxelSize, working_resolution_nm: float, through: int
) -> int:
    """The coarsest level from which a plane's working pixels are still means of voxels.

    Args:
        levels: Finest first.
        voxel_size: Of level 0.
        working_resolution_nm: Wanted edge of a pixel.
        through: The axis that is no axis of the plane: 0 z, 1 y, 2 x. Its slices stay single.
    """
    most = [max(1, round(working_resolution_nm / edge)) for edge in voxel_size]
    most[through] = 1
    fitting = [
        number
        for number, level in enumerate(levels)
        if all(have <= limit for have, limit in zip(level.downsampling, most, strict=True))
    ]
    return fitting[-1] if fitting else 0


def make_grid(
    box: Region, level: Level, voxel_size: VoxelSize, through: int, working_resolution_nm: float | None
) -> WorkingGrid:
    """The grid of a box.

    One axis of the plane has a whole number of voxels per pixel, as everything that is trained and predicted; the other
    has pixels of the same length.

    Args:
        box: Voxels of level 0.
        level: That is read.
        voxel_size: Of level 0.
        through: As in `choose_level`.
        working_resolution_nm: Wanted edge of a pixel; None for the voxels of the level as they are.
    """
    edges = [edge * step for edge, step in zip(voxel_size, level.downsampling, strict=True)]
    in_plane = [axis for axis in range(3) if axis != through]
    leading = in_plane[-1]
    whole = 1 if working_resolution_nm is None else max(1, round(working_resolution_nm / edges[leading]))
    pixel = edges[leading] * whole
    ratios = [1.0 if axis == through else _near_whole(pixel / edges[axis]) for axis in range(3)]
    ends = zip(box.start, box.stop, level.downsampling, level.shape, ratios, strict=True)
    return WorkingGrid(*(GridAxis(*each) for each in ends))


def _near_whole(ratio: float) -> float:
    nearest = max(1.0, float(round(ratio)))
    return nearest if abs(ratio - nearest) <= _WHOLE * nearest else ratio
