"""The tiles of a block: where networks look, and what must be read for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biosegment.volume import Index, Region
from biosegment_trainer.learning.measures import CELL
from biosegment_trainer.learning.network import NetworkConfig, NetworkModel
from biosegment_trainer.learning.tiling import (
    AxisTile,
    Span,
    TilingConfig,
    Triple,
    axis_tiles,
    default_tile,
    surroundings,
)

_WINDOW_VOXELS = {"UNet": 10 << 20, "SwinUNETR": 2 << 20}
_OTHER_WINDOW_VOXELS = 4 << 20
"""Largest windows of 3D networks: most keep a dozen or more features of every voxel, the U-Net of every eighth."""


def default_tiling(models: Sequence[NetworkModel], factor: int) -> TilingConfig:
    """Tiles for networks that look together: the halo of the one that needs most, in a raster that suits all.

    Args:
        models: Of one number of axes.
        factor: Level-0 voxels per working pixel in y and x.
    """
    networks = [model.network for model in models]
    solid = networks[0].spatial_dims == 3
    raster = [math.lcm(*(network.stride[axis] for network in networks)) for axis in range(3)]
    # For 2D networks neighbouring slices are no halo: they are channels.
    halo = [
        _multiple(max(network.halo[axis] for network in networks) if axis or solid else 0, step)
        for axis, step in enumerate(raster)
    ]
    steps = [math.lcm(cell, step) for cell, step in zip((1, CELL, CELL), raster, strict=True)]
    tile = [
        _multiple(edge, step)
        for edge, step in zip(default_tile(3 if solid else 2, factor), steps, strict=True)
    ]
    most = min(_WINDOW_VOXELS.get(network.family, _OTHER_WINDOW_VOXELS) for network in networks)
    while solid and math.prod(edge + 2 * rim for edge, rim in zip(tile, halo, strict=True)) > most:
        axis = max(range(3), key=lambda axis: tile[axis] if tile[axis] > steps[axis] else 0)
        if tile[axis] <= steps[axis]:
            break
        tile[axis] = _multiple(tile[axis] // 2, steps[axis])
    return TilingConfig(_triple(tile), _triple(halo))


def _multiple(length: int, step: int) -> int:
    return -(-length // step) * step


def _triple(values: Sequence[int]) -> Triple:
    z, y, x = values
    return z, y, x


@dataclass(frozen=True, slots=True)
class Frame:
    """The tiles of a block.

    Attributes:
        block: Level-0 voxels.
        shape: Of the volume, level-0 voxels.
        rows: Tiles along y, working pixels.
        columns: Tiles along x.
        depths: Tiles along z for a 3D network; none for a 2D one.
        reads: All that the tiles see, level-0 voxels.
    """

    block: Region
    shape: Index
    rows: list[AxisTile]
    columns: list[AxisTile]
    depths: list[AxisTile]
    reads: Region

    @classmethod
    def of(
        cls,
        block: Region,
        shape: Index,
        factor: int,
        tiling: TilingConfig,
        network: NetworkConfig,
        margin: int,
    ) -> Frame:
        """Lay out a block.

        Args:
            block: Level-0 voxels.
            shape: Of the volume.
            factor: Level-0 voxels per working pixel in y and x.
            tiling: Tiles and halo.
            network: What looks.
            margin: Slices on each side that a 2D network needs as well.
        """
        f = factor
        sizes = Index(shape.z, -(-shape.y // f), -(-shape.x // f))
        spans = [
            Span(block.start.z, block.stop.z),
            Span(block.start.y // f, -(-block.stop.y // f)),
            Span(block.start.x // f, -(-block.stop.x // f)),
        ]
        axes = list(zip(spans, sizes, tiling.tile, tiling.halo, network.stride, strict=True))
        solid = network.spatial_dims == 3
        seen = [surroundings(*axis) for axis in axes]
        if not solid:
            seen[0] = spans[0].grown(margin, shape.z)
        start = Index(seen[0].start, seen[1].start * f, seen[2].start * f)
        stop = Index(seen[0].stop, min(seen[1].stop * f, shape.y), min(seen[2].stop * f, shape.x))
        depths, rows, columns = (list(axis_tiles(*axis)) for axis in axes)
        return cls(block, shape, rows, columns, depths if solid else [], Region(start, stop))

    @property
    def corner(self) -> tuple[int, int]:
        """Where the working slices begin in y and x that are cut from `reads`."""
        return self.rows[0].source.start, self.columns[0].source.start


def cell_weights(tile: AxisTile, stride: int) -> NDArray[np.float32]:
    """float32 (cells, coarsest voxels of the window): how much of each cell of what is kept lies in each voxel."""
    pixels = np.arange(tile.keep.start, tile.keep.stop)
    weights = np.zeros((-(-len(pixels) // CELL), len(tile.window) // stride), np.float32)
    np.add.at(weights, ((pixels - tile.keep.start) // CELL, (pixels - tile.window.start) // stride), 1)
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)
