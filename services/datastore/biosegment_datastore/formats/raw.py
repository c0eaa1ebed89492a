"""Arrays that lie in a file as they are: read where they are asked for, never as a whole."""

from __future__ import annotations

import errno
import math
import os
import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from biosegment.errors import BiosegmentError, InvalidArgument
from biosegment.volume import VoxelSize
from biosegment_datastore.formats.array import ArraySource
from biosegment_datastore.formats.compressed import truncated
from biosegment_datastore.formats.selection import select
from biosegment_datastore.formats.source import SourceOptions, Voxels, unreadable

# A block of at most so many bytes is read at once, even if only a part of it is wanted.
_BLOCK_BYTES: Final = 32 << 20

# Unless it is less than this share of blocks that are worth a read of their own.
_LEAST_SHARE: Final = 0.25
_PART_BYTES: Final = 64 << 10

_MAX_TEXT_BYTES: Final = 16 << 20


class RawArray:
    """An array in C order in a file, indexed like NumPy's with one integer or slice (of step 1) per axis.

    Not a memory map: mapping a terabyte would use up the address space that a worker process is given.

    Args:
        name: Of the file, for messages.
        file: Holds it; may be read by several threads at once.
        offset: Where it begins, in bytes.
        shape: Slowest axis first.
        stored: Type and byte order in the file.
        dtype: What `convert` makes of them; None: the stored type.
        convert: Turns stored voxels into others, exactly.

    Raises:
        InvalidArgument: UNREADABLE_FILE for an impossible shape, TRUNCATED_FILE when the file is too short for it.
    """

    def __init__(
        self,
        name: str,
        file: BinaryIO,
        offset: int,
        shape: Sequence[int],
        stored: np.dtype[Any],
        dtype: np.dtype[Any] | None = None,
        convert: Callable[[Voxels], Voxels] | None = None,
    ) -> None:
        require_shape(name, shape)
        self.shape = tuple(int(size) for size in shape)
        self.dtype = np.dtype(dtype or stored)
        self._name, self._file, self._offset = name, file, offset
        self._stored, self._convert = stored, convert
        size = os.fstat(file.fileno()).st_size
        needed = offset + math.prod(self.shape) * stored.itemsize
        if needed > size:
            raise truncated(name, f"it ends after {size} of {needed} bytes")

    def __getitem__(self, key: tuple[int | slice, ...]) -> Voxels:
        exact = tuple(
            slice(*one.indices(size)) if isinstance(one, slice) else one
            for one, size in zip(key, self.shape, strict=True)
        )
        voxels = self._part(exact, 0, self._offset)
        return self._convert(voxels) if self._convert else voxels

    def _part(self, key: tuple[int | slice, ...], axis: int, offset: int) -> Voxels:
        """What `key` chooses of the sub-array of the axes from `axis` on that begins at `offset`."""
        if axis == len(self.shape):
            return self._contiguous(offset, ())
        chosen, inner = key[axis], self.shape[axis + 1 :]
        stride = math.prod(inner) * self._stored.itemsize
        if not isinstance(chosen, slice):
            return self._part(key, axis + 1, offset + chosen * stride)
        count, share = chosen.stop - chosen.start, self._share(key, axis + 1)
        wasteful = share < _LEAST_SHARE and stride >= _PART_BYTES
        if share == 1 or (count * stride <= _BLOCK_BYTES and not wasteful):
            block = self._contiguous(offset + chosen.start * stride, (count, *inner))
            return block[(slice(None), *key[axis + 1 :])]
        places = range(chosen.start, chosen.stop)
        parts = [self._part(key, axis + 1, offset + place * stride) for place in places]
        return np.stack(parts, dtype=self._stored)

    def _share(self, key: tuple[int | slice, ...], axis: int) -> float:
        """How much of the axes from `axis` on is wanted."""
        wanted = [one.stop - one.start if isinstance(one, slice) else 1 for one in key[axis:]]
        return math.prod(wanted) / math.prod(self.shape[axis:])

    def _contiguous(self, offset: int, shape: tuple[int, ...]) -> Voxels:
        voxels = np.empty(shape, self._stored)
        view = voxels.reshape(-1).view(np.uint8).data
        while view:
            count = os.preadv(self._file.fileno(), [view], offset)
            if not count:
                raise truncated(self._name, f"it ends at byte {offset} now")
            view, offset = view[count:], offset + count
        return voxels


class Opening:
    """A file that is being opened: what has to be closed again, and how to make a source of an array in it."""

    def __init__(self, path: Path, options: SourceOptions) -> None:
        self.path, self.name, self.options = path, path.name, options
        self.resources = ExitStack()
        self.file = self.open(path)

    def open(self, path: Path) -> BinaryIO:
        """Open a file that is closed with the source."""
        return self.resources.enter_context(path.open("rb"))

    def source(self, format: str, axes: str, array: Any, voxel_size: VoxelSize | None) -> ArraySource:
        """A source that owns what was opened; arguments and errors as those of `select` and `ArraySource`."""
        selection = select(self.name, axes, array.shape, self.options)
        # Where planes do not follow each other in the file, every read passes over much of it: read rarely.
        planes = 16 if selection.order[0] == min(selection.order) else selection.shape.z
        return ArraySource(
            self.name, format, array, selection, voxel_size, self.options, planes, self.resources.close
        )


def open_with(read: Callable[[Opening], ArraySource], path: Path, options: SourceOptions) -> ArraySource:
    """Open a file with a parser that may fail in any way; then nothing stays open.

    Raises:
        InvalidArgument: UNREADABLE_FILE, or what the parser raises.
    """
    try:
        opening = Opening(path, options)
    except OSError as error:
        raise unreadable(path.name, error.strerror) from error
    try:
        return read(opening)
    except (BiosegmentError, MemoryError):
        opening.resources.close()
        raise
    except Exception as error:  # parsers raise whatever they like on damaged headers
        opening.resources.close()
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise unreadable(path.name, f"its header is damaged ({error})") from error


def require_shape(name: str, shape: Sequence[int]) -> None:
    """Refuse an axis without voxels.

    Raises:
        InvalidArgument: UNREADABLE_FILE.
    """
    if any(size < 1 for size in shape):
        raise unreadable(name, f"its header says the shape {tuple(shape)}, and every axis needs a voxel")


def read_exactly(name: str, file: BinaryIO, size: int) -> bytes:
    """The next `size` bytes, few.

    Raises:
        InvalidArgument: TRUNCATED_FILE.
    """
    data = file.read(size)
    if len(data) < size:
        raise truncated(name, f"it ends after {file.tell()} bytes, inside of its header")
    return data


def neighbour(path: Path, other: str) -> Path:
    """A file that a header refers to: in the same folder, and nowhere else.

    Raises:
        InvalidArgument: UNREADABLE_FILE.
    """
    place = path.parent / other
    if not re.fullmatch(r"[^/\\\0]+", other) or other in (".", ".."):
        raise unreadable(path.name, f"it refers to {other!r}: only a file in the same folder is read")
    if not place.is_file():
        raise unreadable(path.name, f"its data file {other!r} is not beside it")
    if place.resolve().parent != path.resolve().parent:
        raise unreadable(path.name, f"its data file {other!r} is a link out of its folder")
    return place


def text_voxels(name: str, file: BinaryIO, shape: Sequence[int], dtype: np.dtype[Any]) -> Voxels:
    """Voxels written as numbers, from where `file` is to its end or as many as the shape needs.

    Raises:
        InvalidArgument: IMAGE_TOO_LARGE, TRUNCATED_FILE or UNREADABLE_FILE.
    """
    require_shape(name, shape)
    count = math.prod(shape)
    text = file.read(_MAX_TEXT_BYTES + 1)
    if len(text) > _MAX_TEXT_BYTES:
        raise InvalidArgument(
            "IMAGE_TOO_LARGE",
            f"{name!r} holds its voxels as more than {_MAX_TEXT_BYTES} bytes of text; save it in binary form",
        )
    if count > len(text):
        raise truncated(name, f"it has {len(text)} bytes of text for {count} numbers")
    words = text.split(maxsplit=count)[:count]
    if len(words) < count:
        raise truncated(name, f"it holds {len(words)} of {count} numbers")
    try:
        if dtype.kind == "f":
            with np.errstate(over="ignore"):
                return np.array([float(word) for word in words]).astype(dtype).reshape(shape)
        numbers = np.array([int(word) for word in words], object)
        limits = np.iinfo(dtype)
        if numbers.min() < limits.min or numbers.max() > limits.max:
            raise ValueError(f"a number is out of the range of {dtype.name}")
        return numbers.astype(dtype).reshape(shape)
    except (ValueError, OverflowError) as error:
        raise unreadable(
            name, f"its text holds something else than {dtype.name} numbers ({error})"
        ) from error
