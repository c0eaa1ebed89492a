from __future__ import annotations

import itertools

import numpy as np
import pytest
from biosegment_datastore.pyramid import downsample, plan_levels
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from biosegment.errors import InvalidArgument
from biosegment.volume import Index, VoxelSize

FACTORS = st.tuples(*[st.sampled_from([1, 2])] * 3).map(lambda factor: Index(*factor))
SHAPES = st.tuples(*[st.integers(1, 9)] * 3)


def blocks(array, factor):
    """For every output voxel the input voxels that it stands for."""
    size = [-(-length // step) for length, step in zip(array.shape, factor, strict=True)]
    for place in np.ndindex(*size):
        box = tuple(slice(i * step, (i + 1) * step) for i, step in zip(place, factor, strict=True))
        yield place, array[box]


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from(["uint8", "int8", "uint16", "int16"]), SHAPES, FACTORS)
def test_means_of_integers_are_the_exact_means_rounded_half_up(data, dtype, shape, factor):
    array = data.draw(arrays.arrays(dtype, shape))
    result = downsample(array, factor)
    assert result.dtype == array.dtype
    for place, block in blocks(array, factor):
        assert result[place] == np.floor(block.astype(float).mean() + 0.5)


@settings(max_examples=60, deadline=None)
@given(st.data(), SHAPES, FACTORS)
def test_means_of_floats_are_the_means(data, shape, factor):
    array = data.draw(arrays.arrays("float32", shape, elements=st.floats(-1e4, 1e4, width=32)))
    result = downsample(array, factor)
    assert result.dtype == np.float32
    for place, block in blocks(array, factor):
        assert result[place] == pytest.approx(block.astype(float).mean(), abs=1e-2, rel=1e-5)


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from(["uint8", "uint32"]), SHAPES, FACTORS)
def test_the_mode_is_the_most_frequent_label_and_the_larger_one_of_two(data, dtype, shape, factor):
    array = data.draw(arrays.arrays(dtype, shape, elements=st.integers(0, 3)))
    result = downsample(array, factor, "mode")
    for place, block in blocks(array, factor):
        values, counts = np.unique(block, return_counts=True)
        assert result[place] == values[counts == counts.max()].max()


def test_sums_do_not_overflow_at_the_ends_of_the_value_range():
    for dtype in ("uint8", "int8", "uint16", "int16"):
        for extreme in (np.iinfo(dtype).min, np.iinfo(dtype).max):
            assert (downsample(np.full((3, 5, 4), extreme, dtype), Index(2, 2, 2)) == extreme).all()


def test_other_factors_and_dtypes_are_refused():
    with pytest.raises(InvalidArgument, match="not 1 or 2") as error:
        downsample(np.zeros((3, 3, 3), np.uint8), Index(3, 1, 1))
    assert error.value.reason == "BAD_FACTOR"
    with pytest.raises(InvalidArgument, match="cannot average float64") as error:
        downsample(np.zeros((3, 3, 3)), Index(2, 2, 2))
    assert error.value.reason == "BAD_DTYPE"


def test_isotropic_voxels_are_halved_along_every_axis_until_the_level_is_small():
    levels = plan_levels(Index(165, 768, 1024), VoxelSize(5, 5, 5))
    assert [level.shape for level in levels] == [(165, 768, 1024), (83, 384, 512), (42, 192, 256)]
    assert [level.downsampling for level in levels] == [(1, 1, 1), (2, 2, 2), (4, 4, 4)]
    assert [level.path for level in levels] == ["0", "1", "2"]


def test_thick_sections_are_halved_in_plane_until_voxels_are_nearly_cubes():
    levels = plan_levels(Index(2000, 20000, 20000), VoxelSize(50, 4.6, 4.6))
    assert [level.downsampling for level in levels[:6]] == [
        (1, 1, 1),
        (1, 2, 2),
        (1, 4, 4),
        (1, 8, 8),
        (2, 16, 16),
        (4, 32, 32),
    ]
    assert max(levels[-1].shape) <= 256 < max(levels[-2].shape)


def test_a_volume_that_is_small_has_one_level():
    assert len(plan_levels(Index(20, 256, 256), VoxelSize(50, 5, 5))) == 1


@given(st.tuples(*[st.integers(1, 5000)] * 3), st.tuples(*[st.floats(0.5, 500)] * 3))
def test_every_plan_ends_and_covers_the_volume(shape, voxel_size):
    levels = plan_levels(Index(*shape), VoxelSize(*voxel_size))
    assert max(levels[-1].shape) <= 256
    for level in levels:
        assert level.shape == tuple(-(-n // f) for n, f in zip(shape, level.downsampling, strict=True))


@settings(max_examples=60, deadline=None)
@given(
    st.data(),
    st.sampled_from(["uint8", "int8", "uint16", "int16", "float32"]),
    st.tuples(*[st.integers(1, 21)] * 3),
    st.tuples(*[st.sampled_from([5.0, 20.0])] * 3),
)
def test_every_level_stays_close_to_the_means_of_the_original_voxels(data, dtype, shape, size):
    """The values of a whole pyramid against means in double precision: rounding adds half a grey value per level."""
    elements = st.floats(-1e3, 1e3, width=32) if dtype == "float32" else None
    original = data.draw(arrays.arrays(dtype, shape, elements=elements))
    plan = plan_levels(Index(*shape), VoxelSize(*size), smallest=2)
    present, exact = original, original.astype(np.float64)
    for number, (above, below) in enumerate(itertools.pairwise(plan), 1):
        step = Index(*(b // a for a, b in zip(above.downsampling, below.downsampling, strict=True)))
        present, finer = downsample(present, step), exact
        exact = np.array([block.mean() for _, block in blocks(finer, step)]).reshape(present.shape)
        assert present.shape == below.shape
        assert np.abs(present - exact).max() <= (1e-3 if dtype == "float32" else 0.5 * number + 1e-9)
