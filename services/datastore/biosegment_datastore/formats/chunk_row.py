"""Chunked arrays read plane by plane, every chunk decoded once, however deep the chunks and wide the planes are."""

from __future__ import annotations

import errno
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from biosegment.errors import InvalidArgument, ResourceExhausted
from biosegment.volume import Index, VoxelSize
from biosegment_datastore.formats.array import ArraySource
from biosegment_datastore.formats.selection import Selection
from biosegment_datastore.formats.source import SLAB_BYTES, SourceOptions, Voxels, check_image

HELD_BYTES = 192 << 20
"""A row of chunks up to this size is kept in memory, a larger one in a scratch file."""

MAX_CHUNK_BYTES = 1 << 30
"""A chunk is decoded as a whole."""

_Box = tuple[slice, slice, slice]


class ChunkRows:
    """A zyx array over the part of a chunked array that a selection names.

    A row is all that the chunks of one depth hold. Rows that are read at once anyway are not kept.

    Args:
        name: Of the file, for messages.
        array: Indexed with integers and slices along the axes of the file.
        selection: Which part of it is the volume; may be smaller than the array, which is then cropped.
        chunks: Shape of a chunk along the axes of the file.
        scratch_dir: Where rows go that are too large for the memory.

    Raises:
        InvalidArgument: IMAGE_TOO_LARGE when one chunk is more than memory should hold.
    """

    def __init__(
        self, name: str, array: Any, selection: Selection, chunks: Sequence[int], scratch_dir: Path
    ) -> None:
        self._array, self._selection, self._scratch_dir = array, selection, scratch_dir
        self.shape = selection.shape
        self.dtype: np.dtype[Any] = np.dtype(array.dtype)
        if math.prod(chunks) * self.dtype.itemsize > MAX_CHUNK_BYTES:
            raise InvalidArgument(
                "IMAGE_TOO_LARGE",
                f"{name!r} has chunks of {tuple(chunks)} {self.dtype.name} voxels, more than {MAX_CHUNK_BYTES} bytes: "
                "write it with smaller chunks",
            )
        self.chunk = Index(
            *(min(chunks[axis], size) for axis, size in zip(selection.order, self.shape, strict=True))
        )
        self._row_number = -1
        self._row: _HeldRow | _SpooledRow | None = None

    @property
    def row_bytes(self) -> int:
        """Bytes of a whole row of chunks."""
        return self.chunk.z * self.shape.y * self.shape.x * self.dtype.itemsize

    def __getitem__(self, index: tuple[slice, ...]) -> Voxels:
        """Planes `index[0]`; of parts of planes no row is kept, for they are too large then."""
        start, stop = index[0].start, index[0].stop
        if any(part.stop - part.start < size for part, size in zip(index[1:], self.shape[1:], strict=True)):
            return self._read((index[0], index[1], index[2]))
        if self.row_bytes <= SLAB_BYTES:
            return self._read((slice(start, stop), slice(0, self.shape.y), slice(0, self.shape.x)))
        parts = []
        while start < stop:
            first = start // self.chunk.z * self.chunk.z
            end = min(stop, first + self.chunk.z)
            parts.append(self._load(first).planes(start - first, end - first))
            start = end
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def close(self) -> None:
        """Drop the row that is kept."""
        row, self._row, self._row_number = self._row, None, -1
        if row is not None:
            row.close()

    def _load(self, first: int) -> _HeldRow | _SpooledRow:
        if self._row is None or self._row_number != first:
            self.close()
            depth = slice(first, min(first + self.chunk.z, self.shape.z))
            if self.row_bytes <= HELD_BYTES:
                whole = (depth, slice(0, self.shape.y), slice(0, self.shape.x))
                self._row = _HeldRow(self._read(whole))
            else:
                self._row = self._spooled(depth)
            self._row_number = first
        return self._row

    def _spooled(self, depth: slice) -> _SpooledRow:
        file = tempfile.TemporaryFile(prefix="chunks-", dir=self._scratch_dir)
        row = _SpooledRow(file, Index(depth.stop - depth.start, self.shape.y, self.shape.x), self.dtype)
        try:
            for box in _boxes(depth, self.shape, self.chunk, self.dtype.itemsize):
                row.add(box, self._read(box))
        except OSError as error:
            row.close()
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise ResourceExhausted(
                "DISK_FULL",
                f"no room for {self.row_bytes} bytes in the scratch folder: the file's chunks are {self.chunk.z} "
                "planes deep; make room and try again",
            ) from error
        except BaseException:
            row.close()
            raise
        return row

    def _read(self, box: _Box) -> Voxels:
        index: list[int | slice] = [0 if number is None else number for number in self._selection.fixed]
        for axis, edge in zip(self._selection.order, box, strict=True):
            index[axis] = edge
        part = np.asarray(self._array[tuple(index)])
        return np.ascontiguousarray(
            part.transpose(self._selection.transposition), self.dtype.newbyteorder("=")
        )


class _HeldRow:
    def __init__(self, voxels: Voxels) -> None:
        self._voxels = voxels

    def planes(self, start: int, stop: int) -> Voxels:
        return self._voxels[start:stop]

    def close(self) -> None:
        """Nothing is open."""


class _SpooledRow:
    """Boxes one after the other in a file, each with its planes one after the other."""

    def __init__(self, file: IO[bytes], shape: Index, dtype: np.dtype[Any]) -> None:
        self._file, self._shape, self._dtype = file, shape, dtype.newbyteorder("=")
        self._boxes: list[tuple[int, slice, slice]] = []

    def add(self, box: _Box, voxels: Voxels) -> None:
        self._boxes.append((self._file.tell(), box[1], box[2]))
        self._file.write(voxels.data)
        self._file.flush()

    def planes(self, start: int, stop: int) -> Voxels:
        out = np.empty((stop - start, self._shape.y, self._shape.x), self._dtype)
        for offset, y, x in self._boxes:
            rows, columns = y.stop - y.start, x.stop - x.start
            self._file.seek(offset + start * rows * columns * self._dtype.itemsize)
            piece = np.fromfile(self._file, self._dtype, (stop - start) * rows * columns)
            out[:, y, x] = piece.reshape(stop - start, rows, columns)
        return out

    def close(self) -> None:
        self._file.close()


def _boxes(depth: slice, shape: Index, chunk: Index, itemsize: int) -> Iterator[_Box]:
    """Whole chunks, as many together as `SLAB_BYTES` hold, along x before y."""
    voxels = SLAB_BYTES // itemsize // chunk.z
    columns = max(chunk.x, voxels // chunk.y // chunk.x * chunk.x)
    rows = max(chunk.y, voxels // min(columns, shape.x) // chunk.y * chunk.y)
    for y in range(0, shape.y, rows):
        for x in range(0, shape.x, columns):
            yield depth, slice(y, min(y + rows, shape.y)), slice(x, min(x + columns, shape.x))


def chunked_source(
    name: str,
    format: str,
    array: Any,
    selection: Selection,
    chunks: Sequence[int],
    voxel_size: VoxelSize | None,
    options: SourceOptions,
    close: Callable[[], object] = lambda: None,
) -> ArraySource:
    """A `VolumeSource` over an array that is stored in chunks; arguments as of `ChunkRows` and `ArraySource`.

    Raises:
        InvalidArgument: BAD_DTYPE, IMAGE_TOO_LARGE; `close` is not called then.
    """
    # Asked first: what has no size cannot be multiplied either.
    check_image(name, selection.shape, np.dtype(array.dtype).newbyteorder("="), options.accepted)
    rows = ChunkRows(name, array, selection, chunks, options.scratch_dir)

    def close_all() -> None:
        rows.close()
        close()

    whole = Selection((None, None, None), (0, 1, 2), selection.shape)
    # Whole rows, several of them when they are thin; rows beyond the size of a slab are kept by `ChunkRows`.
    planes = rows.chunk.z * max(1, min(16 // rows.chunk.z, SLAB_BYTES // rows.row_bytes))
    return ArraySource(name, format, rows, whole, voxel_size, options, planes, close_all)
