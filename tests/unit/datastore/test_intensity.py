from __future__ import annotations

import itertools

import numpy as np
import pytest
from biosegment_datastore.imports.intensity import IntensityGatherer
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from biosegment.volume import Index


def gathered(volume, cuts=()):
    """Statistics of a volume that came in horizontal strips, the way pieces of large planes come."""
    gatherer = IntensityGatherer(Index(*volume.shape))
    edges = [0, *sorted(cuts), volume.shape[1]]
    for top, bottom in itertools.pairwise(edges):
        if bottom > top:
            gatherer.add(0, volume[:, top:bottom], top)
    return gatherer.result()


@settings(max_examples=60, deadline=None)
@given(
    st.data(),
    st.sampled_from(["uint8", "int8", "uint16", "int16", "float32"]),
    st.tuples(st.integers(1, 4), st.integers(1, 30), st.integers(1, 30)),
    st.lists(st.integers(0, 30), max_size=3),
)
def test_the_moments_of_strips_are_those_of_whole_slices(data, dtype, shape, cuts):
    elements = st.floats(-1e4, 1e4, width=32) if dtype == "float32" else None
    volume = data.draw(arrays.arrays(dtype, shape, elements=elements))
    found = gathered(volume, [min(cut, shape[1]) for cut in cuts])
    exact = volume.astype(np.float64)
    spread = exact.max() - exact.min()
    assert found.mean == pytest.approx(exact.mean(axis=(1, 2)), rel=1e-6, abs=1e-5 * spread + 1e-30)
    assert found.std == pytest.approx(exact.std(axis=(1, 2)), rel=1e-3, abs=1e-3 * spread + 1e-30)
    assert (found.minimum, found.maximum) == (volume.min(), volume.max())
    assert found.display_low < found.display_high
    assert found.minimum <= found.display_low


def test_a_small_spread_on_a_high_level_does_not_drown():
    volume = np.random.default_rng(0).normal(60000, 3, (3, 400, 500)).round().astype(np.uint16)
    assert gathered(volume).std == pytest.approx(volume.astype(float).std(axis=(1, 2)), rel=1e-4)


def test_the_window_is_that_of_the_percentiles_of_all_voxels():
    volume = np.random.default_rng(0).gamma(4, 500, (40, 300, 310)).astype(np.uint16)
    found = gathered(volume)
    low, high = np.percentile(volume, (0.5, 99.5))
    assert found.display_low == pytest.approx(low, rel=0.03)
    assert found.display_high == pytest.approx(high, rel=0.03)


@pytest.mark.parametrize("value", [0, 7, 255])
def test_one_value_gets_a_window_of_some_width(value):
    found = gathered(np.full((3, 20, 20), value, np.uint8))
    assert found.display_low == value < found.display_high


def test_a_mask_is_shown_from_its_smallest_to_its_largest_value():
    mask = np.zeros((4, 100, 100), np.uint8)
    mask[0, 0, 0] = 255
    found = gathered(mask)
    assert (found.display_low, found.display_high) == (0, 255)


def test_what_was_gathered_can_be_put_away_and_taken_up_again():
    volume = np.random.default_rng(0).normal(0, 9, (6, 50, 60)).astype(np.float32)
    whole = IntensityGatherer(Index(*volume.shape))
    whole.add(0, volume)
    first, second = (IntensityGatherer(Index(*volume.shape)) for _ in range(2))
    first.add(0, volume[:4])
    second.restore(first.state())
    second.add(4, volume[4:])
    for name in ("mean", "std", "minimum", "maximum", "display_low", "display_high"):
        assert np.array_equal(getattr(whole.result(), name), getattr(second.result(), name))
