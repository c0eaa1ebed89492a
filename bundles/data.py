"""The volumes that shipped models are trained and evaluated on; they are not part of the project."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from biosegment_trainer.learning.dataset import AnnotatedRegion
from biosegment_trainer.learning.factor import working_factor
from biosegment_trainer.learning.network import LabelClass
from biosegment_trainer.learning.normalisation import SliceStatistics
from numpy.typing import NDArray

from biosegment.volume import BACKGROUND, FIRST_CLASS, Index, Region

ROOT = Path(__file__).resolve().parents[1]
MITOCHONDRIA = LabelClass(FIRST_CLASS, "mitochondria")


@dataclass(frozen=True, slots=True)
class Stack:
    """Some slices of a data set, with the truth about one structure.

    Attributes:
        name: Of the data set, with the slices.
        raw: uint8 (z, y, x).
        truth: bool (z, y, x).
        in_plane_nm: Edge of a voxel in y and x.
    """

    name: str
    raw: NDArray[np.uint8]
    truth: NDArray[np.bool_]
    in_plane_nm: float

    @property
    def statistics(self) -> SliceStatistics:
        """Of every whole slice."""
        return SliceStatistics.of_slices(self.raw)

    def factor(self, working_resolution_nm: float) -> int:
        """Voxels per working pixel in y and x."""
        return working_factor(working_resolution_nm, self.in_plane_nm)

    def annotated(self, working_resolution_nm: float) -> AnnotatedRegion:
        """All of it as one dense annotation."""
        z, y, x = self.raw.shape
        whole = Region(Index(0, 0, 0), Index(z, y, x))
        labels = np.where(self.truth, np.uint8(FIRST_CLASS), np.uint8(BACKGROUND))
        return AnnotatedRegion(
            region_id=self.name,
            volume_id=self.name,
            region=whole,
            context=whole,
            raw=self.raw,
            labels=labels,
            scope=frozenset({FIRST_CLASS}),
            statistics=self.statistics,
            factor=self.factor(working_resolution_nm),
        )


def data_folder() -> Path:
    """Where the real volumes lie: `data` below BIOSEGMENT_SHARED, or in `shared` beside the checkout."""
    return Path(os.environ.get("BIOSEGMENT_SHARED", ROOT.parent / "shared")) / "data"


def epfl(part: str, first: int = 0, last: int = 165) -> Stack:
    """Slices of EPFL CVLab's CA1 hippocampus, FIB-SEM, 5 nm; `part` is train or test."""
    folder = data_folder() / "epfl"
    raw = tifffile.imread(folder / f"{part}_raw.tif")[first:last]
    truth = tifffile.imread(folder / f"{part}_mito.tif")[first:last] > 0
    return Stack(f"EPFL {part} {first}-{last - 1}", raw, truth, 5.0)


def vnc(first: int, last: int, target: str = "mito") -> Stack:
    """Sections of the Drosophila larva ventral nerve cord, ssTEM, 4.6 nm in plane; `target` is mito or membranes."""
    folder = data_folder() / "vnc"
    raw = tifffile.imread(folder / "raw.tif")[first:last]
    truth = tifffile.imread(folder / f"{target}.tif")[first:last] > 0
    return Stack(f"VNC {first}-{last - 1}", raw, truth, 4.6)
