"""Models of Microscopy Image Browser 2: a MATLAB 7.3 file, which is HDF5 behind 512 bytes of MATLAB's own."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np

from biosegment.storage.layout import DEFAULT_CHUNK
from biosegment.volume import BlockGrid
from biosegment_datastore.formats.writers.hdf5 import GZIP_LEVEL
from biosegment_datastore.formats.writers.target import (
    ExportFrame,
    ExportSource,
    Progress,
    block_edges,
    little_endian,
    slices_done,
)

VARIABLE: Final = "mibModel"
_USER_BLOCK_BYTES = 512
_TYPES: Final = {"uint8": 255, "uint16": 65535, "uint32": 4294967295}
_LAST_OF_SMALLEST = 63
_COLORS = 65535


def write(path: Path, source: ExportSource, frame: ExportFrame, progress: Progress) -> None:
    """Write the model with the names and colours of its materials, and the bounding box in µm.

    MIB counts materials by their place in the list, so that values without a class get a material too. Its array is
    (height, width, depth) in MATLAB's order, which is (z, x, y) in HDF5's.

    Raises:
        OSError: The disk is full, among others.
    """
    depth, height, width = frame.shape
    with h5py.File(path, "w", libver="earliest", userblock_size=_USER_BLOCK_BYTES) as file:
        chunks = tuple(
            min(edge, size) for edge, size in zip(DEFAULT_CHUNK, (depth, width, height), strict=True)
        )
        data = file.create_dataset(
            VARIABLE,
            (depth, width, height),
            little_endian(source.dtype),
            chunks=chunks,
            compression="gzip",
            compression_opts=GZIP_LEVEL,
        )
        data.attrs["MATLAB_class"] = np.bytes_(source.dtype.name)
        _describe(file, source, frame)
        grid = BlockGrid(frame.shape, block_edges(frame.shape))
        for number, box in enumerate(grid):
            voxels = source.read(box.shifted(frame.region.start))
            z, y, x = box.slices
            data[z, x, y] = voxels.transpose(0, 2, 1)
            progress(slices_done(grid, number), depth)
    with path.open("r+b") as raw:
        raw.write(_user_block())


def _describe(file: Any, source: ExportSource, frame: ExportFrame) -> None:
    materials = frame.named_values()
    model_type = _TYPES[source.dtype.name]
    if source.dtype == np.uint8 and len(materials) <= _LAST_OF_SMALLEST:
        model_type = _LAST_OF_SMALLEST
    names = [each.name for each in materials]
    colors: Any = [each.unit_rgb for each in materials] or np.zeros((0, 3))
    if model_type > _TYPES["uint8"]:
        # Models of many materials have numbers for names, of which MIB shows two, and a table of any colours.
        names = ["1", "2"]
        colors = np.random.default_rng(0).random((_COLORS, 3)).round(5)
    _write_numbers(file, "modelType", [[model_type]])
    _write_text(file, "modelVariable", VARIABLE)
    _write_cells(file, "modelMaterialNames", names)
    _write_numbers(file, "modelMaterialColors", colors)
    box = []
    for axis in (2, 1, 0):
        start, edge = frame.origin_nm[axis] / 1000, [*frame.voxel_size][axis] / 1000
        # As MIB computes it, after Amira: from the first voxel's place to the last one's; a single slice is one thick.
        box += [start, start + edge * max(frame.shape[axis] - 1, 1)]
    _write_numbers(file, "BoundingBox", [[float(f"{end:.12g}") for end in box]])


def _write_numbers(place: Any, name: str, rows: Any) -> None:
    matrix = np.asarray(rows, np.float64)
    if matrix.size:
        made = place.create_dataset(name, data=np.ascontiguousarray(matrix.T))
    else:
        # An empty matrix is its own shape, and marked as such.
        made = place.create_dataset(name, data=np.array(matrix.shape, np.uint64))
        made.attrs["MATLAB_empty"] = np.uint8(1)
    made.attrs["MATLAB_class"] = np.bytes_("double")


def _write_text(place: Any, name: str, text: str) -> Any:
    units = np.frombuffer(text.encode("utf-16-le"), "<u2")
    made = place.create_dataset(name, data=units[:, None])
    made.attrs["MATLAB_class"] = np.bytes_("char")
    made.attrs["MATLAB_int_decode"] = np.int32(2)
    return made


def _write_cells(file: Any, name: str, texts: list[str]) -> None:
    """A column of texts: references to what lies in MATLAB's own group."""
    texts = texts or ["1"]
    group = file.require_group("#refs#")
    references = [_write_text(group, f"{name}{number}", text).ref for number, text in enumerate(texts)]
    made = file.create_dataset(name, (1, len(references)), dtype=h5py.ref_dtype)
    made[0, :] = references
    made.attrs["MATLAB_class"] = np.bytes_("cell")


def _user_block() -> bytes:
    text = (
        f"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: {datetime.now(UTC):%a %b %d %H:%M:%S %Y} "
        "HDF5 schema 1.00 ."
    )
    header = text.encode().ljust(116) + bytes(8) + struct.pack("<H", 0x0200) + b"IM"
    return header.ljust(_USER_BLOCK_BYTES, b"\0")
