"""A small synthetic tissue: dark discs that a threshold cannot find, because stripes are as dark."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from biosegment_trainer.learning.dataset import AnnotatedRegion
from biosegment_trainer.learning.network import LabelClass, NetworkConfig, NetworkModel
from biosegment_trainer.learning.normalisation import SliceStatistics
from numpy.typing import NDArray

from biosegment.volume import Index, Region

DISC = LabelClass(2, "disc")
TINY = NetworkConfig.unet(channels=(8, 16, 32), strides=(2, 2), num_res_units=1)


@dataclass(frozen=True)
class Tissue:
    raw: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    statistics: SliceStatistics

    def annotate(self, region: Region, **changes: object) -> AnnotatedRegion:
        context = region.padded((0, 32, 32), Region.of_shape(self.raw.shape))
        arguments: dict[str, object] = {
            "region_id": str(region),
            "volume_id": "tissue",
            "region": region,
            "context": context,
            "raw": self.raw[context.slices],
            "labels": self.labels[region.slices],
            "scope": frozenset({2}),
            "statistics": self.statistics[region.start.z : region.stop.z],
            "factor": 2,
        }
        return AnnotatedRegion(**(arguments | changes))  # type: ignore[arg-type]


def make_tissue(depth: int, size: int, seed: int) -> Tissue:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    raw = np.empty((depth, size, size), np.uint8)
    labels = np.ones((depth, size, size), np.uint8)
    for z in range(depth):
        image = np.full((size, size), 150.0)
        image[(x + 3 * z + y // 3) % 48 < 6] = 90
        for _ in range(size * size // 4096):
            cy, cx, r = rng.uniform(12, size - 12), rng.uniform(12, size - 12), rng.uniform(8, 14)
            inside = (y - cy) ** 2 + (x - cx) ** 2 < r * r
            image[inside] = 90
            labels[z][inside] = 2
        flicker = rng.uniform(-25, 25)
        raw[z] = np.clip(image + flicker + rng.normal(0, 15, image.shape), 0, 255)
    return Tissue(raw, labels, SliceStatistics.of_slices(raw))


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tissue() -> Tissue:
    return make_tissue(depth=8, size=256, seed=7)


@pytest.fixture(scope="session")
def other_tissue() -> Tissue:
    return make_tissue(depth=2, size=256, seed=99)


@pytest.fixture(name="annotations")
def eight_annotations(tissue: Tissue) -> list[AnnotatedRegion]:
    starts = [Index(z, 64 * (z % 3), 64 * (z * 2 % 3)) for z in range(8)]
    return [tissue.annotate(Region.of_shape((1, 128, 128), start)) for start in starts]


def untrained(
    network: NetworkConfig = TINY, classes: tuple[LabelClass, ...] = (DISC,), seed: int = 0
) -> NetworkModel:
    """Random weights, with batch statistics that are not those of a fresh layer either."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = network.build(len(classes))
        weights = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
        for name, tensor in weights.items():
            if name.endswith("running_mean"):
                tensor.normal_(0, 0.1)
            elif name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
    return NetworkModel(network, classes, weights)


@pytest.fixture
def make_model():
    return untrained


@pytest.fixture
def tiny_network() -> NetworkConfig:
    return TINY


@pytest.fixture
def disc() -> LabelClass:
    return DISC
