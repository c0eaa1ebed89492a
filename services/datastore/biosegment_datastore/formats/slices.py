"""A folder or a zip file of TIFF, PNG or JPEG slices as a volume source; the zip file is never unpacked."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Self
from zipfile import ZipExtFile

import numpy as np

from biosegment.errors import BiosegmentError, InvalidArgument
from biosegment.volume import VoxelSize
from biosegment_datastore.formats.selection import select
from biosegment_datastore.formats.slice_folder import Folder, SliceFiles, Zip, natural_order, require_complete
from biosegment_datastore.formats.slice_image import SliceHeader, kind_of, read_header, read_slice
from biosegment_datastore.formats.source import SourceOptions, Voxels, check_image, slab_planes, unreadable

_THREADS = min(8, os.cpu_count() or 1)
_SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg")
_ZIP_MAGIC = b"PK\x03\x04"
_MARGIN_BYTES = 16 << 20


class SlicesSource:
    """A `VolumeSource`; made by `open_source`. A slab reads its own slices only, several at a time."""

    voxel_size: VoxelSize | None = None

    def __init__(
        self, files: SliceFiles, names: list[str], kind: str, first: SliceHeader, options: SourceOptions
    ) -> None:
        self._files, self._names, self._first = files, names, first
        axes = "zyxs"[: 1 + len(first.shape)]
        selection = select(files.name, axes, (len(names), *first.shape), options)
        self._pick, self._is_transposed = selection.fixed[1:], selection.order[2] < selection.order[1]
        if selection.order[0] != 0:
            raise InvalidArgument("BAD_AXES", f"{files.name!r} is a folder of slices: its first axis is z")
        self.format, self.shape, self.dtype = f"{kind} slices", selection.shape, first.dtype
        check_image(files.name, self.shape, self.dtype, options.accepted)
        self.slab_planes = slab_planes(self.shape, self.dtype, 16)
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="slices")

    def check_all(self) -> None:
        """Look at the header of every slice; InvalidArgument SLICES_DIFFER and what damaged files cause."""
        list(self._pool.map(self._check, self._names))

    def _check(self, name: str) -> None:
        with _opened(self._files, name) as file:
            self._same(name, read_header(f"{self._files.name}/{name}", file))

    def _same(self, name: str, header: SliceHeader) -> None:
        if header != self._first:
            raise InvalidArgument(
                "SLICES_DIFFER",
                f"slice {name!r} of {self._files.name!r} is {header}, but the first one, {self._names[0]!r}, is "
                f"{self._first}: they must be the same",
            )

    def read_slab(self, start: int, stop: int) -> Voxels:
        slab = np.empty((stop - start, self.shape.y, self.shape.x), self.dtype)
        list(self._pool.map(lambda z: self._read_slice(z, slab[z - start]), range(start, stop)))
        return slab

    def _read_slice(self, z: int, out: Voxels) -> None:
        name = self._names[z]
        with _opened(self._files, name) as file:
            seekable = _seekable(file, _MARGIN_BYTES + 2 * self._first.size_bytes)
            voxels = read_slice(
                f"{self._files.name}/{name}", seekable, lambda header: self._same(name, header)
            )
        plane = voxels[tuple(slice(None) if number is None else number for number in self._pick)]
        out[...] = plane.T if self._is_transposed else plane

    def close(self) -> None:
        self._pool.shutdown()
        self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


@contextmanager
def _opened(files: SliceFiles, name: str) -> Iterator[BinaryIO]:
    with files.open(name) as file:
        try:
            yield file
        except (BiosegmentError, MemoryError):
            raise
        except Exception as error:  # archives fail to unpack in many ways
            raise unreadable(f"{files.name}/{name}", f"it does not unpack ({error})") from error


def _seekable(file: BinaryIO, limit: int) -> BinaryIO:
    """Files of archives as a whole: they would be unpacked again from the beginning when a decoder seeks back."""
    if not isinstance(file, ZipExtFile):
        return file
    data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"it unpacks to more than {limit} bytes, far more than its image needs")
    return BytesIO(data)


def recognises(path: Path, head: bytes) -> bool:
    """Whether it is a folder or begins as a zip file does; asked after the readers of other folders."""
    return path.is_dir() or head.startswith(_ZIP_MAGIC)


def open_source(path: Path, options: SourceOptions) -> SlicesSource:
    """Open a folder or zip file of slices in natural order.

    Raises:
        InvalidArgument: UNKNOWN_FORMAT without slices; MIXED_SLICES, SLICE_MISSING, SLICE_TWICE, SLICES_DIFFER,
            NOT_A_SLICE, UNSAFE_LINK, UNSAFE_ARCHIVE, SEVERAL_FOLDERS, UNREADABLE_FILE, BAD_DTYPE, IMAGE_TOO_LARGE, and
            what `select` raises.
    """
    files: SliceFiles = Folder(path) if path.is_dir() else Zip(path)
    try:
        return _open(files, options, headers_are_cheap=isinstance(files, Folder))
    except BaseException:
        files.close()
        raise


def _open(files: SliceFiles, options: SourceOptions, headers_are_cheap: bool) -> SlicesSource:
    kinds = _kinds(files)
    if not kinds:
        raise InvalidArgument(
            "UNKNOWN_FORMAT",
            f"{files.name!r} holds no TIFF, PNG or JPEG slices, and is in no other format that is known here",
        )
    counts = Counter(kinds.values())
    if len(counts) > 1:
        what = ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
        raise InvalidArgument(
            "MIXED_SLICES",
            f"{files.name!r} holds {what} files: slices of one volume are of one kind, remove the others",
        )
    names = natural_order(list(kinds))
    require_complete(files.name, names)
    with _opened(files, names[0]) as file:
        first = read_header(f"{files.name}/{names[0]}", file)
    _require_values(files.name, first, options)
    source = SlicesSource(files, names, next(iter(counts)), first, options)
    try:
        if headers_are_cheap:
            source.check_all()
    except BaseException:
        source.close()
        raise
    return source


def _kinds(files: SliceFiles) -> dict[str, str]:
    """Kind of every file that is an image, or that its name says is one."""
    kinds = {}
    for name in files.names():
        with _opened(files, name) as file:
            kind = kind_of(file.read(8))
        if kind:
            kinds[name] = kind
        elif name.lower().endswith(_SUFFIXES):
            raise unreadable(
                f"{files.name}/{name}", "it is no TIFF, PNG or JPEG image, whatever its name says"
            )
    return kinds


def _require_values(name: str, first: SliceHeader, options: SourceOptions) -> None:
    wants_labels = "bool" in options.accepted
    if wants_labels and first.kind == "JPEG":
        raise InvalidArgument(
            "BAD_DTYPE", f"{name!r} holds JPEG files, which do not keep label values: use PNG or TIFF"
        )
    if not wants_labels and first.kind == "palette PNG":
        raise InvalidArgument(
            "BAD_DTYPE", f"{name!r} holds PNG files with a palette of colours: save grey values"
        )
