from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biosegment.volume import BlockGrid, Index, Region

SHAPES = st.builds(Index, *[st.integers(1, 12)] * 3)
GRIDS = st.builds(BlockGrid, SHAPES, st.builds(Index, *[st.integers(1, 7)] * 3))


@given(GRIDS)
def test_blocks_cover_every_voxel_once_and_none_outside(grid: BlockGrid) -> None:
    covered = np.zeros(grid.shape, int)
    for block in grid:
        block.require_within(grid.shape, "the array")
        covered[block.slices] += 1
    assert (covered == 1).all()


@given(GRIDS)
def test_blocks_are_numbered_in_c_order(grid: BlockGrid) -> None:
    blocks = list(grid)
    assert len(blocks) == len(grid) == np.prod(grid.counts)
    assert [grid[number] for number in range(len(grid))] == blocks
    assert sorted(blocks) == blocks


@given(GRIDS, st.data())
def test_overlapping_blocks_are_those_that_share_a_voxel(grid: BlockGrid, data: st.DataObject) -> None:
    start = Index(*(data.draw(st.integers(0, size - 1)) for size in grid.shape))
    stop = Index(
        *(data.draw(st.integers(low + 1, size)) for low, size in zip(start, grid.shape, strict=True))
    )
    region = Region(start, stop)
    expected = [number for number, block in enumerate(grid) if block.overlaps(region)]
    assert list(grid.overlapping(region)) == expected


@given(GRIDS)
def test_a_number_beyond_the_grid_is_refused(grid: BlockGrid) -> None:
    for number in (-1, len(grid)):
        with pytest.raises(IndexError):
            grid[number]
