"""A layer of instances that reads as its edits made it."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import numpy.typing as npt

from biosegment.storage.arrays import Array
from biosegment.storage.layout import ArrayLayout
from biosegment.volume import Region
from biosegment_datastore.instances.composition import Composition
from biosegment_datastore.label_blocks import LabelBlocks


class EditedArray:
    """The voxels of a layer with edits applied; what `Array` offers to readers.

    Args:
        array: The layer as it was written.
        composition: The edits.
        blocks: Where their blocks are.
    """

    def __init__(self, array: Array, composition: Composition, blocks: LabelBlocks) -> None:
        self._array = array
        self._composition = composition
        self._blocks = blocks

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._array.dtype

    @property
    def layout(self) -> ArrayLayout:
        return self._array.layout

    def read(self, region: Region) -> npt.NDArray[Any]:
        """Ids of a region; blocks."""
        return self._composed(self._array.read(region), region)

    async def read_async(self, region: Region) -> npt.NDArray[Any]:
        """Like `read`, without blocking the event loop."""
        voxels = await self._array.read_async(region)
        if not self._composition:
            return voxels
        return await asyncio.to_thread(self._composed, voxels, region)

    def _composed(self, voxels: npt.NDArray[Any], region: Region) -> npt.NDArray[Any]:
        return self._composition.ids(voxels, region, self._blocks.get) if self._composition else voxels
