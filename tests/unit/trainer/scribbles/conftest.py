"""A small synthetic tissue: dark discs among stripes that are as dark, so that no threshold finds them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray


@dataclass(frozen=True)
class Tissue:
    """image: float32 (z, y, x), normalised; truth: uint8, 1 and 2."""

    image: NDArray[np.float32]
    truth: NDArray[np.uint8]

    def strokes(self, *slices: int) -> NDArray[np.uint8]:
        """What someone paints: a cross in two discs, lines beside them and along a stripe."""
        found = np.zeros(self.truth.shape, np.uint8)
        for z in slices:
            for cy, cx in ((40, 60), (120, 140)):
                found[z, cy, cx - 7 : cx + 8] = found[z, cy - 7 : cy + 8, cx] = 2
            found[z, 20, 10:170] = found[z, 10:170, 100] = found[z, 150, 20:110] = 1
            found[z][self.truth[z] == 2] *= found[z][self.truth[z] == 2] == 2
        return found


def make_tissue(depth: int, size: int = 192) -> Tissue:
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:size, :size]
    image = np.empty((depth, size, size), np.float32)
    truth = np.ones((depth, size, size), np.uint8)
    for z in range(depth):
        plane = np.where((x + 3 * z + y // 3) % 48 < 5, -1.0, 1.0)
        for cy, cx in ((40, 60), (120, 140), (160, 40), (60, 150), (100, 30)):
            inside = (y - cy - z) ** 2 + (x - cx + z) ** 2 < 13**2
            plane[inside] = -1.0
            truth[z][inside] = 2
        image[z] = plane + rng.normal(0, 0.4, plane.shape)
    return Tissue(image, truth)


@pytest.fixture(scope="session")
def tissue() -> Tissue:
    return make_tissue(3)


def iou(labels: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    found, wanted = labels == 2, truth == 2
    return float((found & wanted).sum() / (found | wanted).sum())


@pytest.fixture(name="iou")
def iou_of_class_2():
    return iou
