"""A simulated annotator, who draws what the truth says, and how long that would take a person."""

from __future__ import annotations

from typing import Final

import numpy as np
from biosegment_trainer.learning.dataset import AnnotatedRegion
from numpy.typing import NDArray

from biosegment.volume import BACKGROUND, FIRST_CLASS, Index, Region
from bundles.data import Stack

LOOK_S: Final = 5.0
"""To find one's way in a patch, also in an empty one: an assumption."""
OBJECT_S: Final = 79.2
"""To outline one object: 22 hours for 1000 objects, T.-Y. Lin et al., Microsoft COCO, ECCV 2014, arXiv 1405.0312."""
OBJECT_UM: Final = 1.1
"""Outline along voxel edges of a mitochondrion in one slice, the mean of both data sets' training truths (1.16 and 1.04
µm): drawing a part of one takes a part of the time."""


def annotation_seconds(truth: NDArray[np.bool_], in_plane_nm: float) -> float:
    """What a person would need for bool (z, y, x), in s: a look, and the drawing of all outlines.

    A model, not a measurement: nobody was timed.
    """
    edges = sum(int(np.count_nonzero(np.diff(truth, axis=axis))) for axis in (1, 2))
    return LOOK_S * len(truth) + OBJECT_S * edges * in_plane_nm / 1000 / OBJECT_UM


class Annotator:
    """Draws in one stack.

    Args:
        stack: With the truth.
        factor: Level-0 voxels per working pixel.
        margin: Voxels around a sample that the network sees in training, without labels.
    """

    def __init__(self, stack: Stack, factor: int, margin: int) -> None:
        self._stack, self._factor, self._margin = stack, factor, margin
        self._statistics = stack.statistics

    def annotate(self, regions: list[Region]) -> list[AnnotatedRegion]:
        """The labels of some regions."""
        whole = Region(Index(0, 0, 0), Index(*self._stack.raw.shape))
        found = []
        for region in regions:
            context = region.padded((0, self._margin, self._margin), whole)
            truth = self._stack.truth[region.slices]
            found.append(
                AnnotatedRegion(
                    region_id=str(region),
                    volume_id=self._stack.name,
                    region=region,
                    context=context,
                    raw=self._stack.raw[context.slices],
                    labels=np.where(truth, np.uint8(FIRST_CLASS), np.uint8(BACKGROUND)),
                    scope=frozenset({FIRST_CLASS}),
                    statistics=self._statistics[context.start.z : context.stop.z],
                    factor=self._factor,
                )
            )
        return found

    def foreground_voxels(self, regions: list[Region]) -> int:
        """In the truth of some regions."""
        return sum(int(np.count_nonzero(self._stack.truth[region.slices])) for region in regions)

    def seconds(self, regions: list[Region]) -> float:
        """What a person would need for them."""
        return sum(
            annotation_seconds(self._stack.truth[region.slices], self._stack.in_plane_nm)
            for region in regions
        )
