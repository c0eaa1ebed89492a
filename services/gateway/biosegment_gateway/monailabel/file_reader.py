"""Reading the NRRD and NIfTI files that clients send: nothing is unpacked that would be more than is allowed."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import nibabel
import nibabel.filebasedimages
import nibabel.spatialimages
import nibabel.wrapstruct
import nrrd
import numpy as np
from numpy.typing import NDArray

from biosegment.errors import InvalidArgument, ResourceExhausted
from biosegment_gateway.monailabel.file_writer import extension_of
from biosegment_gateway.monailabel.geometry import Geometry, LengthUnit

_MAX_HEADER: Final = 1 << 20
_SPACES: Final = {
    "left-posterior-superior": (1, 1, 1),
    "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1),
    "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "las": (1, -1, 1),
}
_SEGMENT: Final = re.compile(r"Segment(\d{1,5})_(Name|LabelValue|Layer)")
_UNITS: Final = {"mm": "mm", "um": "um", "µm": "um", "nm": "nm", "micron": "um"}
_TYPES: Final = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "int64", "int64_t"), "i8"),
    **dict.fromkeys(("ulonglong", "unsigned long long", "uint64", "uint64_t"), "u8"),
    **{"float": "f4", "double": "f8"},
}

_ERRORS: Final = (
    ValueError,
    TypeError,
    KeyError,
    EOFError,
    OSError,
    OverflowError,
    zlib.error,
    nrrd.NRRDError,
    nibabel.filebasedimages.ImageFileError,
    nibabel.spatialimages.HeaderDataError,
    nibabel.wrapstruct.WrapStructError,
)
"""What the libraries raise over damaged files."""


@dataclass(frozen=True, slots=True)
class NamedSegment:
    """A segment of a `.seg.nrrd` file: its voxels have `value` in layer `layer`."""

    name: str
    value: int
    layer: int


@dataclass(frozen=True, slots=True, eq=False)
class ReadFile:
    """What was in a file.

    Attributes:
        voxels: (z, y, x), or (layer, z, y, x) of a segmentation with overlaps.
        geometry: None when the file does not say.
        unit: Of the geometry's numbers; None when the file does not say.
        segments: Of a `.seg.nrrd`; empty for other files.
    """

    voxels: NDArray[Any] = field(repr=False)
    geometry: Geometry | None
    unit: LengthUnit | None
    segments: tuple[NamedSegment, ...] = ()


def read_file(path: Path, name: str, max_voxels: int) -> ReadFile:
    """Read a file; blocking.

    Args:
        path: Of the file.
        name: That the client gave it, whose extension says what it is.
        max_voxels: That are taken.

    Raises:
        InvalidArgument: UNKNOWN_EXTENSION, BAD_FILE.
        ResourceExhausted: FILE_TOO_LARGE: it says that it has more voxels.
    """
    extension = extension_of(name)
    try:
        with path.open("rb") as file:
            if extension.endswith("nrrd"):
                return _read_nrrd(file, name, max_voxels)
            return _read_nifti(file, name, max_voxels)
    except _ERRORS as error:
        raise _bad(name, str(error) or type(error).__name__) from error


def read_geometry(path: Path, name: str) -> tuple[Geometry | None, LengthUnit | None]:
    """Geometry and unit of a file as `ReadFile` has them, from its header alone; None of files of other kinds."""
    try:
        extension = extension_of(name)
    except InvalidArgument:
        return None, None
    try:
        with path.open("rb") as file:
            if extension.endswith("nrrd"):
                found = _nrrd_header(file, name)
                return _nrrd_geometry(found), _nrrd_unit(found)
            header = _nifti_header(_plain(file))
            return _nifti_geometry(header), _unit(str(header.get_xyzt_units()[0]))
    except _ERRORS as error:
        raise _bad(name, str(error) or type(error).__name__) from error


def _read_nrrd(file: BinaryIO, name: str, max_voxels: int) -> ReadFile:
    header = _nrrd_header(file, name)
    sizes = [int(size) for size in header["sizes"]]
    if len(sizes) not in (3, 4) or min(sizes) < 1:
        raise _bad(name, f"it has the sizes {sizes}; three axes are read, or layers and three")
    _require_voxels(name, sizes, max_voxels)
    dtype = np.dtype(_TYPES[str(header["type"])])
    dtype = dtype.newbyteorder(">" if header.get("endian") == "big" else "<")
    expected = math.prod(sizes) * dtype.itemsize
    data = _unpacked(file, str(header["encoding"]).lower(), expected, name)
    # The first axis is the fastest; layers come first.
    voxels = np.frombuffer(data, dtype).reshape(sizes[::-1])
    if len(sizes) == 4:
        voxels = np.moveaxis(voxels, -1, 0)
    return ReadFile(_native(voxels), _nrrd_geometry(header), _nrrd_unit(header), _segments(header))


def _nrrd_header(file: BinaryIO, name: str) -> dict[str, Any]:
    lines, size = [], 0
    while line := file.readline(_MAX_HEADER):
        size += len(line)
        if size > _MAX_HEADER:
            raise _bad(name, f"its header is longer than {_MAX_HEADER} bytes")
        if not line.strip():
            break
        lines.append(line.decode("utf-8", "replace"))
    if not lines:
        raise _bad(name, "it is empty")
    header = dict(nrrd.read_header(lines))
    if "data file" in header or "datafile" in header:
        raise _bad(name, "its voxels are in another file; save it as one file")
    skips = ("byte skip", "line skip", "byteskip", "lineskip")
    if any(header.get(key) for key in skips):
        raise _bad(name, "it says to skip some of its voxels' bytes, which is not read")
    return header


def _unpacked(file: BinaryIO, encoding: str, expected: int, name: str) -> bytes:
    if encoding == "raw":
        data = file.read(expected)
    elif encoding in ("gzip", "gz"):
        stream, pieces, size = zlib.decompressobj(31), [], 0
        while size < expected and (packed := stream.unconsumed_tail or file.read(1 << 20)):
            piece = stream.decompress(packed, expected - size)
            pieces.append(piece)
            size += len(piece)
        data = b"".join(pieces)
    else:
        raise _bad(name, f"its encoding is {encoding[:40]!r}; raw and gzip are read")
    if len(data) < expected:
        raise _bad(name, f"it holds {len(data)} of {expected} bytes of voxels")
    return data


def _nrrd_geometry(header: Mapping[str, Any]) -> Geometry | None:
    directions, origin = header.get("space directions"), header.get("space origin")
    signs = _SPACES.get(str(header.get("space", "")).lower())
    if directions is None or origin is None or signs is None:
        return None
    rows = [row for row in np.asarray(directions, np.float64) if np.isfinite(row).all()]
    if len(rows) != 3:
        return None
    lps = np.eye(4)
    lps[:3, :3] = np.stack(rows, 1)
    lps[:3, 3] = np.asarray(origin, np.float64)
    return Geometry(np.diag([*signs, 1.0]) @ lps)


def _nrrd_unit(header: Mapping[str, Any]) -> LengthUnit | None:
    units = {str(unit) for unit in header.get("space units", ())}
    return _unit(units.pop()) if len(units) == 1 else None


def _segments(header: Mapping[str, Any]) -> tuple[NamedSegment, ...]:
    found: dict[int, dict[str, str]] = {}
    for key, value in header.items():
        if match := _SEGMENT.fullmatch(str(key)):
            found.setdefault(int(match[1]), {})[match[2]] = str(value)
    return tuple(
        NamedSegment(each["Name"], int(each["LabelValue"]), int(each.get("Layer", 0)))
        for _, each in sorted(found.items())
        if "Name" in each and "LabelValue" in each
    )


def _read_nifti(file: BinaryIO, name: str, max_voxels: int) -> ReadFile:
    opened = _plain(file)
    header = _nifti_header(opened)
    shape = tuple(int(size) for size in header.get_data_shape())
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3 or min(shape) < 1:
        raise _bad(name, f"it has the shape {shape} (x first); three axes are read")
    _require_voxels(name, shape, max_voxels)
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf":
        raise _bad(name, f"its voxels are {dtype}; numbers are read")
    expected = math.prod(shape) * dtype.itemsize
    offset = max(int(header["vox_offset"]), int(header["sizeof_hdr"]) + 4)
    if not 0 < offset <= _MAX_HEADER:
        raise _bad(name, f"its voxels begin at byte {offset}")
    opened.seek(0)
    opened.read(offset)
    data = opened.read(expected)
    if len(data) < expected:
        raise _bad(name, f"it holds {len(data)} of {expected} bytes of voxels")
    voxels = np.frombuffer(data, dtype).reshape(shape[::-1])
    slope, inter = (float(header[key]) for key in ("scl_slope", "scl_inter"))
    if math.isfinite(slope) and slope != 0 and (slope, inter) != (1.0, 0.0):
        voxels = voxels * slope + inter
    return ReadFile(_native(voxels), _nifti_geometry(header), _unit(str(header.get_xyzt_units()[0])))


def _plain(file: BinaryIO) -> Any:
    """The file, unpacked as it is read."""
    is_packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    return gzip.GzipFile(fileobj=file) if is_packed else file


def _nifti_header(opened: Any) -> Any:
    head = opened.read(544)
    is_second = head[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c")
    kind = nibabel.Nifti2Header if is_second else nibabel.Nifti1Header
    return kind(head[: kind.sizeof_hdr])


def _nifti_geometry(header: Any) -> Geometry | None:
    if int(header["sform_code"]) <= 0 and int(header["qform_code"]) <= 0:
        return None
    return Geometry.from_ras(np.asarray(header.get_best_affine(), np.float64))


def _unit(word: str) -> LengthUnit | None:
    known: Any = _UNITS.get(word)
    unit: LengthUnit | None = known
    return unit


def _native(voxels: NDArray[Any]) -> NDArray[Any]:
    return voxels.astype(voxels.dtype.newbyteorder("="), copy=False)


def _require_voxels(name: str, sizes: Any, most: int) -> None:
    count = math.prod(int(size) for size in sizes)
    if count > most:
        raise ResourceExhausted(
            "FILE_TOO_LARGE",
            f"{name[-80:]!r} has {count} voxels; at most {most} are taken here",
            limit=str(most),
        )


def _bad(name: str, why: str) -> InvalidArgument:
    return InvalidArgument("BAD_FILE", f"{name[-80:]!r} cannot be read: {why[:300]}")
