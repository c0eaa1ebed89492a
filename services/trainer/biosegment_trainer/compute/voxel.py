"""Where a worker gets voxels from: the object storage, or, for volumes that are references, the trainer."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from biosegment.storage.arrays import Arrays
from biosegment.volume import Region
from biosegment_trainer.compute.report import Reporter
from biosegment_trainer.compute.task import Callback, VolumeArray
from biosegment_trainer.compute.voxel_stream import StreamedVoxels

Voxels = NDArray[np.generic]


class VoxelReader(Protocol):
    """The finest level of one volume; `biosegment.storage.arrays.Array` is one."""

    def read(self, region: Region) -> Voxels:
        """Voxels (z, y, x) of a region of level 0; blocks."""
        ...


def open_voxels(
    volume: VolumeArray, arrays: Arrays, callback: Callback, reporter: Reporter
) -> AbstractContextManager[VoxelReader]:
    """A reader for as long as the context lasts; nobody must write to the volume, as nobody may."""
    if volume.is_reference:
        return StreamedVoxels(volume.name, callback, reporter)
    return nullcontext(arrays.open(volume.key, immutable=True))
