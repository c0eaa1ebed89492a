"""AmiraMesh: a uniform lattice, binary."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from biosegment_datastore.formats.writers.target import (
    ExportFrame,
    ExportSource,
    Progress,
    little_endian,
    runs,
)

_TYPES: Final = {"uint8": "byte", "int16": "short", "uint16": "ushort", "float32": "float"}


def write(path: Path, source: ExportSource, frame: ExportFrame, progress: Progress) -> None:
    """Write a lattice with its bounding box in nm; labels carry their classes as materials.

    Amira counts materials by their place in the list, so that values without a class get a material too.

    Raises:
        OSError: The disk is full, among others.
    """
    kind = little_endian(source.dtype)
    with path.open("wb") as file:
        file.write(("\n".join(_header(source, frame)) + "\n").encode("ascii", "replace"))
        for part in runs(source, frame, progress):
            file.write(np.ascontiguousarray(part, kind).data)
        file.write(b"\n")


def _header(source: ExportSource, frame: ExportFrame) -> Iterator[str]:
    size = " ".join(str(size) for size in frame.shape[::-1])
    primitive = _TYPES[source.dtype.name]
    yield "# AmiraMesh BINARY-LITTLE-ENDIAN 2.1"
    yield ""
    yield f"define Lattice {size}"
    yield ""
    yield "Parameters {"
    if frame.is_labels:
        yield "    Materials {"
        yield "        Exterior {"
        yield "            Id 1,"
        yield "            Color 0 0 0"
        yield "        }"
        for each in frame.named_values():
            yield f"        {_identifier(each.name)} {{"
            yield f"            Id {each.value + 1},"
            yield "            Color " + " ".join(f"{part:g}" for part in each.unit_rgb)
            yield "        }"
        yield "    }"
    yield f'    Content "{size.replace(" ", "x")} {primitive}, uniform coordinates",'
    yield f'    Description "{_quoted(frame.name)}: {_quoted(frame.description)}",'
    yield f"    BoundingBox {_bounding_box(frame)},"
    yield "    Units {"
    yield '        Coordinates "nm"'
    yield "    }"
    yield '    CoordType "uniform"'
    yield "}"
    yield ""
    yield f"Lattice {{ {primitive} {'Labels' if frame.is_labels else 'Data'} }} @1"
    yield ""
    yield "# Data section follows"
    yield "@1"


def _bounding_box(frame: ExportFrame) -> str:
    """From the centre of the first voxel to that of the last; a single slice is given its thickness."""
    ends = []
    for axis in (2, 1, 0):
        start, edge = frame.origin_nm[axis], [*frame.voxel_size][axis]
        ends += [start, start + edge * max(frame.shape[axis] - 1, 1)]
    return " ".join(f"{end:.12g}" for end in ends)


def _identifier(name: str) -> str:
    """A name without what ends one in this format."""
    plain = "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "-_.") else "_" for letter in name
    )
    return plain if plain[:1].isalpha() else f"Class_{plain}"


def _quoted(text: str) -> str:
    return " ".join(text.replace('"', "'").replace("\\", "/").split())
