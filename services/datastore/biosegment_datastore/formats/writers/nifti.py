"""NIfTI-1, and NIfTI-2 where an axis is too long for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from biosegment_datastore.formats.writers.nrrd import gzip_packer
from biosegment_datastore.formats.writers.target import (
    ExportFrame,
    ExportSource,
    Progress,
    little_endian,
    runs,
)

_LONGEST = 32767
_SCANNER, _LABELS, _COMMENT = 1, 1002, 6


def write(path: Path, source: ExportSource, frame: ExportFrame, progress: Progress) -> None:
    """Write a gzip stream; lengths in µm, classes as JSON in a comment extension.

    The axes x, y, z of the file lie left, posterior, superior, as in our NRRD files, so that both fit in 3D Slicer.

    Raises:
        OSError: The disk is full, among others.
    """
    kind = little_endian(source.dtype)
    packer = gzip_packer(frame)
    with path.open("wb") as file:
        file.write(packer.compress(_head(kind, frame)))
        for part in runs(source, frame, progress):
            file.write(packer.compress(np.ascontiguousarray(part, kind).data))
        file.write(packer.flush())


def _head(kind: np.dtype[Any], frame: ExportFrame) -> bytes:
    extension = _extension(frame)
    header_class = nibabel.Nifti1Header if max(frame.shape) <= _LONGEST else nibabel.Nifti2Header
    header = header_class(endianness="<")
    header.set_data_dtype(kind)
    header.set_data_shape(frame.shape[::-1])
    edges = [edge / 1000 for edge in reversed([*frame.voxel_size])]
    header.set_zooms(edges)
    header.set_xyzt_units("micron")
    affine = np.diag([-edges[0], -edges[1], edges[2], 1.0])
    x, y, z = (offset / 1000 for offset in reversed(frame.origin_nm))
    affine[:3, 3] = -x, -y, z
    header.set_sform(affine, code=_SCANNER)
    header.set_qform(affine, code=_SCANNER)
    header["descrip"] = frame.name.encode("ascii", "replace")[:79]
    header["magic"] = header.single_magic
    if frame.is_labels:
        header["intent_code"] = _LABELS
    header["vox_offset"] = int(header["sizeof_hdr"]) + len(extension)
    header.set_slope_inter(1, 0)
    return bytes(header.binaryblock) + extension


def _extension(frame: ExportFrame) -> bytes:
    """The extension flags, and one comment; a multiple of 16 bytes after the header's 348 (+4) or 540 (+4)."""
    if not frame.classes:
        return bytes(4)
    classes = [
        {"value": each.value, "name": each.name, "color": f"#{each.color_rgb:06x}"} for each in frame.classes
    ]
    text = json.dumps({"classes": classes}).encode()
    size = -(-(len(text) + 8) // 16) * 16
    return b"\1\0\0\0" + np.array([size, _COMMENT], "<i4").tobytes() + text.ljust(size - 8, b"\0")
