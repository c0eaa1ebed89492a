"""OME-TIFF: zlib, BigTIFF when it may need it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tifffile

from biosegment.volume import Index, Region
from biosegment_datastore.formats.writers.target import ExportFrame, ExportSource, Progress, Voxels, runs

BIG_TIFF_BYTES = 3 << 30
MAX_PLANE_BYTES = 32 << 20
"""Larger planes are cut into tiles: nobody should need one as a whole in memory."""

TILE = 256


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
    with tifffile.TiffWriter(path, bigtiff=is_big, ome=True) as writer:
        writer.write(
            compression="zlib",
            maxworkers=2,
            metadata=metadata,
            **page_options(source, frame, progress),
        )


def page_options(source: ExportSource, frame: ExportFrame, progress: Progress) -> dict[str, Any]:
    """What `TiffWriter.write` is told about the voxels: planes, or tiles where a plane is large."""
    options: dict[str, Any] = {
        "shape": tuple(frame.shape),
        "dtype": source.dtype,
        "photometric": "minisblack",
    }
    if frame.shape.y * frame.shape.x * source.dtype.itemsize > MAX_PLANE_BYTES:
        return {**options, "data": _tiles(source, frame, progress), "tile": (TILE, TILE)}
    return {**options, "data": _planes(source, frame, progress)}


def _planes(source: ExportSource, frame: ExportFrame, progress: Progress) -> Iterator[Voxels]:
    # Planes of this size are never cut.
    for slab in runs(source, frame, progress):
        yield from slab


def _tiles(source: ExportSource, frame: ExportFrame, progress: Progress) -> Iterator[Voxels]:
    start, stop = frame.region.start, frame.region.stop
    for z in range(start.z, stop.z):
        progress(z + 1 - start.z, frame.shape.z)
        for y in range(start.y, stop.y, TILE):
            rows = Region(Index(z, y, start.x), Index(z + 1, min(y + TILE, stop.y), stop.x))
            strip = source.read(rows)[0]
            for x in range(0, strip.shape[1], TILE):
                yield strip[:, x : x + TILE]
