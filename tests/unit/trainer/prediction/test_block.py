from __future__ import annotations

from collections import Counter

import pytest
from biosegment_trainer.prediction.block import BlockPlan, VolumeBlocks

from biosegment.storage.layout import ArrayLayout
from biosegment.volume import Index, Region

SHAPES = [(1, 160, 160), (40, 1100, 2150), (300, 513, 700)]


def objects(blocks: VolumeBlocks, number: int, downsampling: Index, layout: tuple[Index, Index]):
    """Objects of a layer that a block is written to, in an array as the datastore makes it."""
    shape = tuple(-(-size // factor) for size, factor in zip(blocks.shape, downsampling, strict=True))
    made = ArrayLayout(tuple(layout[1]), tuple(layout[0])).clamped(shape)
    return list(blocks.shards(number, downsampling, Index(*made.shard)))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("factor", [1, 2, 3, 5])
@pytest.mark.parametrize("tile", [(1, 1024, 1024), (64, 256, 256)])
def test_no_two_blocks_write_the_same_object_and_together_they_write_all(shape, factor, tile):
    plan = BlockPlan.of(factor, Region.of_shape(shape), tile)
    assert plan.block.z % tile[0] == plan.block.y % (tile[1] * factor) == 0
    blocks = VolumeBlocks(Index(*shape), plan)
    for downsampling, layout in (
        (Index(1, 1, 1), plan.labels_layout),
        (plan.probabilities_downsampling, plan.probabilities_layout),
        (plan.scores_downsampling, plan.scores_layout),
    ):
        found = Counter(
            name for number in blocks.numbers() for name in objects(blocks, number, downsampling, layout)
        )
        assert set(found.values()) == {1}
        # As many as the array has.
        sizes = [-(-size // factor) for size, factor in zip(shape, downsampling, strict=True)]
        made = ArrayLayout(tuple(layout[1]), tuple(layout[0])).clamped(tuple(sizes))
        rows = [-(-size // edge) for size, edge in zip(sizes, made.shard, strict=True)]
        assert len(found) == rows[0] * rows[1] * rows[2]


@pytest.mark.parametrize("shape", SHAPES)
def test_blocks_cover_a_region_once(shape):
    region = Region(Index(0, 37, 50), Index(1, 150, 160))
    blocks = VolumeBlocks(Index(*shape), BlockPlan.of(2, region))
    assert sum(blocks.written(number).size for number in blocks.numbers()) == region.size
    for number in blocks.numbers():
        assert blocks.computed(number).contains(blocks.written(number))
        assert blocks.grid[number].contains(blocks.computed(number))
        assert blocks.computed(number).start.y % 32 == 0


def test_a_block_costs_its_working_pixels():
    blocks = VolumeBlocks(Index(3, 101, 64), BlockPlan.of(2, Region.of_shape((3, 101, 64))))
    assert [blocks.pixels(number) for number in blocks.numbers()] == [3 * 51 * 32]
