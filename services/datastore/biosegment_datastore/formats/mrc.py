"""MRC, CCP4 and IMOD files (`.mrc`, `.map`, `.rec`, `.st`), plain or compressed as a whole."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from biosegment.errors import InvalidArgument
from biosegment.volume import VoxelSize
from biosegment_datastore.formats.array import ArraySource
from biosegment_datastore.formats.compressed import codec_of, peek, truncated, unpack
from biosegment_datastore.formats.raw import Opening, RawArray, open_with, require_shape
from biosegment_datastore.formats.scale import nanometres, voxel_size_of
from biosegment_datastore.formats.source import SourceOptions, Voxels, unreadable

_HEADER_BYTES: Final = 1024
_MODES: Final = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
_REFUSED_MODES: Final = {
    3: "complex 16-bit integers",
    4: "complex floats",
    16: "colours",
    101: "two 4-bit values in a byte",
}
_MAX_EXTENDED_HEADER: Final = 1 << 31
_VOLUME_STACKS: Final = range(401, 631)
_IMOD_STAMP: Final = 1146047817
_IMOD_STAMP_AT, _IMOD_FLAGS_AT = 152, 156
_IMOD_SIGNED: Final = 1


def recognises(path: Path, head: bytes) -> bool:
    """Whether it has the `MAP` stamp, or none and a header that makes sense for a file of its length.

    Headers from before the year 2000 have no stamp. A compressed file needs it.
    """
    compressed = codec_of(head) is not None
    begin = peek(path, head, _HEADER_BYTES)
    if begin[208:211] == b"MAP":
        return True
    if compressed or len(begin) < _HEADER_BYTES:
        return False
    header = _plausible(begin)
    if header is None or int(header["mode"]) not in _MODES or min(_shape(header)) < 1:
        return False
    needed = math.prod(_shape(header)) * np.dtype(_MODES[int(header["mode"])]).itemsize
    return needed + _HEADER_BYTES + int(header["nsymbt"]) <= path.stat().st_size


def open_source(path: Path, options: SourceOptions) -> ArraySource:
    """Open an MRC file.

    8-bit voxels are signed when IMOD's flag says so; without IMOD's stamp, when the header's range of values tells,
    and otherwise signed, as the standard of 2014 wants. 16-bit floats become float32. A stack of volumes has a time
    axis.

    Raises:
        InvalidArgument: TRUNCATED_FILE, UNREADABLE_FILE, NOT_A_VOLUME, BAD_DTYPE, IMAGE_TOO_LARGE, BAD_AXES,
            TIME_POINT_MISSING, BAD_TIME_POINT.
        ResourceExhausted: DISK_FULL, when a compressed one has no room.
    """
    return open_with(_open, path, options)


def _open(opening: Opening) -> ArraySource:
    name, file = opening.name, opening.file
    head = file.read(8)
    file.seek(0)
    codec = codec_of(head)
    begin = peek(opening.path, head, _HEADER_BYTES) if codec else file.read(_HEADER_BYTES)
    if len(begin) < _HEADER_BYTES:
        raise truncated(name, f"it holds {len(begin)} of the {_HEADER_BYTES} bytes of its header")
    header = _plausible(begin)
    if header is None:
        raise unreadable(name, "its header has impossible sizes, modes or axes")
    stored = _stored_type(name, header, begin)
    shape = _shape(header)
    require_shape(name, shape)
    offset = _HEADER_BYTES + int(header["nsymbt"])
    if codec:
        file = _unpacked(opening, codec, offset + math.prod(shape) * stored.itemsize)
    half = stored.kind == "f" and stored.itemsize == 2
    array = RawArray(
        name, file, offset, shape, stored, np.dtype("f4") if half else None, _widened if half else None
    )
    letters = ["xyz"[int(axis) - 1] for axis in _axes(header)]
    axes = "t" * (len(shape) - 3) + "".join(letters[::-1])
    return opening.source("MRC" + (f" ({codec})" if codec else ""), axes, array, _voxel_size(header))


def _unpacked(opening: Opening, codec: str, size: int) -> BinaryIO:
    opening.file.seek(0)
    return unpack(opening.name, opening.file, codec, size, opening.options.scratch_dir, opening.resources)


def _widened(voxels: Voxels) -> Voxels:
    return voxels.astype(np.float32)


def _plausible(begin: bytes) -> Any | None:
    """The header in the byte order in which it makes sense, the machine stamp's first; None in neither."""
    from mrcfile.dtypes import HEADER_DTYPE

    # Stamps are wrong now and then, and old files have none.
    orders = "><" if begin[212:213] == b"\x11" else "<>"
    for order in orders:
        header = np.frombuffer(begin, HEADER_DTYPE.newbyteorder(order), 1)[0]
        if (
            int(header["mode"]) in {**_MODES, **_REFUSED_MODES}
            and all(0 <= int(header[size]) for size in ("nx", "ny", "nz"))
            and 0 <= int(header["nsymbt"]) < _MAX_EXTENDED_HEADER
            and sorted(_axes(header)) == [1, 2, 3]
        ):
            return header
    return None


def _axes(header: Any) -> tuple[int, int, int]:
    """Which of x (1), y (2) and z (3) columns, rows and sections lie along; files that do not say mean xyz."""
    columns, rows, sections = (int(header[name]) for name in ("mapc", "mapr", "maps"))
    return (columns, rows, sections) if columns or rows or sections else (1, 2, 3)


def _shape(header: Any) -> tuple[int, ...]:
    columns, rows, sections = (int(header[name]) for name in ("nx", "ny", "nz"))
    depth = int(header["mz"])
    if int(header["ispg"]) in _VOLUME_STACKS and depth > 0 and sections % depth == 0:
        return sections // depth, depth, rows, columns
    return sections, rows, columns


def _stored_type(name: str, header: Any, begin: bytes) -> np.dtype[Any]:
    mode = int(header["mode"])
    if mode in _REFUSED_MODES:
        raise InvalidArgument(
            "BAD_DTYPE",
            f"{name!r} has voxels of MRC mode {mode} ({_REFUSED_MODES[mode]}): convert them to grey values of 8 or 16 "
            "bits or to float32, for example with IMOD's newstack",
        )
    if mode == 0 and not _is_signed(header, begin):
        return np.dtype("u1")
    order = header.dtype["mode"].byteorder
    return np.dtype(_MODES[mode]).newbyteorder("<" if order == "=" else order)


def _is_signed(header: Any, begin: bytes) -> bool:
    def number(place: int) -> int:
        big = header.dtype["mode"].byteorder == ">"
        return int.from_bytes(begin[place : place + 4], "big" if big else "little", signed=True)

    if number(_IMOD_STAMP_AT) == _IMOD_STAMP:
        return bool(number(_IMOD_FLAGS_AT) & _IMOD_SIGNED)
    # Ranges that were never computed have their minimum above their maximum.
    low, high = float(header["dmin"]), float(header["dmax"])
    return not (0 <= low < high and 127 < high <= 255)


def _voxel_size(header: Any) -> VoxelSize | None:
    edges = []
    for axis, intervals in (("z", "mz"), ("y", "my"), ("x", "mx")):
        count = int(header[intervals])
        # Single precision: what is beyond six digits is noise.
        edges.append(nanometres(f"{header['cella'][axis] / count:.6g}", "Å") if count > 0 else None)
    return voxel_size_of(*edges)
