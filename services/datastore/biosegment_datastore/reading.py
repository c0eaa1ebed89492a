"""Regions on their way out: open arrays, and reading them part by part."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from biosegment.errors import NotFound, ResourceExhausted
from biosegment.storage.arrays import Array, Arrays
from biosegment.storage.layout import ArrayLayout
from biosegment.volume import Index, Region
from biosegment_datastore.admission import Admission, Part

PART_BYTES = 16 << 20
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


class Readable(Protocol):
    """Voxels, as they are stored or as they are put together when they are read."""

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def layout(self) -> ArrayLayout: ...

    async def read_async(self, region: Region) -> npt.NDArray[Any]: ...


@dataclass(frozen=True, slots=True)
class RegionRead:
    """A region of an open array that somebody may read, and whom to ask for memory."""

    array: Readable
    region: Region
    admission: Admission

    @property
    def shape(self) -> Index:
        return self.region.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    async def pieces(self, piece_bytes: int) -> AsyncGenerator[tuple[int, memoryview], None]:
        """Each byte of the region once: offsets in its C order, and at most `piece_bytes` that belong there.

        Keep no piece over the next step: it keeps its part. Parts are read in boxes of whole chunks, so that pieces of
        one slice need not follow one another; the next part is read while the caller sends this one.

        Raises:
            Unavailable: OBJECT_STORE_UNAVAILABLE.
        """
        parts = list(boxes(self.region, self.dtype.itemsize, self.array.layout.chunk))
        ahead = asyncio.ensure_future(self._read(parts[0]))
        try:
            for number, box in enumerate(parts):
                part = await ahead
                if number + 1 < len(parts):
                    ahead = asyncio.ensure_future(self._read(parts[number + 1]))
                try:
                    for start, stop, offset in _spans(self.region, box, self.dtype.itemsize, piece_bytes):
                        if part.voxels is None:  # dropped, while the caller took nothing
                            part = await self._read(box)
                        assert part.voxels is not None
                        part.touch()
                        # Named nowhere: a part is dropped by its last name.
                        yield offset, _bytes_of(part.voxels)[start:stop]
                finally:
                    part.close()
        finally:
            # What was read for nobody gives its memory back too.
            ahead.add_done_callback(_close_unused)
            ahead.cancel()

    async def _read(self, box: Region) -> Part:
        part = await self.admission.enter(box.size * self.dtype.itemsize)
        try:
            part.fill(_little_endian(await self.array.read_async(box)))
        except BaseException:
            part.close()
            raise
        return part


def _close_unused(ahead: asyncio.Future[Part]) -> None:
    if not ahead.cancelled() and ahead.exception() is None:
        ahead.result().close()


def _little_endian(voxels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.ascontiguousarray(voxels, voxels.dtype.newbyteorder("<"))


def _bytes_of(voxels: npt.NDArray[Any]) -> memoryview:
    return voxels.reshape(-1).view(np.uint8).data


def _spans(region: Region, box: Region, itemsize: int, piece_bytes: int) -> Iterator[tuple[int, int, int]]:
    """Start and stop within the bytes of `box`, offset within those of `region`; `box` has the region's full width."""
    row = region.shape.x * itemsize
    plane = region.shape.y * row
    whole_planes = box.shape.y == region.shape.y
    run = box.size * itemsize if whole_planes else box.shape.y * row
    corner = (box.start.z - region.start.z) * plane + (box.start.y - region.start.y) * row
    for number in range(box.size * itemsize // run):
        for inside in range(0, run, piece_bytes):
            start = number * run + inside
            yield start, number * run + min(inside + piece_bytes, run), corner + number * plane + inside


def require_size(region: Region, itemsize: int, limit_bytes: int) -> None:
    """Raise ResourceExhausted REGION_TOO_LARGE when a region is more than one call may move."""
    if region.size * itemsize > limit_bytes:
        raise ResourceExhausted(
            "REGION_TOO_LARGE",
            f"region {region} is {region.size * itemsize} bytes; one call moves at most {limit_bytes}, so use several",
            limit_bytes=str(limit_bytes),
        )


def boxes(
    region: Region, itemsize: int, chunk: tuple[int, ...], part_bytes: int = PART_BYTES
) -> Iterator[Region]:
    """Cut a region into boxes of its full width, of whole chunks in z and y where `part_bytes` allows.

    A chunk that two boxes share is decoded twice, which is why thin slabs of a wide region are no good parts.
    """
    depth, height, width = region.shape
    row = width * itemsize
    deep = min(depth, chunk[-3])
    rows = min(height, max(1, part_bytes // (deep * row)))
    if rows == height:
        deep = min(depth, max(deep, part_bytes // (height * row)))
    for low_z, high_z in _cuts(region.start.z, region.stop.z, deep, chunk[-3]):
        for low, high in _cuts(region.start.y, region.stop.y, rows, chunk[-2]):
            yield Region(Index(low_z, low, region.start.x), Index(high_z, high, region.stop.x))


def _cuts(start: int, stop: int, largest: int, grid: int) -> Iterator[tuple[int, int]]:
    # What fits is not cut, whether or not it lies on the grid: each piece of the stream is then as large as it may be.
    return iter(((start, stop),)) if largest >= stop - start else _steps(start, stop, largest, grid)


def cut(
    region: Region, itemsize: int, chunk: tuple[int, ...], part_bytes: int = PART_BYTES
) -> Iterator[Region]:
    """Cut a region into boxes that follow one another in its C order, at chunk borders where that is possible.

    For writers that cannot seek; see `boxes` for readers that need not go in order.
    """
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
