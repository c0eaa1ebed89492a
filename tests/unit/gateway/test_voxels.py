"""Levels of layers that are sampled from the stored one, whatever the shapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from biosegment_gateway.viewing.exhibit import Exhibit, Kind, Location, ShownLevel, layer_levels
from biosegment_gateway.viewing.voxels import Voxels

from biosegment.auth import Kind as Caller
from biosegment.auth import Principal
from biosegment.errors import NotFound
from biosegment.settings import ObjectStoreSettings
from biosegment.storage.arrays import Arrays
from biosegment.volume import Index, Region, VoxelSize

ADA = Principal(Caller.USER, "ada")
SHAPE = Index(11, 39, 53)
FACTORS = ((1, 1, 1), (1, 2, 2), (1, 4, 4), (2, 8, 8), (4, 16, 16))


class Nowhere:
    async def read_region(self, principal, name, level, region, *, with_edits):
        raise AssertionError("the object storage has it")


def volume() -> Exhibit:
    levels = tuple(
        ShownLevel(
            str(number),
            Index(*(-(-size // part) for size, part in zip(SHAPE, factor, strict=True))),
            Index(*factor),
        )
        for number, factor in enumerate(FACTORS)
    )
    source = Location("volumes/v", "1", True)
    return Exhibit("projects/p/volumes/v", "v", Kind.IMAGE, "uint8", levels, VoxelSize(30, 8, 8), source, "1")


def layer(downsampling: Index, shape: Index, key: str, max_sampling: int = 512) -> Exhibit:
    levels = layer_levels(shape, downsampling, volume(), max_sampling)
    source = Location(key, "1", True)
    name = "projects/p/volumes/v/layers/l"
    return Exhibit(name, "l", Kind.LABELS, "uint8", levels, VoxelSize(30, 8, 8), source, "1")


@pytest.fixture
def arrays(tmp_path: Path) -> Arrays:
    return Arrays(ObjectStoreSettings(object_store_url=f"file://{tmp_path}/objects"))


async def test_each_coarser_voxel_is_the_middle_one_of_those_that_it_stands_for(arrays: Arrays):
    rng = np.random.default_rng(5)
    stored = rng.integers(0, 250, SHAPE, np.uint8)
    arrays.create("l", SHAPE, np.uint8).write(Region.of_shape(SHAPE), stored)
    shown, voxels = layer(Index(1, 1, 1), SHAPE, "l"), Voxels(arrays, Nowhere())
    assert [level.shape for level in shown.levels] == [level.shape for level in volume().levels[:4]]
    for number, level in enumerate(shown.levels):
        places = [
            np.minimum(np.arange(size) * step + step // 2, stored.shape[axis] - 1)
            for axis, (size, step) in enumerate(zip(level.shape, level.sampling, strict=True))
        ]
        whole = await voxels.read(ADA, shown, number, Region.of_shape(level.shape))
        inside = whole if number == 0 else stored[np.ix_(*places)]
        # Only where the middle of the last voxel lies outside, its neighbour stands for it.
        assert whole.shape == tuple(level.shape)
        cut = tuple(
            slice(0, (size - step // 2 - 1) // step + 1)
            for size, step in zip(SHAPE, level.sampling, strict=True)
        )
        np.testing.assert_array_equal(whole[cut], inside[cut])
        for _ in range(20):
            start = [int(rng.integers(0, size)) for size in level.shape]
            stop = [
                int(rng.integers(low + 1, size + 1)) for low, size in zip(start, level.shape, strict=True)
            ]
            region = Region(Index(*start), Index(*stop))
            part = await voxels.read(ADA, shown, number, region)
            assert part.shape == tuple(region.shape)
            within = tuple(slice(0, max(0, each.stop - low)) for each, low in zip(cut, start, strict=True))
            np.testing.assert_array_equal(part[within], whole[region.slices][within])


def test_a_layer_has_the_levels_of_its_volume_that_are_coarser_and_not_too_coarse():
    assert [level.downsampling for level in layer(Index(1, 1, 1), SHAPE, "l", 64).levels] == [
        (1, 1, 1),
        (1, 2, 2),
        (1, 4, 4),
    ]
    halved = layer(Index(1, 2, 2), Index(11, 20, 27), "l")
    assert [level.sampling for level in halved.levels] == [(1, 1, 1), (1, 2, 2), (2, 4, 4), (4, 8, 8)]
    odd = layer(Index(1, 16, 16), Index(11, 3, 4), "l")
    assert [level.sampling for level in odd.levels] == [(1, 1, 1), (4, 1, 1)]


async def test_voxels_that_were_deleted_are_said_to_be_gone(arrays: Arrays):
    with pytest.raises(NotFound) as caught:
        await Voxels(arrays, Nowhere()).read(
            ADA, layer(Index(1, 1, 1), SHAPE, "none"), 0, Region.of_shape(SHAPE)
        )
    assert caught.value.reason == "VOXELS_NOT_FOUND"
