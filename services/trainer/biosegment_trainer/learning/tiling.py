"""Where a network looks: tiles with a halo, on a grid that belongs to the volume and not to the block.

A block computes the whole tiles of that grid that it touches and keeps its part. So a voxel's result is the
same however the volume is cut into blocks, and blocks that are multiples of the tile waste nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biosegment.errors import InvalidArgument

Float32 = NDArray[np.float32]
Triple = tuple[int, int, int]
ORTHO_TILE = 256
"""Edge of the cubes of working pixels that are predicted along all three axes."""
SMALLEST_TILE = 32
"""Edge in working pixels: below it nearly all that a network sees is halo."""


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open run of working pixels along one axis."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def grown(self, margin: int, size: int) -> Span:
        """`margin` more on both sides, cut to an axis of `size`."""
        return Span(max(self.start - margin, 0), min(self.stop + margin, size))


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

    def within(self, span: Span) -> slice:
        """`span` in the frame of the window."""
        return slice(span.start - self.window.start, span.stop - self.window.start)


@dataclass(frozen=True, slots=True)
class TilingConfig:
    """Sizes in working voxels (z, y, x). For 2D networks, which take slices one by one, z is 1 and 0.

    Attributes:
        tile: Edges of the part of a tile that is kept; y and x multiples of the score cell (16). A halo costs less
            the larger the tile: 1024 with a halo of 48 computes 1.2 times what it keeps, 256 1.9 times.
        halo: What the network sees around it, on every side; multiples of the network's stride.
    """

    tile: Triple = (1, 1024, 1024)
    halo: Triple = (0, 48, 48)

    def __post_init__(self) -> None:
        if min(self.tile) < 1 or any(edge % 16 for edge in self.tile[1:]) or min(self.halo) < 0:
            raise InvalidArgument(
                "BAD_TILING",
                f"tile {self.tile} must be positive, in y and x multiples of 16, and halo {self.halo} not negative",
            )

    @classmethod
    def flat(cls, tile: int, halo: int) -> TilingConfig:
        """Square tiles of single slices."""
        return cls((1, tile, tile), (0, halo, halo))

    def require_stride(self, stride: Triple) -> None:
        """Raise InvalidArgument BAD_TILING unless tiles and halos lie in the raster of a network's stride."""
        edges = (*zip(self.tile, stride, strict=True), *zip(self.halo, stride, strict=True))
        if any(edge % step for edge, step in edges):
            raise InvalidArgument(
                "BAD_TILING",
                f"tile {self.tile} and halo {self.halo} must be multiples of the stride {stride} (z, y, x)",
            )


def default_tile(spatial_dims: int, factor: int) -> Triple:
    """Edges of tiles (z, y, x) in working voxels; blocks should be multiples of them.

    Large enough that halos cost little, small enough that a worker stays below 3 GB. Beyond a factor of 4 a tile
    covers no more level-0 voxels than it does at 4: what a halo costs there is little beside what is read and written.

    Args:
        spatial_dims: Of the network, 2 or 3.
        factor: Level-0 voxels per working pixel in y and x: what is read and written grows with its square.
    """
    if factor <= 2:
        return (128, 256, 256) if spatial_dims == 3 else (1, 1024, 1024)
    depth, edge = (64, 256) if spatial_dims == 3 else (1, 512)
    widest = 4 * edge
    while factor * edge > widest and edge > SMALLEST_TILE:
        edge //= 2
    return (depth, edge, edge)


def axis_tiles(span: Span, size: int, tile: int, halo: int, stride: int) -> Iterator[AxisTile]:
    """The tiles that `span` touches along an axis of `size` working pixels.

    Windows start and end at multiples of `stride`, since strided convolutions see the world in that raster. At the
    volume's border they go on for one stride only: a whole halo of mirrored image would cost time and tell nothing.
    """
    for number in range(span.start // tile, (span.stop - 1) // tile + 1):
        start, stop = number * tile, min((number + 1) * tile, size)
        begin, end = max(start - halo, -stride), min(stop + halo, size + stride)
        window = Span(begin, begin - (begin - end) // stride * stride)
        yield AxisTile(
            keep=Span(max(start, span.start), min(stop, span.stop)),
            window=window,
            source=Span(max(window.start, 0), min(window.stop, size)),
        )


def surroundings(span: Span, size: int, tile: int, halo: int, stride: int) -> Span:
    """All that the tiles of `axis_tiles` read."""
    tiles = list(axis_tiles(span, size, tile, halo, stride))
    return Span(tiles[0].source.start, tiles[-1].source.stop)


def mirrored(index: int, size: int) -> int:
    """The position inside of an axis of `size` that is seen at `index`, which may lie beyond both ends.

    The edge itself is repeated, which works for an axis of one voxel as well.
    """
    index %= 2 * size
    return index if index < size else 2 * size - 1 - index


def cut_window(
    planes: Sequence[Float32], corner: tuple[int, int], rows: AxisTile, columns: AxisTile
) -> Float32:
    """What the network sees of some planes, float32 (planes, y, x) of the windows, mirrored at the volume's border.

    Args:
        planes: float32 (y, x) each, of one shape, at least the tiles' sources.
        corner: Where the planes begin, working pixels of the volume.
        rows: The tile along y.
        columns: The tile along x.
    """
    window = np.empty((len(planes), len(rows.window), len(columns.window)), np.float32)
    inner = (rows.within(rows.source), columns.within(columns.source))
    y, x = rows.source.start - corner[0], columns.source.start - corner[1]
    for target, plane in zip(window, planes, strict=True):
        target[inner] = plane[y : y + len(rows.source), x : x + len(columns.source)]
    for axis, tile in ((1, rows), (2, columns)):
        view, source = window.swapaxes(1, axis), tile.source
        outside = (*range(tile.window.start, source.start), *range(source.stop, tile.window.stop))
        for index in outside:
            seen = source.start + mirrored(index - source.start, len(source))
            view[:, index - tile.window.start] = view[:, seen - tile.window.start]
    return window
