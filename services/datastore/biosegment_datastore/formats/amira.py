"""AmiraMesh (`.am`): images and label fields on a uniform lattice, of Amira and Avizo."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from biosegment.errors import InvalidArgument
from biosegment.volume import VoxelSize
from biosegment_datastore.formats.array import ArraySource
from biosegment_datastore.formats.compressed import spool, truncated, unpack
from biosegment_datastore.formats.raw import Opening, RawArray, open_with, require_shape, text_voxels
from biosegment_datastore.formats.scale import nanometres, voxel_size_of
from biosegment_datastore.formats.source import SourceOptions, unreadable

_MAX_HEADER_BYTES: Final = 16 << 20
_PIECE_BYTES: Final = 1 << 20
_TYPES: Final = {
    **{"byte": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4", "double": "f8"},
}
_DATA: Final = re.compile(rb"^@(\d+)[ \t]*\r?\n", re.MULTILINE)
_LATTICE: Final = re.compile(
    r"^[ \t]*define[ \t]+(\w+)[ \t]+(\d+)[ \t]+(\d+)[ \t]+(\d+)[ \t\r]*$", re.MULTILINE
)
_FIELD: Final = re.compile(
    r"^[ \t]*(\w+)[ \t]*\{\s*(\w+)(?:\[(\d+)\])?\s+\"?([^\s}\"]+)\"?\s*\}\s*=?\s*@(\d+)(?:\((\w+),(\d+)\))?",
    re.MULTILINE,
)
_NUMBER: Final = r"[-+]?[\d.]+(?:[eE][-+]?\d+)?"
_BOX: Final = re.compile(rf"\bBoundingBox\s+\"?((?:{_NUMBER}[\s,]+){{5}}{_NUMBER})")
_COORDINATES: Final = re.compile(r"\bCoordType\s+\"(\w+)\"")
_UNITS: Final = re.compile(r"\bUnits\s*\{[^{}]*?\bCoordinates\s+\"([^\"]*)\"")


@dataclass(frozen=True, slots=True)
class _Field:
    """An array on the lattice.

    Attributes:
        name: As in the file.
        dtype: Stored, with its byte order.
        samples: Values per voxel.
        number: Of the data section.
        codec: 'HxByteRLE', 'HxZip' or ''.
        packed: Compressed bytes.
    """

    name: str
    dtype: np.dtype[Any]
    samples: int
    number: int
    codec: str
    packed: int


def recognises(path: Path, head: bytes) -> bool:
    """Whether its first line is one of AmiraMesh's."""
    return head.startswith((b"# AmiraMesh", b"# Avizo"))


def open_source(path: Path, options: SourceOptions) -> ArraySource:
    """Open a field on a uniform lattice of an AmiraMesh file; `dataset` is its name, where there are several.

    Values of label fields are the numbers of their materials. Voxel sizes without a unit do not count.

    Raises:
        InvalidArgument: TRUNCATED_FILE, UNREADABLE_FILE, NOT_A_VOLUME, DATASET_MISSING, NO_DATASET, BAD_DTYPE,
            IMAGE_TOO_LARGE, CHANNEL_MISSING, BAD_CHANNEL.
        ResourceExhausted: DISK_FULL, when a compressed one has no room.
    """
    return open_with(_open, path, options)


def _open(opening: Opening) -> ArraySource:
    name = opening.name
    begin = opening.file.read(_MAX_HEADER_BYTES)
    match = _DATA.search(begin)
    if match is None:
        raise truncated(name, "its header has no end")
    header = _text(begin[: match.start()])
    lattice, sizes = _lattice(name, header)
    fields = _fields(name, header, lattice)
    field = _choose(name, fields, opening.options.dataset)
    shape = (*sizes[::-1], *((field.samples,) if field.samples > 1 else ()))
    array: Any
    if _mode(name, header) == "ASCII":
        _find_text(opening, begin, field)
        array = text_voxels(name, opening.file, shape, field.dtype.newbyteorder("="))
    else:
        _find(opening, match.end(), sizes, fields, field)
        file = _unpacked(opening, field, math.prod(shape) * field.dtype.itemsize)
        array = RawArray(name, file, file.tell(), shape, field.dtype)
    axes = "zyx" + ("c" if field.samples > 1 else "")
    return opening.source("AmiraMesh", axes, array, _voxel_size(header, sizes))


def _text(begin: bytes) -> str:
    try:
        return begin.decode()
    except UnicodeDecodeError:
        return begin.decode("latin-1")


def _mode(name: str, header: str) -> str:
    words = header.partition("\n")[0].split()
    for mode in ("ASCII", "BINARY-LITTLE-ENDIAN", "BINARY"):
        if mode in words:
            return mode
    raise unreadable(name, "its first line says neither ASCII nor BINARY")


def _lattice(name: str, header: str) -> tuple[str, tuple[int, int, int]]:
    """Name and sizes, x first."""
    found = _LATTICE.findall(header)
    if len(found) != 1:
        raise InvalidArgument(
            "NOT_A_VOLUME", f"{name!r} holds {len(found)} lattices with three axes, and one is needed"
        )
    kind = _COORDINATES.search(header)
    if kind is not None and kind[1] != "uniform":
        raise InvalidArgument(
            "NOT_A_VOLUME", f"{name!r} has {kind[1]} coordinates: resample it to a uniform lattice"
        )
    x, y, z = (int(size[:18]) for size in found[0][1:])
    require_shape(name, (x, y, z))
    return found[0][0], (x, y, z)


def _fields(name: str, header: str, lattice: str) -> list[_Field]:
    order = "<" if _mode(name, header) == "BINARY-LITTLE-ENDIAN" else ">"
    fields = []
    for place, kind, samples, label, number, codec, packed in _FIELD.findall(header):
        if place != lattice:
            continue
        if kind not in _TYPES or codec not in ("", "HxByteRLE", "HxZip"):
            raise InvalidArgument(
                "BAD_DTYPE",
                f"{name!r} has the field {label!r} of type {kind!r} {codec}: save it as bytes or shorts",
            )
        dtype = np.dtype(_TYPES[kind]).newbyteorder("<" if order == "<" else ">")
        fields.append(_Field(label, dtype, int(samples or 1), int(number), codec, int(packed or 0)))
    if not fields or any(one.samples < 1 for one in fields):
        raise InvalidArgument("NOT_A_VOLUME", f"{name!r} has no field on its lattice")
    return fields


def _choose(name: str, fields: list[_Field], dataset: str) -> _Field:
    names = ", ".join(one.name for one in fields)
    if not dataset and len(fields) > 1:
        raise InvalidArgument(
            "DATASET_MISSING", f"{name!r} has several fields: say which with `dataset` ({names})"
        )
    chosen = [one for one in fields if dataset in ("", one.name)]
    if not chosen:
        raise InvalidArgument("NO_DATASET", f"{name!r} has no field {dataset!r}: it has {names}")
    return chosen[0]


def _find(
    opening: Opening, begin: int, sizes: tuple[int, int, int], fields: list[_Field], field: _Field
) -> None:
    """Go to where a field's binary data begins; `begin` is where the first section's does."""
    opening.file.seek(begin)
    for one in sorted(fields, key=lambda one: one.number):
        if one.number == field.number:
            return
        opening.file.seek(one.packed or math.prod(sizes) * one.samples * one.dtype.itemsize, 1)
        mark = opening.file.read(32)
        match = re.match(rb"\s*@\d+[ \t]*\r?\n", mark)
        if match is None:
            raise unreadable(opening.name, f"the data of field {field.name!r} is not where it should be")
        opening.file.seek(match.end() - len(mark), 1)


def _find_text(opening: Opening, begin: bytes, field: _Field) -> None:
    section = next((one for one in _DATA.finditer(begin) if int(one[1][:9]) == field.number), None)
    if section is None:
        raise unreadable(opening.name, f"the data of field {field.name!r} is not found")
    opening.file.seek(section.end())


def _unpacked(opening: Opening, field: _Field, size: int) -> BinaryIO:
    """A file positioned where `size` raw bytes of the field begin."""
    file, options = opening.file, opening.options
    if not field.codec:
        return file
    here, end = file.tell(), file.seek(0, 2)
    if here + field.packed > end:
        raise truncated(opening.name, f"it ends after {end} of {here + field.packed} bytes")
    file.seek(here)
    if field.codec == "HxZip":
        scratch = unpack(opening.name, file, "zlib", size, options.scratch_dir, opening.resources)
    elif field.dtype.itemsize > 1:
        raise InvalidArgument(
            "BAD_DTYPE",
            f"{opening.name!r} has run-length encoded {field.dtype.name} voxels: save it as HxZip or raw",
        )
    else:
        pieces = _runs(file, field.packed, size)
        scratch = spool(opening.name, pieces, size, options.scratch_dir, opening.resources)
    scratch.seek(0)
    return scratch


def _runs(file: BinaryIO, packed: int, size: int) -> Iterator[bytes]:
    """Decode runs: a count and a value, or a count with the highest bit set and so many values.

    Raises:
        EOFError: When the encoded bytes end inside of a run.
    """
    rest, left = b"", packed
    while left:
        piece = file.read(min(_PIECE_BYTES, left))
        if not piece:
            raise EOFError("the file ends")
        left -= len(piece)
        data, out, place = rest + piece, bytearray(), 0
        end = len(data)
        while place + 1 < end:
            count = data[place]
            if count < 128:
                out += data[place + 1 : place + 2] * count
                place += 2
            else:
                after = place + 1 + (count & 127)
                if after > end:
                    break
                out += data[place + 1 : after]
                place = after
        rest = data[place:]
        yield bytes(out)
    if len(rest) > 1:
        raise EOFError("the last run is cut")


def _voxel_size(header: str, sizes: tuple[int, int, int]) -> VoxelSize | None:
    """From the bounding box, which goes from the middle of the first voxel to the middle of the last."""
    box, unit = _BOX.search(header), _UNITS.search(header)
    if box is None or unit is None:
        return None
    limits = [float(limit) for limit in re.split(r"[\s,]+", box[1])]
    x, y, z = (
        nanometres(f"{(high - low) / max(1, size - 1):.7g}", unit[1])
        for low, high, size in zip(limits[::2], limits[1::2], sizes, strict=True)
    )
    return voxel_size_of(z, y, x)
