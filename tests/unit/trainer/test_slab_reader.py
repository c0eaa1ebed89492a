from __future__ import annotations

import numpy as np
import pytest
from biosegment_trainer.compute.task import VolumeArray
from biosegment_trainer.learning.normalisation import SliceStatistics
from biosegment_trainer.learning.prediction import PredictionConfig, Predictor
from biosegment_trainer.learning.tiling import TilingConfig
from biosegment_trainer.prediction import slab
from biosegment_trainer.prediction.slab import SlabReader

from biosegment.volume import Index, Region
from tests.unit.trainer.learning.conftest import untrained

SHAPE = (70, 70, 101)
IMAGE = np.random.default_rng(4).integers(0, 255, SHAPE).astype(np.uint8)


class Shelf:
    """Voxels in memory, and the regions that somebody read."""

    def __init__(self) -> None:
        self.regions: list[Region] = []

    def read(self, region: Region):
        region.require_within(SHAPE, "the volume")
        self.regions.append(region)
        return IMAGE[region.slices]


@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize(
    "corners", [((0, 0, 0), SHAPE), ((3, 32, 64), (40, 64, 101)), ((69, 32, 32), (70, 64, 64))]
)
@pytest.mark.parametrize(("key", "limit"), [("here", 1 << 30), ("", 1 << 30), ("", 1), ("", 300_000)])
def test_a_block_is_read_once_with_what_its_tiles_see_and_in_slabs_as_deep_as_memory_allows(
    monkeypatch: pytest.MonkeyPatch, factor, corners, key, limit
):
    monkeypatch.setattr(slab, "_SLAB_BYTES", limit)
    part = Region(Index(*corners[0]), Index(*corners[1]))
    config = PredictionConfig(factor=factor, tiling=TilingConfig.flat(64, 16), backend="eager")
    volume = VolumeArray("projects/p/volumes/v", key, SHAPE, 1, (), ())
    statistics = SliceStatistics(IMAGE.mean((1, 2)), IMAGE.std((1, 2)))
    predictor, shelf = Predictor(untrained(), config), Shelf()
    reader = SlabReader(shelf, volume, predictor)
    reader.move_to(part)
    seen = list(predictor.predict(reader.read, part, SHAPE, statistics))
    direct = list(predictor.predict(lambda region: IMAGE[region.slices], part, SHAPE, statistics))
    for one, other in zip(seen, direct, strict=True):
        assert np.array_equal(one.probabilities, other.probabilities)
    # No slice twice, none outside of the block, and nothing beyond the tiles' halos.
    planes = [z for region in shelf.regions for z in range(region.start.z, region.stop.z)]
    assert planes == list(range(part.start.z, part.stop.z))
    reach = (64 + 16) * factor
    for region in shelf.regions:
        assert part.padded((0, reach, reach), Region.of_shape(SHAPE)).contains(region)
        assert region.shape.z <= 16 or (not key and region.size <= limit)
    if not key and limit == 1 << 30:
        assert len(shelf.regions) == 1
