"""Reading the voxels of a block: a few slices at a time, each once."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from biosegment.volume import Index, Region
from biosegment_trainer.compute.task import VolumeArray
from biosegment_trainer.compute.voxel import VoxelReader
from biosegment_trainer.learning.prediction import PredictionConfig
from biosegment_trainer.prediction.block import aligned

Voxels = NDArray[np.generic]
_CHUNK_DEPTH: Final = 16
_SLAB_BYTES: Final = 256 << 20


class SlabReader:
    """Reads raw voxels, keeping some slices of a block and its surroundings, since tiles and their halos overlap.

    Of our own arrays it keeps the slices of one row of chunks. The chunks of a reference may be deeper, and whoever
    reads a part of one decodes it whole: of these it keeps as many slices as fit into `_SLAB_BYTES`.
    """

    def __init__(self, voxels: VoxelReader, volume: VolumeArray, config: PredictionConfig) -> None:
        self._reader = voxels
        self._volume = volume
        self._tile = config.tiling.tile * config.factor
        self._halo = config.tiling.halo * config.factor
        self._depth = _CHUNK_DEPTH
        self._whole = Region(Index(0, 0, 0), Index(*volume.shape))
        self._part = self._whole
        self._held: Region | None = None
        self._voxels: Voxels = np.empty((0, 0, 0))

    def move_to(self, part: Region) -> None:
        """Prepare for a block."""
        # All that the tiles see which touch it.
        tiles = aligned(part, self._tile, self._whole)
        self._part = tiles.padded((0, self._halo, self._halo), self._whole)
        self._held, self._voxels = None, np.empty((0, 0, 0))
        self._depth = _CHUNK_DEPTH
        if self._volume.is_reference:
            slice_bytes = self._part.shape.y * self._part.shape.x * self._volume.voxel_bytes
            while self._depth < part.shape.z and 2 * self._depth * slice_bytes <= _SLAB_BYTES:
                self._depth *= 2

    def read(self, region: Region) -> Voxels:
        if self._held is None or not self._held.contains(region):
            # Before the next slices come.
            self._held, self._voxels = None, np.empty((0, 0, 0))
            start_z = max(region.start.z - region.start.z % self._depth, self._part.start.z)
            stop_z = min(-(-region.stop.z // self._depth) * self._depth, self._part.stop.z)
            held = Region(Index(start_z, *self._part.start[1:]), Index(stop_z, *self._part.stop[1:]))
            if not held.contains(region):
                return self._reader.read(region)
            self._voxels = self._reader.read(held)
            self._held = held
        return self._voxels[region.relative_to(self._held).slices]
