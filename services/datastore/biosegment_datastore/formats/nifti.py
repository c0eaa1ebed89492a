"""NIfTI-1 and NIfTI-2: `.nii`, compressed or not, and pairs of `.hdr` and `.img`."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from biosegment.errors import InvalidArgument
from biosegment.volume import VoxelSize
from biosegment_datastore.formats.array import ArraySource
from biosegment_datastore.formats.compressed import codec_of, peek, truncated, unpack
from biosegment_datastore.formats.raw import Opening, RawArray, neighbour, open_with, require_shape
from biosegment_datastore.formats.scale import nanometres, voxel_size_of
from biosegment_datastore.formats.source import SourceOptions, Voxels, unreadable

_HEADER_BYTES: Final = 540
# (header size, is it a single file) by magic number; where it lies depends on the version.
_MAGIC_1: Final = {b"n+1\0": True, b"ni1\0": False}
_MAGIC_2: Final = {b"n+2\0": True, b"ni2\0": False}
_TYPES: Final = {
    **{2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 128: "u1", 256: "i1", 512: "u2", 768: "u4"},
    **{1024: "i8", 1280: "u8", 2304: "u1"},
}
_SAMPLES: Final = {128: 3, 2304: 4}
_UNITS: Final = {1: "m", 2: "mm", 3: "um"}
_AXES: Final = "xyztc"


def recognises(path: Path, head: bytes) -> bool:
    """Whether it has a NIfTI header, which may be compressed."""
    begin = peek(path, head, _HEADER_BYTES)
    return _version(begin) is not None


def open_source(path: Path, options: SourceOptions) -> ArraySource:
    """Open a NIfTI file; of a pair, the header.

    The fourth axis is time and the fifth are channels. A scale factor is applied when every scaled value is exact as
    float32, and refused otherwise. Voxel sizes without a unit do not count.

    Raises:
        InvalidArgument: TRUNCATED_FILE, UNREADABLE_FILE, NOT_A_VOLUME, BAD_DTYPE, IMAGE_TOO_LARGE, BAD_AXES and what
            choosing a channel or a time point raises.
        ResourceExhausted: DISK_FULL, when a compressed one has no room.
    """
    return open_with(_open, path, options)


def _open(opening: Opening) -> ArraySource:
    name = opening.name
    begin = peek(opening.path, opening.file.read(1024), _HEADER_BYTES)
    found = _version(begin)
    if found is None:
        raise unreadable(name, "its header is damaged")
    version, order = found
    header = _header(name, begin, version, order)
    single = {**_MAGIC_1, **_MAGIC_2}[_magic(begin, version)]
    samples = _SAMPLES.get(int(header["datatype"]), 1)
    stored = _stored_type(name, header, samples)
    shape = _shape(name, header)
    axes = _AXES[: len(shape)][::-1]
    if samples > 1:
        axes, shape = axes + "s", (*shape, samples)
    offset = _offset(name, header, single, 352 if version == 1 else 544)
    file = _data_file(opening, single, offset + math.prod(shape) * stored.itemsize)
    table = _scaling(name, header, stored)
    array = RawArray(name, file, offset, shape, stored, *(table or ()))
    return opening.source(f"NIfTI-{version}", axes, array, _voxel_size(header))


def _version(begin: bytes) -> tuple[int, str] | None:
    """Version and byte order of the header."""
    for version, size, width in ((1, 348, 348), (2, 540, 540)):
        for order in "<>":
            if (
                len(begin) >= width
                and begin[:4] == struct.pack(order + "i", size)
                and _magic(begin, version) in (_MAGIC_1 if version == 1 else _MAGIC_2)
            ):
                return version, order
    return None


def _magic(begin: bytes, version: int) -> bytes:
    return begin[344:348] if version == 1 else begin[4:8]


def _header(name: str, begin: bytes, version: int, order: str) -> Any:
    from nibabel import nifti1, nifti2

    layout = np.dtype(nifti1.header_dtype if version == 1 else nifti2.header_dtype).newbyteorder(order)
    if len(begin) < layout.itemsize:
        raise truncated(name, f"it holds {len(begin)} of the {layout.itemsize} bytes of its header")
    return np.frombuffer(begin, layout, 1)[0]


def _stored_type(name: str, header: Any, samples: int) -> np.dtype[Any]:
    code = int(header["datatype"])
    if code not in _TYPES:
        raise InvalidArgument(
            "BAD_DTYPE", f"{name!r} has voxels of NIfTI type {code}: convert them to integers or float32"
        )
    order = header.dtype["datatype"].byteorder
    stored = np.dtype(_TYPES[code]).newbyteorder("<" if order == "=" else order)
    if int(header["bitpix"]) != stored.itemsize * 8 * samples:
        raise unreadable(name, f"its header says type {code} and {header['bitpix']} bits per voxel")
    return stored


def _shape(name: str, header: Any) -> tuple[int, ...]:
    """Sizes, slowest axis first; axes after the channel's must be trivial."""
    count = int(header["dim"][0])
    if not 1 <= count <= 7:
        raise unreadable(name, f"its header says {count} axes")
    sizes = [int(size) for size in header["dim"][1 : count + 1]]
    require_shape(name, sizes)
    if any(size != 1 for size in sizes[5:]):
        raise InvalidArgument(
            "NOT_A_VOLUME",
            f"{name!r} has the shape {tuple(sizes)} (x first): x, y, z, time and channel are the most that is read",
        )
    sizes = sizes[:5]
    # Writers leave trivial axes out or in as they like.
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    return tuple(reversed(sizes))


def _offset(name: str, header: Any, single: bool, least: int) -> int:
    given = float(header["vox_offset"])
    if not math.isfinite(given) or given < 0 or given != int(given):
        raise unreadable(name, f"its header says that voxels begin at byte {given}")
    return max(int(given), least) if single else int(given)


def _data_file(opening: Opening, single: bool, size: int) -> BinaryIO:
    file = opening.file
    if not single:
        stem = opening.name.removesuffix(".gz").rpartition(".")[0] or opening.name
        names = (f"{stem}.img", f"{stem}.img.gz", f"{stem}.IMG")
        existing = [one for one in names if (opening.path.parent / one).exists()]
        file = opening.open(neighbour(opening.path, existing[0] if existing else names[0]))
    file.seek(0)
    codec = codec_of(file.read(8))
    # A raw `.img` may begin with any bytes.
    if codec is None or not (single or Path(file.name).suffix == ".gz"):
        return file
    file.seek(0)
    return unpack(opening.name, file, codec, size, opening.options.scratch_dir, opening.resources)


def _scaling(name: str, header: Any, stored: np.dtype[Any]) -> tuple[np.dtype[Any], Any] | None:
    """How to turn stored values into float32 by the header's scale; None when it has none."""
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not math.isfinite(slope) or (slope, inter) == (1.0, 0.0):
        return None
    if stored.kind in "iu" and stored.itemsize <= 2 and math.isfinite(inter):
        values = np.arange(1 << (8 * stored.itemsize), dtype=f"u{stored.itemsize}")
        with np.errstate(over="ignore"):
            scaled = (
                values.view(f"i{stored.itemsize}" if stored.kind == "i" else values.dtype) * slope + inter
            )
            table = scaled.astype(np.float32)
        if (table == scaled).all():
            return np.dtype("f4"), lambda voxels: _look_up(table, voxels)
    raise InvalidArgument(
        "BAD_DTYPE",
        f"{name!r} scales its {stored.name} voxels by {slope:g} and adds {inter:g}, and the results would have to be "
        "rounded: save it without a scale factor (scl_slope 1), or as float32",
    )


def _look_up(table: Voxels, voxels: Voxels) -> Voxels:
    native = voxels.astype(voxels.dtype.newbyteorder("="))
    values: Voxels = table[native.view(f"u{native.dtype.itemsize}")]
    return values


def _voxel_size(header: Any) -> VoxelSize | None:
    unit = _UNITS.get(int(header["xyzt_units"]) & 7)
    # As written, not widened: a single precision 0.0046 means 0.0046.
    x, y, z = (nanometres(str(edge), unit) for edge in header["pixdim"][1:4])
    return voxel_size_of(z, y, x)
