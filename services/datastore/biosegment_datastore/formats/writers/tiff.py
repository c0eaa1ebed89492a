"""Plain TIFF stacks, as ImageJ writes them where it can read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from biosegment_datastore.formats.writers.ometiff import BIG_TIFF_BYTES, MAX_PLANE_BYTES, page_options
from biosegment_datastore.formats.writers.target import ExportFrame, ExportSource, Progress

_IMAGEJ_DTYPES = ("uint8", "uint16", "float32")


def write(path: Path, source: ExportSource, frame: ExportFrame, progress: Progress) -> None:
    """Write an uncompressed stack.

    It is an ImageJ hyperstack with spacing, origin, and for labels a colour table, when ImageJ itself can read it:
    uint8, uint16 or float32, below 3 GiB. Otherwise the voxel size is in the resolution tags and in the description.

    Raises:
        OSError: The disk is full, among others.
    """
    size_bytes = frame.region.size * source.dtype.itemsize
    plane_bytes = size_bytes // frame.shape.z
    options = page_options(source, frame, progress, is_packed=False)
    if (
        source.dtype.name in _IMAGEJ_DTYPES
        and size_bytes <= BIG_TIFF_BYTES
        and plane_bytes <= MAX_PLANE_BYTES
    ):
        _write_imagej(path, source, frame, options)
        return
    z_um, y_um, x_um = (edge / 1000 for edge in frame.voxel_size)
    description = (
        f"{frame.name}\n{frame.description}\nvoxel size (zyx): {z_um:.9g} x {y_um:.9g} x {x_um:.9g} um"
    )
    with tifffile.TiffWriter(
        path, bigtiff=size_bytes > BIG_TIFF_BYTES, byteorder="<", shaped=False
    ) as writer:
        writer.write(
            description=description.encode("ascii", "replace").decode(),
            resolution=(1e4 / x_um, 1e4 / y_um),
            resolutionunit="CENTIMETER",
            metadata=None,
            **options,
        )


def _write_imagej(path: Path, source: ExportSource, frame: ExportFrame, options: dict[str, Any]) -> None:
    z_um, y_um, x_um = (edge / 1000 for edge in frame.voxel_size)
    metadata: dict[str, Any] = {"axes": "ZYX", "unit": "um", "spacing": float(f"{z_um:.9g}")}
    for axis, offset, edge in zip("zyx", frame.origin_nm, frame.voxel_size, strict=True):
        if offset:
            # ImageJ's origin is where the coordinate is zero, in voxels of the file.
            metadata[f"{axis}origin"] = float(f"{-offset / edge:.9g}")
    metadata["Info"] = "\n".join(
        [frame.name, frame.description, *(f"class {each.value}: {each.name}" for each in frame.classes)]
    )
    if frame.classes and source.dtype == np.uint8:
        table = np.zeros((3, 256), np.uint8)
        for each in frame.classes:
            table[:, each.value] = each.rgb
        metadata["LUTs"] = [table]
        metadata["mode"] = "composite"
    with tifffile.TiffWriter(path, byteorder="<", imagej=True) as writer:
        writer.write(resolution=(1 / x_um, 1 / y_um), metadata=metadata, **options)
