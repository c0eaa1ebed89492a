"""The volume that the demo runs on: a file with ground truth, or a synthetic one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from biosegment.errors import InvalidArgument
from biosegment.synthetic import generate
from biosegment.volume import Region, VoxelSize

DEFAULT_VOXEL_SIZE = VoxelSize(5.0, 5.0, 5.0)
GAP_SLICES = 4
"""Slices between the part that samples come from and the held-out part, so that neighbours do not leak."""


@dataclass(frozen=True, slots=True)
class DemoData:
    """A volume with ground truth.

    Attributes:
        raw_path: File to import.
        truth: (z, y, x) bool, what is to be found.
        held_out: Last fifth of the slices: never proposed, only evaluated on.
        excluded: The held-out part and the gap before it.
        is_synthetic: Made by the project; a figure on it says nothing about real tissue.
    """

    raw_path: Path
    truth: NDArray[np.bool_]
    is_synthetic: bool

    @property
    def held_out(self) -> Region:
        depth, height, width = self.truth.shape
        return Region((depth - max(1, depth // 5), 0, 0), (depth, height, width))  # type: ignore[arg-type]

    @property
    def excluded(self) -> Region:
        z, y, x = self.held_out.start
        return Region((max(1, z - GAP_SLICES), y, x), self.held_out.stop)  # type: ignore[arg-type]


def load(raw: Path | None, labels: Path | None, folder: Path, seed: int) -> DemoData:
    """Open the given files, or write a synthetic volume into `folder`.

    Raises:
        InvalidArgument: when only one file is given, or shapes differ, or there is nothing to find.
    """
    if raw is None and labels is None:
        image, mask = generate(seed=seed)
        path = folder / "synthetic_raw.tif"
        tifffile.imwrite(path, image, compression="zlib")
        return DemoData(path, mask > 0, is_synthetic=True)
    if raw is None or labels is None:
        raise InvalidArgument("ONE_FILE", "give both RAW and LABELS, or neither for a synthetic volume")
    for path in (raw, labels):
        if not path.is_file():
            raise InvalidArgument("NO_FILE", f"there is no file {path}")
    truth = tifffile.imread(labels) > 0
    if truth.ndim != 3:
        raise InvalidArgument("BAD_LABELS", f"{labels} has {truth.ndim} axes; a stack (z, y, x) is needed")
    with tifffile.TiffFile(raw) as file:
        shape = file.series[0].shape
    if shape != truth.shape:
        raise InvalidArgument(
            "SHAPES_DIFFER", f"{raw.name} is {shape} but {labels.name} is {truth.shape} (z, y, x)"
        )
    data = DemoData(raw.resolve(), truth, is_synthetic=False)
    z = data.excluded.start.z
    if not truth[:z].any() or not truth[data.held_out.slices].any():
        raise InvalidArgument(
            "NOTHING_TO_FIND", f"{labels} marks nothing in slices 0..{z} or in the held-out part"
        )
    return data
