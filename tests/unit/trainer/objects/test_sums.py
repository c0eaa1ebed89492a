"""Sums over blocks: the same as over the whole, and as another program's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from random import Random
from typing import Any

import numpy as np
import pytest
from biosegment_trainer.objects.sums import STEPS, ObjectSums, RunningSums, add_up
from biosegment_trainer.objects.worker import in_order
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import regionprops

from biosegment.volume import Index, Region, VoxelSize
from tests.unit.trainer.objects.shape import grid_of, measured

SIZE = VoxelSize(30, 8, 8)


def same(one: ObjectSums, two: ObjectSums) -> None:
    for each in fields(ObjectSums):
        found, expected = getattr(one, each.name), getattr(two, each.name)
        assert found.dtype == expected.dtype, each.name
        np.testing.assert_array_equal(found, expected, each.name)


def blobs(rng: Any, shape: Any, count: int, largest_id: int, dtype: Any = np.uint32) -> Any:
    """Ids in irregular pieces, with ids that leave gaps."""
    names = np.zeros(count + 1, dtype)
    # From a range: an array of all numbers up to 2^31 takes 16 GB.
    names[1:] = sorted(Random(int(rng.integers(2**32))).sample(range(1, largest_id), count))
    coarse = rng.integers(0, count + 1, [-(-size // 3) for size in shape])
    fine = coarse.repeat(3, 0).repeat(3, 1).repeat(3, 2)[tuple(map(slice, shape))]
    return names[np.where(rng.random(shape) < 0.1, rng.integers(0, count + 1, shape), fine)]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 12), st.integers(1, 14)),
    block=st.tuples(st.integers(1, 9), st.integers(1, 12), st.integers(1, 14)),
    kind=st.sampled_from(["uint8", "uint16", "int16"]),
    largest_id=st.sampled_from([20, 2**31]),
)
def test_blocks_of_any_shape_give_what_the_whole_gives(seed, shape, block, kind, largest_id):
    rng = np.random.default_rng(seed)
    ids = blobs(rng, shape, 6, largest_id)
    ids[0, 0, 0] = 3
    info = np.iinfo(kind)
    image = rng.integers(info.min, info.max, shape, kind, endpoint=True)
    grid = grid_of(shape, SIZE)
    whole = add_up(np.pad(ids, 1), image, (0, 0, 0))
    same(measured(ids, image, grid, Index(*block)), whole)


def test_a_part_of_a_volume_counts_from_the_corner_of_the_volume():
    rng = np.random.default_rng(3)
    ids = blobs(rng, (8, 20, 30), 9, 100)
    image = rng.integers(0, 255, ids.shape, np.uint8)
    region = Region(Index(2, 5, 7), Index(7, 19, 23))
    cut = np.zeros_like(ids)
    cut[region.slices] = ids[region.slices]
    found = measured(cut, image, grid_of(ids.shape, SIZE, region=region), Index(2, 4, 5))
    same(found, add_up(np.pad(cut, 1), image, (0, 0, 0)))
    assert (found.start >= region.start).all()
    assert (found.stop <= region.stop).all()


@pytest.mark.parametrize("kind", [np.uint32, np.uint64])
@pytest.mark.parametrize("largest_id", [60, 2**32 - 1])
def test_sizes_places_and_values_are_those_of_regionprops(kind, largest_id):
    rng = np.random.default_rng(1)
    ids = blobs(rng, (21, 40, 50), 40, largest_id, kind)
    image = rng.integers(0, 60_000, ids.shape, np.uint16)
    sums = measured(ids, image, grid_of(ids.shape, SIZE), Index(7, 16, 50))
    # regionprops takes small ids only.
    small = np.searchsorted(sums.ids, ids) + 1
    small[ids == 0] = 0
    reference = regionprops(small.astype(np.int32), image)
    assert len(reference) == len(sums) == len(np.unique(ids)) - 1
    np.testing.assert_array_equal(sums.ids, np.unique(ids)[1:])
    central = sums.central()
    for i, item in enumerate(reference):
        assert sums.voxels[i] == item.area
        assert (*sums.start[i], *sums.stop[i]) == item.bbox
        np.testing.assert_allclose(sums.positions[i] / item.area, item.centroid, rtol=1e-12)
        assert sums.extremes[i].tolist() == [item.image_intensity[item.image].min(), item.intensity_max]
        np.testing.assert_allclose(sums.values[i, 0] / item.area, item.intensity_mean, rtol=1e-12)
        squares = (item.image_intensity[item.image].astype(np.int64) ** 2).sum()
        assert sums.values[i, 1] == squares
        for a in range(3):
            for b in range(3):
                order = [0, 0, 0]
                order[a] += 1
                order[b] += 1
                expected = item.moments_central[tuple(order)] / item.area
                np.testing.assert_allclose(central[i, a, b], expected, rtol=1e-9, atol=1e-9)


def test_exposed_pairs_are_those_that_a_loop_over_all_neighbours_finds():
    rng = np.random.default_rng(2)
    ids = blobs(rng, (6, 7, 8), 4, 9)
    padded = np.pad(ids, 1)
    sums = add_up(padded, None, (0, 0, 0))
    for row, name in enumerate(sums.ids):
        expected = dict.fromkeys(STEPS, 0)
        for z, y, x in np.argwhere(padded == name):
            for step in np.ndindex(3, 3, 3):
                dz, dy, dx = (each - 1 for each in step)
                if (dz, dy, dx) != (0, 0, 0) and padded[z + dz, y + dy, x + dx] != name:
                    expected[abs(dz), abs(dy), abs(dx)] += 1
        assert sums.exposed[row].tolist() == list(expected.values())


def test_second_moments_are_exact_far_from_the_origin():
    ids = np.zeros((5, 6, 7), np.uint32)
    ids[1:4, 1:3, 2:6] = 9
    here = add_up(np.pad(ids, 1), None, (0, 0, 0))
    # Squares of such coordinates, times as many voxels, do not fit into 64 bits.
    far = add_up(np.pad(ids, 1), None, (2_000_000_001, 1_900_000_000, 2_100_000_007))
    np.testing.assert_array_equal(far.central(), here.central())


def test_the_spread_of_values_is_exact_of_more_voxels_than_sums_of_squares_hold():
    ids = np.zeros((1, 3, 6), np.uint32)
    ids[0, 1, 1:5] = 5
    image = np.full(ids.shape, 60_000, np.uint16)
    image[0, 1, 1:5] = [65_535, 65_534, 65_535, 40_000]
    sums = add_up(np.pad(ids, 1), image, (0, 0, 0))
    expected = image[0, 1, 1:5].astype(float).var()
    for _ in range(32):
        sums = ObjectSums.merged([sums, sums])
    assert sums.voxels.tolist() == [4 << 32]
    assert int(sums.values[0, 0]) == int(image[0, 1, 1:5].sum(dtype=int)) << 32
    np.testing.assert_allclose(sums.variances(), expected, rtol=1e-12)


def test_what_was_added_up_is_put_together_on_the_way():
    rng = np.random.default_rng(8)
    ids = blobs(rng, (40, 12, 14), 6, 20)
    image = rng.integers(0, 60_000, ids.shape, np.uint16)
    parts = [add_up(np.pad(ids[z : z + 1], 1), image[z : z + 1], (z, 0, 0)) for z in range(len(ids))]
    running, most = RunningSums(least=1), 0
    for part in parts:
        running.add(part)
        most = max(most, running.held)
    assert most <= 3 * len(np.unique(ids))
    found = running.sums()
    assert found is not None
    same(found, ObjectSums.merged(parts))
    assert RunningSums().sums() is None


@pytest.mark.parametrize("count", [0, 3, 40])
def test_few_results_wait_for_whoever_takes_them(count):
    begun: list[int] = []

    def make(number: int) -> int:
        begun.append(number)
        return number * number

    with ThreadPoolExecutor(2) as threads:
        results = in_order(make, count, threads, 3)
        for taken in range(count):
            assert next(results) == taken * taken
            assert len(begun) <= taken + 3
        assert not list(results)


def test_values_of_every_type_are_added_and_negative_ones_too():
    ids = np.zeros((1, 4, 4), np.uint32)
    ids[0, 1:3, 1:3] = 5
    for kind in ("int8", "int16", "int32", "uint32", "float32", "float64"):
        image = np.full(ids.shape, 100, kind)
        image[0, 1:3, 1:3] = [[3, 5], [7, 9]]
        if kind[0] != "u":
            image[0, 1, 1] = -3
        sums = add_up(np.pad(ids, 1), image, (0, 0, 0))
        first = -3 if kind[0] != "u" else 3
        assert sums.values.tolist() == [[21 + first, 9 + 25 + 49 + 81]]
        assert sums.extremes.tolist() == [[min(first, 5), 9]]
        assert sums.extremes.dtype == kind
