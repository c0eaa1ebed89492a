"""Voxels of volumes and layers, from wherever they lie; coarser levels of layers are sampled from what is stored."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from biosegment.auth import Principal
from biosegment.errors import NotFound
from biosegment.storage.arrays import Array, Arrays
from biosegment.volume import Index, Region
from biosegment_gateway.viewing.exhibit import Exhibit, Location
from biosegment_gateway.viewing.view import EditedLayer, Regions

_OPEN_ARRAYS: Final = 256


class Voxels:
    """Reads regions.

    Args:
        arrays: The object storage.
        regions: What only the datastore can read: references, and edited objects.
    """

    def __init__(self, arrays: Arrays, regions: Regions) -> None:
        self._arrays = arrays
        self._regions = regions
        self._open: OrderedDict[tuple[str, bool], Array] = OrderedDict()

    async def read(self, principal: Principal, exhibit: Exhibit, number: int, region: Region) -> NDArray[Any]:
        """Voxels (z, y, x) of a region of a level, in the frame of that level.

        Args:
            principal: In whose name the datastore is asked; who sees the exhibit.
            exhibit: The volume or layer.
            number: Of the level.
            region: Within the level's shape.

        Raises:
            NotFound: VOXELS_NOT_FOUND when they were deleted meanwhile.
            Unavailable: SOURCE_GONE, of a reference.
        """
        level, source = exhibit.levels[number], exhibit.source
        step = level.sampling
        if step == (1, 1, 1):
            return await self._read(principal, exhibit, number, region, step)
        stored = exhibit.levels[0].shape
        if isinstance(source, Location):
            voxels = await self._read(principal, exhibit, 0, _spread(region, step, stored), step)
        else:
            voxels = await self._sampled(principal, exhibit, region, step)
        # The middle of the last voxel of an axis may lie outside.
        lacking = [(0, size - have) for size, have in zip(region.shape, voxels.shape, strict=True)]
        return np.pad(voxels, lacking, mode="edge") if any(more for _, more in lacking) else voxels

    async def _sampled(
        self, principal: Principal, exhibit: Exhibit, region: Region, step: Index
    ) -> NDArray[Any]:
        """Every so many voxels of what the datastore reads, plane by plane."""
        stored = exhibit.levels[0].shape
        whole = _spread(region, step, stored)
        planes = []
        for z in range(whole.start.z, whole.stop.z, step.z):
            plane = Region(Index(z, whole.start.y, whole.start.x), Index(z + 1, whole.stop.y, whole.stop.x))
            planes.append(
                (await self._read(principal, exhibit, 0, plane, Index(1, 1, 1)))[:, :: step.y, :: step.x]
            )
        return np.concatenate(planes)

    async def _read(
        self, principal: Principal, exhibit: Exhibit, number: int, region: Region, step: Index
    ) -> NDArray[Any]:
        source = exhibit.source
        if not isinstance(source, Location):
            with_edits = isinstance(source, EditedLayer)
            return await self._regions.read_region(
                principal, exhibit.name, number, region, with_edits=with_edits
            )
        path = exhibit.levels[number].path
        key = f"{source.prefix}/{path}" if path else source.prefix
        slices = tuple(
            slice(low, high, every) for low, high, every in zip(region.start, region.stop, step, strict=True)
        )
        try:
            array = await self._array(key, source.is_immutable)
            return await array.read_async(slices)
        except NotFound as error:
            raise NotFound("VOXELS_NOT_FOUND", f"the voxels of {exhibit.name} are gone") from error

    async def _array(self, key: str, is_immutable: bool) -> Array:
        found = self._open.get((key, is_immutable))
        if found is None:
            found = await asyncio.to_thread(self._arrays.open, key, immutable=is_immutable)
            self._open[key, is_immutable] = found
            if len(self._open) > _OPEN_ARRAYS:
                self._open.popitem(last=False)
        return found


def _spread(region: Region, step: Index, within: Index) -> Region:
    """The stored voxels from the middle of the first sampled voxel to that of the last one."""
    start = [
        min(low * every + every // 2, size - 1)
        for low, every, size in zip(region.start, step, within, strict=True)
    ]
    stop = [
        min((high - 1) * every + every // 2 + 1, size)
        for high, every, size in zip(region.stop, step, within, strict=True)
    ]
    return Region(Index(*start), Index(*(max(low + 1, high) for low, high in zip(start, stop, strict=True))))
