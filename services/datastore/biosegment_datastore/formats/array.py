"""A volume source over anything that can be indexed like an array: a memory map, an HDF5 data set ..."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np

from biosegment.errors import BiosegmentError
from biosegment.volume import Index, Region, VoxelSize
from biosegment_datastore.formats.selection import Selection
from biosegment_datastore.formats.source import SourceOptions, Voxels, check_image, slab_planes, unreadable


class ArraySource:
    """A `VolumeSource`.

    Args:
        name: Of the file, for messages.
        format: For people.
        array: Indexed with integers and slices, gives something that NumPy can turn into an array.
        selection: Which part of it is the volume.
        voxel_size: As the file says.
        options: Says which dtypes are accepted.
        planes: How many planes are best read at a time; whole chunks, so that none is decoded twice.
        close: Called when the source is closed.

    Raises:
        InvalidArgument: BAD_DTYPE, IMAGE_TOO_LARGE.
    """

    def __init__(
        self,
        name: str,
        format: str,
        array: Any,
        selection: Selection,
        voxel_size: VoxelSize | None,
        options: SourceOptions,
        planes: int = 16,
        close: Callable[[], object] | None = None,
    ) -> None:
        self._name, self._array, self._selection, self._close = name, array, selection, close
        self.format, self.voxel_size, self.shape = format, voxel_size, selection.shape
        self.dtype: np.dtype[Any] = np.dtype(array.dtype).newbyteorder("=")
        check_image(name, self.shape, self.dtype, options.accepted)
        self.slab_planes = slab_planes(self.shape, self.dtype, planes)

    def read_slab(self, start: int, stop: int) -> Voxels:
        return self._read(Region(Index(start, 0, 0), Index(stop, self.shape.y, self.shape.x)))

    @property
    def region_rows(self) -> int:
        return 1

    def read_into(self, region: Region, out: Voxels) -> None:
        out[...] = self._read(region)

    def _read(self, region: Region) -> Voxels:
        try:
            part = np.asarray(self._array[self._selection.index_of(region)])
            if part.dtype.byteorder not in "=|":
                part = part.astype(self.dtype)
            return np.ascontiguousarray(part.transpose(self._selection.transposition), self.dtype)
        except (BiosegmentError, MemoryError):
            raise
        except Exception as error:  # decoders raise whatever they like on damaged data
            planes = region.slices[0]
            raise unreadable(
                self._name, f"slices {planes.start} to {planes.stop} do not decode ({error})"
            ) from error

    def close(self) -> None:
        if self._close is not None:
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
