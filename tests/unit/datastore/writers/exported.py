"""An asymmetric volume, and files that the writers made of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from biosegment_datastore.formats.writers.catalogue import BY_KEY
from biosegment_datastore.formats.writers.target import ExportClass, ExportFrame

from biosegment.volume import Index, Region, VoxelSize

SHAPE = Index(45, 151, 330)
REGION = Region(Index(2, 3, 5), Index(39, 134, 307))
"""(37, 131, 302): every axis another size, none a whole number of chunks."""

VOXEL_SIZE = VoxelSize(30.0, 4.6, 5.2)
ORIGIN_NM = (60.0, 13.8, 26.0)
CLASSES = (ExportClass(2, "mitochondria", 0xFF8000), ExportClass(4, "Membran, außen", 0x0080FF))
IMAGE_TYPES = ("uint8", "uint16", "int16", "float32")


@dataclass(frozen=True)
class ArrayVoxels:
    """An array in memory as what is exported."""

    array: Any

    @property
    def dtype(self) -> Any:
        return self.array.dtype

    def read(self, region: Region) -> Any:
        region.require_within(self.array.shape, "the array")
        return self.array[region.slices]


def image(dtype: str) -> Any:
    """Grey values over the whole range of a type."""
    rng = np.random.default_rng(5)
    if dtype == "float32":
        return rng.normal(0, 1e3, SHAPE).astype(np.float32)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, SHAPE, dtype, endpoint=True)


def labels(dtype: str = "uint8") -> Any:
    """0, 2 and 4, in blobs that are not symmetric either; larger ids in the larger types."""
    z, y, x = np.indices(SHAPE)
    found = np.zeros(SHAPE, dtype)
    found[(z // 3 + y // 7) % 4 == 1] = 2
    found[(y // 5 + x // 11) % 5 == 2] = 4
    if dtype != "uint8":
        found[(z + 2 * y + 3 * x) % 97 == 0] = np.iinfo(dtype).max - 7
    return found


FRAME = ExportFrame(REGION, VOXEL_SIZE, ORIGIN_NM, "brain", "projects/em/volumes/brain, a part of it")
LABELS_FRAME = replace(FRAME, is_labels=True, classes=CLASSES)
INSTANCES_FRAME = replace(FRAME, is_labels=True)


def written(folder: Path, key: str, array: Any, frame: ExportFrame = FRAME) -> Path:
    """A file of a format, with the name that the platform gives it."""
    kind = BY_KEY[key]
    kind.require(array.dtype.name, frame.is_labels)
    path = folder / f"brain{kind.suffix_of(bool(frame.classes))}"
    seen: list[tuple[int, int]] = []
    kind.writer()(path, ArrayVoxels(array), frame, lambda done, total: seen.append((done, total)))
    totals = {total for _, total in seen}
    assert len(totals) == 1
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == seen[-1][1]
    return path


def cut_out(array: Any) -> Any:
    """What must be in the file."""
    return array[REGION.slices]
