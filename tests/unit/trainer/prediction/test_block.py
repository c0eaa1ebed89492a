from __future__ import annotations

from collections import Counter

import pytest
from biosegment_trainer.learning.frame import Frame, default_tiling
from biosegment_trainer.learning.network import NetworkConfig
from biosegment_trainer.learning.slab import bands
from biosegment_trainer.learning.tiling import default_tile
from biosegment_trainer.prediction.block import BlockPlan, VolumeBlocks

from biosegment.storage.layout import ArrayLayout
from biosegment.volume import Index, Region
from tests.unit.trainer.learning.conftest import untrained

SHAPES = [(1, 160, 160), (40, 1100, 2150), (300, 513, 700)]


def objects(blocks: VolumeBlocks, number: int, downsampling: Index, layout: tuple[Index, Index]):
    """Objects of a layer that a block is written to, in an array as the datastore makes it."""
    shape = tuple(-(-size // factor) for size, factor in zip(blocks.shape, downsampling, strict=True))
    made = ArrayLayout(tuple(layout[1]), tuple(layout[0])).clamped(shape)
    return list(blocks.shards(number, downsampling, Index(*made.shard)))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("factor", "tile"),
    [
        *((factor, tile) for factor in (1, 2, 3, 5) for tile in ((1, 1024, 1024), (64, 256, 256))),
        *((factor, default_tile(dims, factor)) for factor in (8, 9, 16, 17, 32) for dims in (2, 3)),
    ],
)
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


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("factor", range(1, 33))
def test_no_factor_makes_a_block_or_what_is_read_of_it_larger(factor, dims):
    tile = default_tile(dims, factor)
    plan = BlockPlan.of(factor, Region.of_shape((4096, 16384, 16384)), tile)
    z, y, x = plan.block
    # Labels, one byte a voxel.
    assert z * y * x <= 64 << 20
    model = untrained(NetworkConfig(spatial_dims=dims))
    tiling = default_tiling([model], factor)
    tiling.require_stride(model.network.stride)
    assert all(
        edge % (whole * down) == 0
        for edge, whole, down in zip(plan.block, tiling.tile, (1, factor, factor), strict=True)
    )
    block = Region(Index(z, y, x), Index(2 * z, 2 * y, 2 * x))
    reads = Frame.of(block, Index(4096, 16384, 16384), factor, tiling, model.network, 1).reads
    slab = Region(reads.start, Index(reads.start.z + 16, reads.stop.y, reads.stop.x))
    parts = bands(slab, factor)
    assert max(part.size for part in parts) <= 96 << 20
    assert (len(parts) == 1) == (slab.size <= 96 << 20)
    assert sum(part.size for part in parts) == slab.size
    assert all((part.start.y - slab.start.y) % factor == 0 for part in parts)
    for (chunk, shard), down in (
        (plan.labels_layout, Index(1, 1, 1)),
        (plan.probabilities_layout, plan.probabilities_downsampling),
        (plan.scores_layout, plan.scores_downsampling),
    ):
        ArrayLayout(tuple(shard), tuple(chunk))
        assert all(
            edge % (step * part) == 0 for edge, step, part in zip(plan.block, down, shard, strict=True)
        )


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
