"""NRRD and NIfTI files of images and labels; the same voxels give the same bytes."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import nibabel
import numpy as np
from numpy.typing import NDArray

from biosegment.errors import InvalidArgument
from biosegment_gateway.monailabel.geometry import Geometry, LengthUnit

EXTENSIONS: Final = (".nrrd", ".seg.nrrd", ".nii.gz", ".nii")
_NRRD_TYPES: Final = {
    "uint8": "unsigned char",
    "int8": "signed char",
    "uint16": "unsigned short",
    "int16": "short",
    "uint32": "unsigned int",
    "int32": "int",
    "float32": "float",
    "float64": "double",
}
_GZIP: Final = 31
"""zlib's window bits for a gzip stream; its header then holds no time."""
_IMAGE_LEVEL, _LABELS_LEVEL = 1, 6
"""Of deflate: grey values hardly shrink further, labels do so at no price."""
_PIECE: Final = 4 << 20
_LONGEST_NIFTI_1: Final = 32767
_NIFTI_UNITS: Final = {"mm": "mm", "um": "micron", "nm": "unknown"}


@dataclass(frozen=True, slots=True)
class Segment:
    """A value of a label file, for programs that read names from it (`.seg.nrrd`)."""

    value: int
    name: str
    color_rgb: int = 0xFFFFFF


def extension_of(name: str) -> str:
    """The known extension that a file name ends with; InvalidArgument UNKNOWN_EXTENSION."""
    for extension in sorted(EXTENSIONS, key=len, reverse=True):
        if name.lower().endswith(extension):
            return extension
    raise InvalidArgument(
        "UNKNOWN_EXTENSION",
        f"{name[-80:]!r} ends with none of {', '.join(EXTENSIONS)}; save it as one of them",
    )


def write_file(
    path: Path,
    voxels: NDArray[Any],
    geometry: Geometry,
    unit: LengthUnit,
    extension: str,
    segments: Sequence[Segment] | None = None,
) -> None:
    """Write a file.

    Args:
        path: Where to.
        voxels: (z, y, x).
        geometry: Of the voxels.
        unit: Of the geometry's numbers.
        extension: One of `EXTENSIONS`.
        segments: Of a label file; None for an image.

    Raises:
        InvalidArgument: UNKNOWN_EXTENSION.
        OSError: The disk is full, among others.
    """
    if voxels.dtype == np.float16:
        voxels = voxels.astype(np.float32)
    little = voxels.astype(voxels.dtype.newbyteorder("<"), copy=False)
    if extension in (".nrrd", ".seg.nrrd"):
        lines = _nrrd_header(little, geometry, unit)
        if extension == ".seg.nrrd":
            lines += _segment_lines(segments or (), little.shape)
        head, is_packed = "\n".join([*lines, "", ""]).encode(), True
    elif extension in (".nii.gz", ".nii"):
        head, is_packed = _nifti_header(little, geometry, unit, segments is not None), extension == ".nii.gz"
    else:
        raise InvalidArgument(
            "UNKNOWN_EXTENSION", f"files of the extension {extension[:20]!r} are not written: {EXTENSIONS}"
        )
    packer = zlib.compressobj(_IMAGE_LEVEL if segments is None else _LABELS_LEVEL, wbits=_GZIP)
    data = np.ascontiguousarray(little).data.cast("B")
    with path.open("wb") as file:
        is_nrrd = extension.endswith("nrrd")
        file.write(head if is_nrrd or not is_packed else packer.compress(head))
        for start in range(0, len(data), _PIECE):
            piece = data[start : start + _PIECE]
            file.write(packer.compress(piece) if is_packed else piece)
        if is_packed:
            file.write(packer.flush())


def _nrrd_header(voxels: NDArray[Any], geometry: Geometry, unit: LengthUnit) -> list[str]:
    columns = geometry.lps[:3, :3].T
    directions = " ".join("(" + ",".join(f"{part:.17g}" for part in column) + ")" for column in columns)
    origin = ",".join(f"{part:.17g}" for part in geometry.lps[:3, 3])
    return [
        "NRRD0005",
        f"type: {_NRRD_TYPES[voxels.dtype.name]}",
        "dimension: 3",
        "space: left-posterior-superior",
        "sizes: " + " ".join(str(size) for size in voxels.shape[::-1]),
        f"space directions: {directions}",
        f'space units: "{unit}" "{unit}" "{unit}"',
        "kinds: domain domain domain",
        "endian: little",
        "encoding: gzip",
        f"space origin: ({origin})",
    ]


def _segment_lines(segments: Sequence[Segment], shape: tuple[int, ...]) -> list[str]:
    z, y, x = (size - 1 for size in shape)
    lines = []
    for number, each in enumerate(segments):
        color = " ".join(f"{(each.color_rgb >> shift & 255) / 255:g}" for shift in (16, 8, 0))
        name = each.name.replace("\\", "\\\\").replace("\n", "\\n")
        lines += [
            f"Segment{number}_ID:={name}",
            f"Segment{number}_Name:={name}",
            f"Segment{number}_Color:={color}",
            f"Segment{number}_LabelValue:={each.value}",
            f"Segment{number}_Layer:=0",
            f"Segment{number}_Extent:=0 {x} 0 {y} 0 {z}",
        ]
    return [
        *lines,
        "Segmentation_ContainedRepresentationNames:=Binary labelmap|",
        "Segmentation_MasterRepresentation:=Binary labelmap",
        "Segmentation_ReferenceImageExtentOffset:=0 0 0",
    ]


def _nifti_header(voxels: NDArray[Any], geometry: Geometry, unit: LengthUnit, is_labels: bool) -> bytes:
    is_short = max(voxels.shape) <= _LONGEST_NIFTI_1
    header = (nibabel.Nifti1Header if is_short else nibabel.Nifti2Header)(endianness="<")
    header.set_data_dtype(voxels.dtype)
    header.set_data_shape(voxels.shape[::-1])
    header.set_zooms(np.linalg.norm(geometry.lps[:3, :3], axis=0))
    header.set_xyzt_units(_NIFTI_UNITS[unit])
    header.set_sform(geometry.ras, code=1)
    header.set_qform(geometry.ras, code=1)
    header["magic"] = header.single_magic
    if is_labels:
        header["intent_code"] = 1002
    header["vox_offset"] = int(header["sizeof_hdr"]) + 4
    header.set_slope_inter(1, 0)
    return bytes(header.binaryblock) + bytes(4)
