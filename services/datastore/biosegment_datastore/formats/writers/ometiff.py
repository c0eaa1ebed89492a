"""OME-TIFF: zlib, BigTIFF when it may need it."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tifffile

from biosegment.volume import Index, Region
from biosegment_datastore.formats.writers.target import (
    ExportFrame,
    ExportSource,
    Progress,
    Voxels,
    little_endian,
    runs,
)

BIG_TIFF_BYTES = 3 << 30
MAX_PLANE_BYTES = 32 << 20
"""Larger planes are cut into strips: nobody should need one as a whole in memory."""

STRIP_ROWS = 128
"""The edge of a chunk of the store."""

_ZLIB_LEVEL = 6


def write(path: Path, source: ExportSource, frame: ExportFrame, progress: Progress) -> None:
    """Write an OME-TIFF with the voxel size in nm, and the names of classes as a map annotation.

    Raises:
        OSError: The disk is full, among others.
    """
    metadata: dict[str, Any] = {"axes": "ZYX", "Name": frame.name, "Description": frame.description}
    for axis, size in zip("ZYX", frame.voxel_size, strict=True):
        metadata[f"PhysicalSize{axis}"] = size
        metadata[f"PhysicalSize{axis}Unit"] = "nm"
    if frame.classes:
        names = {str(each.value): each.name for each in frame.classes}
        colors = {str(each.value): f"#{each.color_rgb:06x}" for each in frame.classes}
        metadata["MapAnnotation"] = [
            {"Namespace": "biosegment/classes", **names},
            {"Namespace": "biosegment/colors", **colors},
        ]
    is_big = frame.region.size * source.dtype.itemsize > BIG_TIFF_BYTES
    with tifffile.TiffWriter(path, bigtiff=is_big, byteorder="<", ome=True) as writer:
        writer.write(
            compression="zlib",
            compressionargs={"level": _ZLIB_LEVEL},
            maxworkers=2,
            metadata=metadata,
            **page_options(source, frame, progress, is_packed=True),
        )


def page_options(
    source: ExportSource, frame: ExportFrame, progress: Progress, is_packed: bool
) -> dict[str, Any]:
    """What `TiffWriter.write` is told about the voxels: planes, or strips where a plane is large."""
    options: dict[str, Any] = {
        "shape": tuple(frame.shape),
        "dtype": source.dtype,
        "photometric": "minisblack",
    }
    if frame.shape.y * frame.shape.x * source.dtype.itemsize > MAX_PLANE_BYTES:
        strips = _strips(source, frame, is_packed, progress)
        return {**options, "data": strips, "rowsperstrip": STRIP_ROWS}
    return {**options, "data": _planes(source, frame, progress)}


def _planes(source: ExportSource, frame: ExportFrame, progress: Progress) -> Iterator[Voxels]:
    # Planes of this size are never cut.
    for slab in runs(source, frame, progress):
        yield from slab


def _strips(source: ExportSource, frame: ExportFrame, is_packed: bool, progress: Progress) -> Iterator[bytes]:
    """Strips as they are in the file."""
    start, stop = frame.region.start, frame.region.stop
    kind = little_endian(source.dtype)
    for z in range(start.z, stop.z):
        progress(z + 1 - start.z, frame.shape.z)
        for y in range(start.y, stop.y, STRIP_ROWS):
            rows = Region(Index(z, y, start.x), Index(z + 1, min(y + STRIP_ROWS, stop.y), stop.x))
            data = source.read(rows).astype(kind, copy=False).tobytes()
            yield zlib.compress(data, _ZLIB_LEVEL) if is_packed else data
