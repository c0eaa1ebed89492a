"""TIFF stacks, OME-TIFF, BigTIFF and ImageJ hyperstacks as volume sources."""

from __future__ import annotations

import math
import os
import struct
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import tifffile

from biosegment.errors import BiosegmentError, InvalidArgument
from biosegment.volume import Index, Region, VoxelSize
from biosegment_datastore.formats.scale import imagej_voxel_size, ome_voxel_size
from biosegment_datastore.formats.selection import Selection, select
from biosegment_datastore.formats.source import (
    MAX_PLANE_BYTES,
    SourceOptions,
    Voxels,
    check_image,
    slab_planes,
    unreadable,
)

_THREADS = min(8, os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class _Planes:
    """Which page holds which plane, and what of a page is the plane.

    Attributes:
        pages: The pages, one for each plane; None where planes lie raw, one after the other.
        numbers: Place of each plane's page among all pages of the series.
        offset: Of the first raw page in the file, in bytes.
        page_shape: Shape of a page as it is stored.
        pick: What to index a page with.
        is_transposed: Whether a page is stored x before y.
    """

    pages: Sequence[Any] | None
    numbers: Sequence[int]
    offset: int
    page_shape: tuple[int, ...]
    pick: tuple[int | slice, ...]
    is_transposed: bool

    @property
    def are_simple(self) -> bool:
        """Whether every page is one grey plane, stored as it is read."""
        return (
            not self.is_transposed
            and len(self.page_shape) == 2
            and all(isinstance(part, slice) for part in self.pick)
            and (self.pages is None or self.pages[0].keyframe.imagedepth == 1)
        )

    def plane(self, page: Voxels) -> Voxels:
        """The plane (y, x) in a decoded page."""
        plane = page.reshape(self.page_shape)[self.pick]
        return plane.T if self.is_transposed else plane


class TiffSource:
    """A `VolumeSource`; made by `open_source`. Pages that are not asked for are never decoded."""

    def __init__(
        self,
        file: tifffile.TiffFile,
        path: Path,
        selection: Selection,
        stored: np.dtype[Any],
        planes: _Planes,
    ) -> None:
        self._file, self._name, self._planes = file, path.name, planes
        self._raw = path.open("rb")
        self._lock = threading.RLock()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="tiff")
        self.format, self.voxel_size = _format_and_voxel_size(file)
        self.shape = selection.shape
        self.dtype: np.dtype[Any] = stored.newbyteorder("=")
        self.slab_planes = slab_planes(self.shape, self.dtype, 16)
        self._stored: np.dtype[Any] = stored.newbyteorder(file.byteorder)

    @property
    def region_rows(self) -> int:
        if self._planes.pages is None:
            return 1
        page = self._planes.pages[0].keyframe
        return int(page.tilelength if page.is_tiled else page.rowsperstrip)

    def read_slab(self, start: int, stop: int) -> Voxels:
        slab = np.empty((stop - start, self.shape.y, self.shape.x), self.dtype)
        self.read_into(Region(Index(start, 0, 0), Index(stop, self.shape.y, self.shape.x)), slab)
        return slab

    def read_into(self, region: Region, out: Voxels) -> None:
        planes, rows, columns = region.slices
        list(
            self._pool.map(
                lambda z: self._read_plane(z, rows, columns, out[z - planes.start]),
                range(planes.start, planes.stop),
            )
        )

    def _read_plane(self, z: int, rows: slice, columns: slice, out: Voxels) -> None:
        try:
            if not self._planes.are_simple:
                out[...] = self._whole_plane(z)[rows, columns]
            elif self._planes.pages is None:
                self._read_raw(z, rows, columns, out)
            else:
                self._decode(self._planes.pages[z], rows, columns, out)
        except BiosegmentError:
            raise
        except Exception as error:  # decoders raise whatever they like on damaged data
            raise unreadable(self._name, f"slice {z} does not decode ({error})") from error

    def _whole_plane(self, z: int) -> Voxels:
        if self._planes.pages is not None:
            return self._planes.plane(self._planes.pages[z].asarray(lock=self._lock, maxworkers=1))
        page = np.empty(math.prod(self._planes.page_shape), self._stored)
        self._fill(page, self._raw_offset(z))
        return self._planes.plane(page)

    def _read_raw(self, z: int, rows: slice, columns: slice, out: Voxels) -> None:
        offset = self._raw_offset(z) + rows.start * self.shape.x * self._stored.itemsize
        wide = (rows.stop - rows.start, self.shape.x)
        if out.shape == wide and out.flags.c_contiguous and self._stored.isnative:
            self._fill(out, offset)
            return
        stored = np.empty(wide, self._stored)
        self._fill(stored, offset)
        out[...] = stored[:, columns]

    def _raw_offset(self, z: int) -> int:
        size = math.prod(self._planes.page_shape) * self._stored.itemsize
        return self._planes.offset + self._planes.numbers[z] * size

    def _decode(self, page: Any, rows: slice, columns: slice, out: Voxels) -> None:
        """Decode the strips or tiles of a page that hold a part of it."""
        first = page.keyframe
        with self._lock:  # the first use builds the decoder
            decode = page.decode
        height = first.tilelength if first.is_tiled else first.rowsperstrip
        width = first.tilewidth if first.is_tiled else self.shape.x
        across = -(-self.shape.x // width)
        for row in range(rows.start // height, -(-rows.stop // height)):
            for column in range(columns.start // width, -(-columns.stop // width)):
                number = row * across + column
                stored = os.pread(self._raw.fileno(), page.databytecounts[number], page.dataoffsets[number])
                segment = decode(
                    stored or None, number, jpegtables=page.jpegtables, jpegheader=first.jpegheader
                )[0]
                top, left = row * height, column * width
                y = slice(max(rows.start, top), min(rows.stop, top + height))
                x = slice(max(columns.start, left), min(columns.stop, left + width))
                target = out[
                    y.start - rows.start : y.stop - rows.start,
                    x.start - columns.start : x.stop - columns.start,
                ]
                if segment is None:  # a segment that was left out
                    target[...] = first.nodata
                else:
                    target[...] = segment[0, y.start - top : y.stop - top, x.start - left : x.stop - left, 0]

    def _fill(self, data: Voxels, offset: int) -> None:
        view, done = data.reshape(-1).view(np.uint8).data, 0
        while done < len(view):
            count = os.preadv(self._raw.fileno(), [view[done:]], offset + done)
            if not count:
                raise unreadable(self._name, f"it ends at byte {offset + done}")
            done += count

    def close(self) -> None:
        self._pool.shutdown()
        self._file.close()
        self._raw.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def recognises(path: Path, head: bytes) -> bool:
    """Whether it begins as TIFF or BigTIFF of either byte order does."""
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def open_source(path: Path, options: SourceOptions) -> TiffSource:
    """Open the first image of a TIFF file: one channel and one time point of it.

    A single 2D image is a volume of one plane when `axes` is `yx`. Files that an OME-TIFF refers to are not followed:
    paths in a file from elsewhere are not trusted.

    Raises:
        InvalidArgument: TRUNCATED_FILE, UNREADABLE_FILE, BAD_DTYPE, IMAGE_TOO_LARGE, and what `select` raises.
    """
    check_directories(path)
    try:
        file = tifffile.TiffFile(path, _multifile=False)
    except Exception as error:  # the parser raises whatever it likes on damaged headers
        raise unreadable(path.name, error) from error
    try:
        return _open(file, path, options)
    except BiosegmentError:
        file.close()
        raise
    except Exception as error:
        file.close()
        raise unreadable(path.name, error) from error


def _open(file: tifffile.TiffFile, path: Path, options: SourceOptions) -> TiffSource:
    series = file.series[0]
    singles = _stack_of_single_pages(file)
    axes, shape = series.axes, tuple(map(int, series.shape))
    if singles is not None:
        axes, shape = "I" + axes, (len(singles), *shape)
    elif options.axes == "yx":
        axes, shape, options = "Z" + axes, (1, *shape), replace(options, axes="zyx")
    elif options.axes and len(options.axes) != len(shape):
        axes, shape = series.get_axes(squeeze=False), tuple(map(int, series.get_shape(squeeze=False)))
    selection = select(path.name, axes, shape, options)
    dtype = np.dtype(series.dtype)
    check_image(path.name, selection.shape, dtype, options.accepted)
    planes = _planes(path.name, series, singles, shape, selection)
    if math.prod(planes.page_shape) * dtype.itemsize > MAX_PLANE_BYTES:
        raise InvalidArgument(
            "IMAGE_TOO_LARGE",
            f"{path.name!r} claims pages of the shape {planes.page_shape}: too large to be decoded",
        )
    if planes.pages is None:
        page_bytes = math.prod(planes.page_shape) * dtype.itemsize
        _require_bytes(path, planes.offset + (max(planes.numbers) + 1) * page_bytes)
    else:
        for page in planes.pages:
            ends = map(sum, zip(page.dataoffsets, page.databytecounts, strict=True))
            _require_bytes(path, max(ends, default=0))
    return TiffSource(file, path, selection, dtype, planes)


def _planes(
    name: str, series: Any, singles: list[Any] | None, shape: tuple[int, ...], selection: Selection
) -> _Planes:
    """Where the planes of a selection are; pages hold the last axes of the series, two or three of them."""
    axes_in_page = len(series.keyframe.shape)
    leading = len(shape) - axes_in_page
    z, y, x = selection.order
    if z >= leading or min(y, x) < leading:
        raise InvalidArgument(
            "BAD_AXES",
            f"{name!r} keeps images of the shape {shape[leading:]}: only y, x and a channel can lie within one; write "
            "the file again with one image per slice",
        )
    index = [0 if number is None else number for number in selection.fixed[:leading]]
    numbers = []
    for plane in range(selection.shape.z):
        index[z] = plane
        numbers.append(int(np.ravel_multi_index(tuple(index), shape[:leading])))
    pages, offset = None, 0
    if singles is None and series.dataoffset is not None:
        # Raw planes one after the other; ImageJ writes stacks beyond 4 GB so, with one directory for all.
        offset = int(series.dataoffset)
    else:
        held = list(series.pages) if singles is None else singles
        pages = [held[number] if number < len(held) else None for number in numbers]
        if any(page is None for page in pages):
            raise InvalidArgument(
                "TRUNCATED_FILE",
                f"{name!r} describes {len(numbers)} slices but does not hold them all: import a complete file",
            )
    pick = tuple(slice(None) if number is None else number for number in selection.fixed[leading:])
    return _Planes(pages, numbers, offset, shape[leading:], pick, is_transposed=x < y)


def _stack_of_single_pages(file: tifffile.TiffFile) -> list[Any] | None:
    """Pages that were appended one by one, each a series of its own, when they are alike."""
    if file.is_ome or file.is_imagej or len(file.series) < 2:
        return None
    first = file.series[0]
    alike = all(
        one.axes in ("YX", "YXS", "SYX")
        and (one.axes, one.shape, one.dtype) == (first.axes, first.shape, first.dtype)
        for one in file.series
    )
    return [one.pages[0] for one in file.series] if alike else None


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
