from __future__ import annotations

import numpy as np
import pytest
from biosegment_trainer.learning.normalisation import SliceStatistics, normalise, volume_statistics

from biosegment.errors import InvalidArgument


@pytest.mark.parametrize(("dtype", "scale"), [(np.uint8, 1), (np.uint16, 250), (np.float32, 0.01)])
def test_flicker_between_slices_disappears_whatever_the_dtype(dtype, scale):
    tissue = np.random.default_rng(1).normal(100, 20, (64, 64))
    raw = (np.stack([tissue, tissue * 1.2 + 10, tissue * 0.7]) * scale).astype(dtype)
    flat = normalise(raw.astype(np.float32), SliceStatistics.of_slices(raw))
    assert flat.dtype == np.float32
    np.testing.assert_allclose(flat[1], flat[0], atol=0.06)
    np.testing.assert_allclose(flat[2], flat[0], atol=0.06)
    assert abs(flat.mean()) < 1e-3
    assert flat.std() == pytest.approx(1, abs=1e-2)


def test_a_block_is_normalised_as_its_slice_is():
    raw = np.random.default_rng(2).integers(0, 65535, (2, 40, 40)).astype(np.uint16)
    raw[:, :20] //= 4
    statistics = SliceStatistics.of_slices(raw)
    whole = normalise(raw.astype(np.float32), statistics)
    block = normalise(raw[:, :20, :20].astype(np.float32), statistics)
    np.testing.assert_array_equal(block, whole[:, :20, :20])


def test_a_sampled_slice_measures_almost_the_same():
    raw = np.random.default_rng(3).integers(0, 255, (3, 256, 256)).astype(np.uint8)
    sampled = volume_statistics(lambda z: raw[z], 3, step=4)
    np.testing.assert_allclose(sampled.mean, raw.mean((1, 2)), rtol=0.03)
    np.testing.assert_allclose(sampled.std, raw.std((1, 2)), rtol=0.03)


def test_padding_around_the_tissue_does_not_count():
    plane = np.zeros((32, 32), np.uint8)
    plane[8:24, 8:24] = np.random.default_rng(4).integers(100, 200, (16, 16))
    statistics = SliceStatistics.of_slices([plane], padding=0)
    assert statistics.mean[0] == pytest.approx(plane[8:24, 8:24].mean())


def test_blank_slices_and_dust_stay_finite_and_bounded():
    raw = np.full((2, 64, 64), 7, np.float32)
    raw[1, 0, 0] = 1e6
    flat = normalise(raw, SliceStatistics.of_slices(raw))
    assert np.isfinite(flat).all()
    assert (flat[0] == 0).all()
    assert np.abs(flat).max() == 5


def test_a_slice_of_padding_alone_is_measured_as_blank():
    assert SliceStatistics.of_slices([np.zeros((4, 4))], padding=0).std[0] == 0


@pytest.mark.parametrize(("mean", "std"), [([1, 2], [1]), ([np.nan], [1]), ([1], [-1]), ([[1]], [[1]])])
def test_statistics_that_make_no_sense_are_refused(mean, std):
    with pytest.raises(InvalidArgument, match="mean"):
        SliceStatistics(np.array(mean), np.array(std))


def test_a_missing_statistic_is_refused():
    with pytest.raises(InvalidArgument, match="2 slices"):
        normalise(np.zeros((2, 3, 3), np.float32), SliceStatistics(np.zeros(1), np.ones(1)))
