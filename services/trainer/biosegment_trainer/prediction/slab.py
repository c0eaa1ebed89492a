"""Reading the voxels of a block from storage that is cut otherwise than the network wants them."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from biosegment.volume import Index, Region
from biosegment_trainer.compute.task import VolumeArray
from biosegment_trainer.compute.voxel import VoxelReader
from biosegment_trainer.learning.prediction import Predictor

Voxels = NDArray[np.generic]
_CHUNK_DEPTH: Final = 16
_SLAB_BYTES: Final = 256 << 20


class SlabReader:
    """Hands out a few slices after the other, and reads each voxel once.

    Our own arrays have chunks of a few slices. Those of a reference may be deeper, and whoever reads a part of one
    decodes it whole: of these it keeps as many slices as fit into `_SLAB_BYTES`.
    """

    def __init__(self, voxels: VoxelReader, volume: VolumeArray, predictor: Predictor) -> None:
        self._reader = voxels
        self._volume = volume
        self._predictor = predictor
        self._reads = Region(Index(0, 0, 0), Index(*volume.shape))
        self._depth = _CHUNK_DEPTH
        self._held: Region | None = None
        self._voxels: Voxels = np.empty((0, 0, 0))

    def move_to(self, block: Region) -> None:
        """Prepare for a block, whose surroundings will be asked for, some slices at a time."""
        self._reads = reads = self._predictor.reads(block, self._volume.shape)
        self._held, self._voxels = None, np.empty((0, 0, 0))
        self._depth = _CHUNK_DEPTH
        slice_bytes = reads.shape.y * reads.shape.x * self._volume.voxel_bytes
        while self._depth < reads.shape.z and 2 * self._depth * slice_bytes <= _SLAB_BYTES:
            self._depth *= 2

    def read(self, region: Region) -> Voxels:
        """Voxels (z, y, x) of a part of what was announced."""
        if not self._volume.is_reference:
            return self._reader.read(region)
        if self._held is None or not self._held.contains(region):
            # Before the next slices come.
            self._held, self._voxels = None, np.empty((0, 0, 0))
            start_z = max(region.start.z - region.start.z % self._depth, self._reads.start.z)
            stop_z = min(-(-region.stop.z // self._depth) * self._depth, self._reads.stop.z)
            held = Region(Index(start_z, *self._reads.start[1:]), Index(stop_z, *self._reads.stop[1:]))
            self._voxels = self._reader.read(held)
            self._held = held
        return self._voxels[region.relative_to(self._held).slices]
