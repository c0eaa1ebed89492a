"""TIFF stacks, OME-TIFF, BigTIFF and ImageJ hyperstacks as volume sources."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import numpy as np
import tifffile

from biosegment.errors import BiosegmentError, InvalidArgument
from biosegment.volume import Index, VoxelSize
from biosegment_datastore.formats.scale import imagej_voxel_size, ome_voxel_size
from biosegment_datastore.formats.source import SourceOptions, Voxels, check_image, slab_planes, unreadable

_THREADS = min(8, os.cpu_count() or 1)

# What a stack's first axis may be called: depth, or nothing in particular. A time axis counts as depth, for
# ImageJ saves many a stack that way and electron microscopy of volumes has no time.
_DEPTH_AXES = "ZTIQ"


class TiffSource:
    """A `VolumeSource`; made by `open_source`."""

    def __init__(
        self, file: tifffile.TiffFile, name: str, shape: Index, pages: Sequence[Any] | None, offset: int
    ) -> None:
        """Read from `pages`, one plane each, or without pages from raw planes that begin at byte `offset`."""
        self._file, self._name, self._pages, self._offset = file, name, pages, offset
        self._lock = threading.RLock()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="tiff")
        self.format, self.voxel_size = _format_and_voxel_size(file)
        self.shape = shape
        self.slab_planes = slab_planes(shape, np.dtype(file.series[0].dtype), 16)
        stored = np.dtype(file.series[0].dtype)
        self.dtype: np.dtype[Any] = stored.newbyteorder("=")
        self._stored: np.dtype[Any] = stored.newbyteorder(file.byteorder)

    def read_slab(self, start: int, stop: int) -> Voxels:
        slab = np.empty((stop - start, self.shape.y, self.shape.x), self.dtype)
        list(self._pool.map(lambda z: self._read_plane(z, slab[z - start]), range(start, stop)))
        return slab

    def _read_plane(self, z: int, out: Voxels) -> None:
        try:
            if self._pages is not None:
                plane = self._pages[z].asarray(lock=self._lock, maxworkers=1)
            else:
                plane = self._raw_plane(z, out.nbytes)
            out[...] = plane.reshape(out.shape)
        except BiosegmentError:
            raise
        except Exception as error:  # decoders raise whatever they like on damaged data
            raise unreadable(self._name, f"slice {z} does not decode ({error})") from error

    def _raw_plane(self, z: int, size: int) -> Voxels:
        with self._lock:
            self._file.filehandle.seek(self._offset + z * size)
            return np.frombuffer(self._file.filehandle.read(size), self._stored)

    def close(self) -> None:
        self._pool.shutdown()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def recognises(path: Path, head: bytes) -> bool:
    """Whether it begins as TIFF or BigTIFF of either byte order does."""
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def open_source(path: Path, options: SourceOptions) -> TiffSource:
    """Open a TIFF file that holds one 3D grey-value image.

    Files that an OME-TIFF refers to are not followed: paths in a file from elsewhere are not trusted.

    Raises:
        InvalidArgument: TRUNCATED_FILE, UNREADABLE_FILE, NOT_A_VOLUME, BAD_DTYPE or IMAGE_TOO_LARGE.
    """
    check_directories(path)
    try:
        file = tifffile.TiffFile(path, _multifile=False)
    except Exception as error:  # the parser raises whatever it likes on damaged headers
        raise unreadable(path.name, error) from error
    try:
        return _open(file, path)
    except BiosegmentError:
        file.close()
        raise
    except Exception as error:
        file.close()
        raise unreadable(path.name, error) from error


def _open(file: tifffile.TiffFile, path: Path) -> TiffSource:
    series = file.series[0]
    pages = _stack_of_single_pages(file)
    if pages is None:
        _require_volume(path.name, series.axes, series.shape)
    height, width = series.shape[series.axes.index("Y")], series.shape[series.axes.index("X")]
    depth = len(pages) if pages is not None else int(np.prod(series.shape)) // max(1, height * width)
    dtype = np.dtype(series.dtype)
    shape = Index(depth, height, width)
    check_image(path.name, shape, dtype)
    if pages is None and series.dataoffset is not None:
        # Raw planes one after the other; ImageJ writes stacks beyond 4 GB so, with one directory for all.
        _require_bytes(path, series.dataoffset + depth * height * width * dtype.itemsize)
        return TiffSource(file, path.name, shape, None, series.dataoffset)
    pages = list(series.pages) if pages is None else pages
    if len(pages) != depth or any(page is None for page in pages):
        raise InvalidArgument(
            "TRUNCATED_FILE",
            f"{path.name!r} describes {depth} slices but does not hold them all: import a complete file",
        )
    for page in pages:
        ends = map(sum, zip(page.dataoffsets, page.databytecounts, strict=True))
        _require_bytes(path, max(ends, default=0))
    return TiffSource(file, path.name, shape, pages, 0)


def _stack_of_single_pages(file: tifffile.TiffFile) -> list[Any] | None:
    """Pages that were appended one by one, each a series of its own, when they are alike."""
    if file.is_ome or file.is_imagej or len(file.series) < 2:
        return None
    first = file.series[0]
    alike = all(
        one.axes == "YX" and one.shape == first.shape and one.dtype == first.dtype for one in file.series
    )
    return [one.pages[0] for one in file.series] if alike else None


def _require_volume(name: str, axes: str, shape: tuple[int, ...]) -> None:
    long = "".join(axis for axis, size in zip(axes, shape, strict=True) if size > 1 or axis in "YX")
    if "S" in long:
        why = f"has {shape[axes.index('S')]} samples per pixel (a colour image)"
    elif long == "YX":
        why = "is one 2D image"
    elif len(long) == 3 and long[0] in _DEPTH_AXES and long[1:] == "YX":
        return
    else:
        why = f"has the axes {axes} of shape {tuple(shape)}"
    raise InvalidArgument(
        "NOT_A_VOLUME",
        f"{name!r} {why}: a volume needs grey values in z, y and x, with two slices or more",
    )


def _require_bytes(path: Path, needed: int) -> None:
    size = path.stat().st_size
    if needed > size:
        raise InvalidArgument(
            "TRUNCATED_FILE",
            f"{path.name!r} ends after {size} of {needed} bytes: copy it again",
        )


def _format_and_voxel_size(file: tifffile.TiffFile) -> tuple[str, VoxelSize | None]:
    kind, voxel_size = "TIFF", None
    if file.is_ome:
        kind, voxel_size = "OME-TIFF", ome_voxel_size(file.ome_metadata or "")
    elif file.is_imagej:
        tags = file.pages.first.tags
        resolution = [tags.valueof(name) for name in ("YResolution", "XResolution")]
        kind, voxel_size = "ImageJ TIFF", imagej_voxel_size(file.imagej_metadata or {}, *resolution)
    return ("Big" + kind if file.is_bigtiff and kind == "TIFF" else kind), voxel_size


def check_directories(path: Path) -> None:
    """Follow the chain of image directories to its end: the parser takes a broken chain for a shorter stack.

    Raises:
        InvalidArgument: TRUNCATED_FILE or UNREADABLE_FILE.
    """
    size = path.stat().st_size
    with path.open("rb") as file:

        def number(code: str) -> int:
            width = struct.calcsize(code)
            _require_bytes(path, file.tell() + width)
            return int(struct.unpack(order + code, file.read(width))[0])

        header = file.read(4)
        if len(header) < 4:
            _require_bytes(path, 8)
        order = "<" if header[:2] == b"II" else ">"
        big = header[2:] in (b"+\0", b"\0+")
        if big:
            number("I")
        count, pointer, entry = ("Q", "Q", 20) if big else ("H", "I", 12)
        seen: set[int] = set()
        place = number(pointer)
        while place:
            if place in seen:
                raise unreadable(path.name, "its image directories form a circle")
            seen.add(place)
            _require_bytes(path, place)
            file.seek(place)
            entries = number(count)
            _require_bytes(path, min(place + entries * entry, 2 * size + 1))
            file.seek(entries * entry, os.SEEK_CUR)
            place = number(pointer)
        if not seen:
            raise unreadable(path.name, "it holds no image")
