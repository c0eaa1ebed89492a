"""MRC2014, as CCP-EM describes it and IMOD reads it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import numpy as np

from biosegment_datastore.formats.writers.target import (
    ExportFrame,
    ExportSource,
    Progress,
    Voxels,
    little_endian,
    runs,
)

# Bytes are signed in MRC2014 and were unsigned before; readers disagree to this day. 16 bits mean the same everywhere.
_STORED: Final = {
    "int8": (0, "int8"),
    "uint8": (6, "uint16"),
    "int16": (1, "int16"),
    "uint16": (6, "uint16"),
    "float32": (2, "float32"),
}

_HEADER = np.dtype(
    [
        ("size_xyz", "<i4", 3),
        ("mode", "<i4"),
        ("start_xyz", "<i4", 3),
        ("intervals_xyz", "<i4", 3),
        ("cell_xyz", "<f4", 3),
        ("angles", "<f4", 3),
        ("axes", "<i4", 3),
        ("minimum", "<f4"),
        ("maximum", "<f4"),
        ("mean", "<f4"),
        ("space_group", "<i4"),
        ("extended_bytes", "<i4"),
        ("extra1", "V8"),
        ("extended_type", "S4"),
        ("version", "<i4"),
        ("extra2", "V84"),
        ("origin_xyz", "<f4", 3),
        ("map", "S4"),
        ("machine_stamp", "u1", 4),
        ("deviation", "<f4"),
        ("label_count", "<i4"),
        ("labels", "S80", 10),
    ]
)
assert _HEADER.itemsize == 1024

_IMOD_STAMP = 1146047817
_SIGNED_BYTES = 1

_PIECE_VOXELS = 1 << 20
"""Doubles of so many voxels still are in the processor's cache."""


class _Statistics:
    """Minimum, maximum, mean and deviation of what passes by."""

    def __init__(self) -> None:
        self._count, self._sum, self._squares = 0, 0.0, 0.0
        self._minimum, self._maximum = math.inf, -math.inf

    def add(self, voxels: Voxels) -> None:
        flat = voxels.reshape(-1)
        for start in range(0, flat.size, _PIECE_VOXELS):
            values = flat[start : start + _PIECE_VOXELS].astype(np.float64)
            self._count += values.size
            self._sum += float(values.sum())
            self._squares += float(np.square(values, out=values).sum())
        self._minimum = min(self._minimum, float(voxels.min()))
        self._maximum = max(self._maximum, float(voxels.max()))

    def fill(self, header: Any) -> None:
        mean = self._sum / self._count
        header["minimum"], header["maximum"], header["mean"] = self._minimum, self._maximum, mean
        header["deviation"] = math.sqrt(max(self._squares / self._count - mean * mean, 0.0))


def write(path: Path, source: ExportSource, frame: ExportFrame, progress: Progress) -> None:
    """Write an image stack as one volume: cell and origin in ångström.

    uint8 is stored as uint16, exactly.

    Raises:
        OSError: The disk is full, among others.
    """
    mode, stored = _STORED[source.dtype.name]
    kind, statistics = little_endian(np.dtype(stored)), _Statistics()
    header = _header(mode, frame)
    with path.open("wb") as file:
        file.write(header.tobytes())
        for part in runs(source, frame, progress):
            statistics.add(part)
            file.write(np.ascontiguousarray(part, kind).data)
        statistics.fill(header)
        file.seek(0)
        file.write(header.tobytes())


def _header(mode: int, frame: ExportFrame) -> Any:
    header = np.zeros((), _HEADER)
    header["size_xyz"] = header["intervals_xyz"] = frame.shape[::-1]
    header["mode"] = mode
    header["cell_xyz"] = [
        edge * size / 0.1 for edge, size in zip(reversed([*frame.voxel_size]), frame.shape[::-1], strict=True)
    ]
    header["angles"], header["axes"], header["space_group"] = 90, (1, 2, 3), 1
    header["version"], header["map"], header["machine_stamp"] = 20140, b"MAP ", (0x44, 0x44, 0, 0)
    header["origin_xyz"] = [offset / 0.1 for offset in reversed(frame.origin_nm)]
    # IMOD's own word on bytes, in its place in the extra space (bytes 152 to 159 of the file).
    extra = bytearray(84)
    extra[40:48] = np.array([_IMOD_STAMP, _SIGNED_BYTES], "<i4").tobytes()
    header["extra2"] = bytes(extra)
    text = f"{frame.name}: {frame.description}".encode("ascii", "replace")
    lines = [text[start : start + 80] for start in range(0, min(len(text), 320), 80)]
    header["label_count"] = len(lines)
    header["labels"][: len(lines)] = lines
    return header
