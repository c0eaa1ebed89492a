"""Where a network looks: tiles with a halo, on a grid that belongs to the volume and not to the block.

A block computes the whole tiles of that grid that it touches and keeps its part. So a voxel's result is the
same however the volume is cut into blocks, and blocks that are multiples of the tile waste nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biosegment.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open run of working pixels along one axis."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class AxisTile:
    """One tile along one axis, working pixels of the volume.

    Attributes:
        keep: What the block takes from the tile.
        window: What the network sees: tile and halo, may leave the volume on both sides.
        source: The part of `window` that lies in the volume and is read.
    """

    keep: Span
    window: Span
    source: Span


@dataclass(frozen=True, slots=True)
class TilingConfig:
    """Sizes in working pixels.

    Attributes:
        tile: Edge of the part of a tile that is kept; a multiple of the score cell (16).
        halo: What the network sees around it, on every side; a multiple of the network's stride. With 48 a trained
            default network differs by 0.0002 on average from one that sees everything, with 32 by 0.0016.
    """

    tile: int = 256
    halo: int = 48

    def __post_init__(self) -> None:
        if self.tile < 16 or self.tile % 16 or self.halo < 0 or self.halo % 16:
            raise InvalidArgument(
                "BAD_TILING", f"tile {self.tile} and halo {self.halo} must be multiples of 16"
            )


def axis_tiles(span: Span, size: int, tiling: TilingConfig, stride: int) -> Iterator[AxisTile]:
    """The tiles that `span` touches along an axis of `size` working pixels.

    Windows start and end at multiples of `stride`, since strided convolutions see the world in that raster. At the
    volume's border they go on for one stride only: a whole halo of mirrored image would cost time and tell nothing.
    """
    first = span.start // tiling.tile
    last = (span.stop - 1) // tiling.tile
    for number in range(first, last + 1):
        start, stop = number * tiling.tile, min((number + 1) * tiling.tile, size)
        begin, end = max(start - tiling.halo, -stride), min(stop + tiling.halo, size + stride)
        window = Span(begin, begin - (begin - end) // stride * stride)
        yield AxisTile(
            keep=Span(max(start, span.start), min(stop, span.stop)),
            window=window,
            source=Span(max(window.start, 0), min(window.stop, size)),
        )


def reflect_into_window(image: NDArray[np.float32], rows: AxisTile, columns: AxisTile) -> NDArray[np.float32]:
    """Extend what was read, (z, y, x) of the sources, to the windows by mirroring at the volume's border."""
    pads = [(0, 0)]
    for axis in (rows, columns):
        pads.append((axis.source.start - axis.window.start, axis.window.stop - axis.source.stop))
    # `symmetric` repeats the edge pixel but, unlike `reflect`, works for an image of one pixel as well.
    return np.pad(image, pads, mode="symmetric") if any(map(any, pads)) else image
