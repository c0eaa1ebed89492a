"""Planes that can only be decoded whole, kept in a file while pieces of them are read."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import IO, Any, Self

import numpy as np

from biosegment.volume import Region
from biosegment_datastore.formats.source import VolumeSource, Voxels, read_into


class SpooledPlanes:
    """Reads pieces of a source.

    Args:
        source: The image.
        is_needed: Keep the planes of a row of pieces in a file, so that each is decoded once.
        scratch_dir: Where the file is.
    """

    def __init__(self, source: VolumeSource, is_needed: bool, scratch_dir: Path) -> None:
        self._source, self._is_needed, self._scratch_dir = source, is_needed, scratch_dir
        self._file: IO[bytes] | None = None
        self._planes = (0, 0)

    def read_into(self, region: Region, out: Voxels) -> None:
        """Read a region; the planes of the last ones are kept."""
        if not self._is_needed:
            read_into(self._source, region, out)
            return
        if self._planes != (region.start.z, region.stop.z):
            self._fill(region.start.z, region.stop.z)
        for z in range(region.start.z, region.stop.z):
            out[z - region.start.z] = self._rows(z, region)

    def close(self) -> None:
        """Give the room back."""
        if self._file is not None:
            self._file.close()
        self._file, self._planes = None, (0, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _fill(self, start: int, stop: int) -> None:
        self.close()
        self._file = tempfile.TemporaryFile(prefix="planes-", dir=self._scratch_dir)
        for z in range(start, stop):
            self._file.write(self._source.read_slab(z, z + 1).data)
        self._file.flush()
        self._planes = (start, stop)

    def _rows(self, z: int, region: Region) -> np.ndarray[Any, np.dtype[Any]]:
        assert self._file is not None
        height, width, dtype = self._source.shape.y, self._source.shape.x, self._source.dtype
        first = ((z - self._planes[0]) * height + region.start.y) * width
        rows = region.stop.y - region.start.y
        self._file.seek(first * dtype.itemsize)
        part = np.fromfile(self._file, dtype, rows * width).reshape(rows, width)
        return part[:, region.start.x : region.stop.x]
