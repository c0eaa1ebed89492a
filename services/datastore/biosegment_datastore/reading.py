"""Regions on their way out: open arrays, and reading them part by part."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from biosegment.errors import NotFound, ResourceExhausted
from biosegment.storage.arrays import Array, Arrays
from biosegment.volume import Index, Region

PART_BYTES = 32 << 20
"""What is read at once; two parts of a stream are in memory."""


class OpenArrays:
    """Arrays that were opened before, the least recently used ones dropped."""

    def __init__(self, arrays: Arrays, capacity: int = 256) -> None:
        self._arrays = arrays
        self._capacity = capacity
        self._open: OrderedDict[tuple[str, bool], Array] = OrderedDict()

    async def get(self, key: str, immutable: bool) -> Array:
        """The array below `key`; NotFound ARRAY_NOT_FOUND."""
        place = (key, immutable)
        array = self._open.get(place)
        if array is None:
            array = await asyncio.to_thread(self._arrays.open, key, immutable=immutable)
            self._open[place] = array
            if len(self._open) > self._capacity:
                self._open.popitem(last=False)
        self._open.move_to_end(place)
        return array

    async def exists(self, key: str) -> bool:
        """Whether there is an array below `key`."""
        try:
            await self.get(key, immutable=False)
        except NotFound:
            return False
        return True

    def drop(self, key: str) -> None:
        """Forget an array that was deleted."""
        for immutable in (False, True):
            self._open.pop((key, immutable), None)


@dataclass(frozen=True, slots=True)
class RegionRead:
    """A region of an open array that somebody may read."""

    array: Array
    region: Region

    @property
    def shape(self) -> Index:
        return self.region.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    async def parts(self) -> AsyncIterator[npt.NDArray[Any]]:
        """The region in C order, cut into parts; the next one is read while the caller sends this one.

        Raises:
            Unavailable: OBJECT_STORE_UNAVAILABLE.
        """
        regions = list(cut(self.region, self.dtype.itemsize, self.array.layout.chunk))
        if len(regions) == 1:
            yield await self.array.read_async(self.region)
            return
        ahead = asyncio.ensure_future(self.array.read_async(regions[0]))
        try:
            for following in [*regions[1:], None]:
                part = await ahead
                if following is not None:
                    ahead = asyncio.ensure_future(self.array.read_async(following))
                yield part
        finally:
            ahead.cancel()


def require_size(region: Region, itemsize: int, limit_bytes: int) -> None:
    """Raise ResourceExhausted REGION_TOO_LARGE when a region is more than one call may move."""
    if region.size * itemsize > limit_bytes:
        raise ResourceExhausted(
            "REGION_TOO_LARGE",
            f"region {region} is {region.size * itemsize} bytes; one call moves at most {limit_bytes}, so use several",
            limit_bytes=str(limit_bytes),
        )


def cut(
    region: Region, itemsize: int, chunk: tuple[int, ...], part_bytes: int = PART_BYTES
) -> Iterator[Region]:
    """Cut a region into boxes that follow one another in its C order, at chunk borders where that is possible."""
    _, height, width = region.shape
    if region.size * itemsize <= part_bytes:
        yield region
        return
    plane = height * width * itemsize
    if plane <= part_bytes:
        for low, high in _steps(region.start.z, region.stop.z, part_bytes // plane, chunk[-3]):
            yield Region(
                Index(low, region.start.y, region.start.x), Index(high, region.stop.y, region.stop.x)
            )
        return
    rows = max(1, part_bytes // (width * itemsize))
    for z in range(region.start.z, region.stop.z):
        for low, high in _steps(region.start.y, region.stop.y, rows, chunk[-2]):
            yield Region(Index(z, low, region.start.x), Index(z + 1, high, region.stop.x))


def _steps(start: int, stop: int, largest: int, grid: int) -> Iterator[tuple[int, int]]:
    while start < stop:
        end = start + largest
        if largest >= grid:
            end = end // grid * grid
        end = min(end, stop)
        yield start, end
        start = end
