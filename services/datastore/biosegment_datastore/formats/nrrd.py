"""NRRD: `.nrrd`, `.nhdr` with its data beside it, and Slicer's `.seg.nrrd`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from biosegment.errors import InvalidArgument
from biosegment.volume import VoxelSize
from biosegment_datastore.formats.array import ArraySource
from biosegment_datastore.formats.compressed import unpack
from biosegment_datastore.formats.raw import (
    Opening,
    RawArray,
    neighbour,
    open_with,
    require_shape,
    text_voxels,
)
from biosegment_datastore.formats.scale import nanometres, voxel_size_of
from biosegment_datastore.formats.source import SourceOptions, unreadable

_MAX_HEADER_BYTES: Final = 4 << 20
_CODECS: Final = {"gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}
_TYPES: Final = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"), "i8"),
    **dict.fromkeys(
        ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"), "u8"
    ),
    **{"float": "f4", "double": "f8"},
}
_TEXT: Final = ("ascii", "text", "txt")
_SPATIAL: Final = ("domain", "space")
_MAX_AXES: Final = 16
_MAX_LINE_SKIP: Final = 1 << 20

_Header = dict[str, Any]


def recognises(path: Path, head: bytes) -> bool:
    """Whether it begins with NRRD's magic number."""
    return head.startswith(b"NRRD00")


def open_source(path: Path, options: SourceOptions) -> ArraySource:
    """Open a NRRD file.

    Axes that are neither domain nor time are channels; the layers of a segmentation with overlaps are such. Voxel
    sizes without a unit do not count.

    Raises:
        InvalidArgument: TRUNCATED_FILE, UNREADABLE_FILE, NOT_A_VOLUME, BAD_DTYPE, IMAGE_TOO_LARGE, BAD_AXES and what
            choosing a channel or a time point raises.
        ResourceExhausted: DISK_FULL, when a compressed one has no room.
    """
    return open_with(_open, path, options)


def _open(opening: Opening) -> ArraySource:
    header = _read_header(opening.name, opening.file)
    encoding = str(header["encoding"]).lower()
    sizes = [int(size) for size in header["sizes"]]
    if len(sizes) != header["dimension"] or len(sizes) > _MAX_AXES:
        raise unreadable(opening.name, f"it has {header['dimension']} axes and {len(sizes)} sizes")
    require_shape(opening.name, sizes)
    shape, stored = sizes[::-1], _stored_type(opening.name, header, encoding)
    file = _data_file(opening, header)
    for _ in range(_skip(opening.name, header, "line", 0, _MAX_LINE_SKIP)):
        file.readline(_MAX_HEADER_BYTES)
    array: Any
    if encoding in _TEXT:
        file.seek(max(0, _skip(opening.name, header, "byte", 0)), 1)
        array = text_voxels(opening.name, file, shape, stored)
    else:
        file, offset = _voxels_at(opening, header, encoding, file, math.prod(shape) * stored.itemsize)
        array = RawArray(opening.name, file, offset, shape, stored)
    kind = "NRRD segmentation" if any(key.startswith("Segment0_") for key in header) else "NRRD"
    return opening.source(kind, _axes(header, len(sizes)), array, _voxel_size(header, sizes))


def _read_header(name: str, file: BinaryIO) -> _Header:
    """The parsed header; leaves the file behind the empty line that ends it."""
    import nrrd

    lines, size = [], 0
    while line := file.readline(_MAX_HEADER_BYTES):
        size += len(line)
        if size > _MAX_HEADER_BYTES:
            raise unreadable(name, f"its header is longer than {_MAX_HEADER_BYTES} bytes")
        if not line.strip():
            break
        lines.append(line)
    # Not left to the library, which drops what is not ASCII: µm would become m.
    header = dict(nrrd.read_header([_text(line) for line in lines]))
    missing = [field for field in ("dimension", "type", "encoding", "sizes") if field not in header]
    if missing:
        raise unreadable(name, f"its header lacks {', '.join(missing)}")
    return header


def _text(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("latin-1")


def _stored_type(name: str, header: _Header, encoding: str) -> np.dtype[Any]:
    spelled = _TYPES.get(str(header["type"]))
    if spelled is None:
        raise InvalidArgument("BAD_DTYPE", f"{name!r} has voxels of the type {header['type']!r}: convert it")
    stored = np.dtype(spelled)
    if stored.itemsize == 1 or encoding in _TEXT:
        return stored
    if header.get("endian") not in ("little", "big"):
        raise unreadable(name, f"its byte order is {header.get('endian')!r} and must be 'little' or 'big'")
    return stored.newbyteorder("<" if header["endian"] == "little" else ">")


def _data_file(opening: Opening, header: _Header) -> BinaryIO:
    given = header.get("data file", header.get("datafile"))
    if given is None:
        return opening.file
    if str(given).split()[:1] == ["LIST"] or "%" in str(given):
        raise unreadable(
            opening.name,
            "its voxels are spread over several files; save it as one file, with its header in it",
        )
    return opening.open(neighbour(opening.path, str(given).removeprefix("./")))


def _skip(name: str, header: _Header, what: str, least: int, most: int = 1 << 62) -> int:
    count = int(header.get(f"{what} skip") or header.get(f"{what}skip") or 0)
    if not least <= count <= most:
        raise unreadable(name, f"it says to skip {count} {what}s")
    return count


def _voxels_at(
    opening: Opening, header: _Header, encoding: str, file: BinaryIO, size: int
) -> tuple[BinaryIO, int]:
    """Which file holds the raw voxels, and from which byte on."""
    skip = _skip(opening.name, header, "byte", -1)
    if encoding == "raw":
        # -1: they are the end of the file.
        return file, file.seek(0, 2) - size if skip < 0 else file.tell() + skip
    if encoding not in _CODECS:
        raise unreadable(opening.name, f"encoding {encoding!r} is not known; save it as raw or gzip")
    if skip < 0:
        raise unreadable(opening.name, "a byte skip of -1 in compressed data is not read; save it as raw")
    options = opening.options
    return (
        unpack(opening.name, file, _CODECS[encoding], skip + size, options.scratch_dir, opening.resources),
        skip,
    )


def _axes(header: _Header, count: int) -> str:
    """Letters of the axes, slowest first; '' when the header does not tell them apart."""
    kinds = [str(kind).lower() for kind in header.get("kinds", [])]
    directions = header.get("space directions")
    if len(kinds) != count:
        kinds = ["???"] * count
    if directions is not None and len(directions) == count:
        known = ["domain" if np.isfinite(row).all() else "list" for row in directions]
        kinds = [said if kind in ("???", "none") else kind for kind, said in zip(kinds, known, strict=True)]
    elif count == 3:
        kinds = ["domain" if kind in ("???", "none") else kind for kind in kinds]
    letters, spatial = "", iter("xyzqi")
    for kind in kinds:
        if kind in ("???", "none"):
            return ""
        letters += next(spatial, "") if kind in _SPATIAL else "t" if kind == "time" else "c"
    return letters[::-1]


def _voxel_size(header: _Header, sizes: list[int]) -> VoxelSize | None:
    letters = _axes(header, len(sizes))[::-1]
    edges: dict[str, float | None] = {}
    for axis, letter in enumerate(letters or "xyz"[: len(sizes)]):
        edges[letter] = _along_directions(header, axis) or _along_axis(header, axis)
    return voxel_size_of(edges.get("z"), edges.get("y"), edges.get("x"))


def _along_directions(header: _Header, axis: int) -> float | None:
    """Length in nm of the step from one voxel to the next, by the header's directions in space."""
    directions, units = header.get("space directions"), header.get("space units", [])
    if directions is None or axis >= len(directions) or len(units) != len(directions[axis]):
        return None
    lengths = [
        0.0 if part == 0 else nanometres(abs(part), unit)
        for part, unit in zip((float(part) for part in directions[axis]), units, strict=True)
    ]
    if any(length is None for length in lengths):
        return None
    return math.hypot(*(length or 0.0 for length in lengths)) or None


def _along_axis(header: _Header, axis: int) -> float | None:
    spacings, units = header.get("spacings", []), header.get("units", [])
    if axis >= len(spacings) or axis >= len(units):
        return None
    return nanometres(float(spacings[axis]), units[axis])
