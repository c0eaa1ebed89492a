from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from biosegment_trainer.scribbles.features import CHANNELS, HALO, SCALES, slice_features


@pytest.fixture(name="features")
def with_two_threads():
    with ThreadPoolExecutor(2) as pool:
        yield lambda image: slice_features(np.asarray(image, np.float32), pool)


def channels(scale):
    """Positions of smoothed, difference, gradient, two of the Hessian, two of the structure tensor."""
    return 1 + 7 * scale + np.arange(7)


def test_what_they_are(features):
    image = np.random.default_rng(0).normal(size=(30, 50)).astype(np.float32)
    found = features(image)
    assert found.shape == (CHANNELS, 30, 50)
    assert found.dtype == np.float32
    assert np.array_equal(found[0], image)


def test_a_pixel_depends_on_its_halo_alone(features):
    image = np.random.default_rng(1).normal(size=(2 * HALO + 40, 2 * HALO + 60)).astype(np.float32)
    inner = (slice(None), slice(HALO, HALO + 20), slice(HALO, HALO + 30))
    whole = features(image)
    assert np.array_equal(features(image[: 2 * HALO + 20, : 2 * HALO + 30])[inner], whole[inner])
    # It is no wider than needed.
    changed = image.copy()
    changed[:, 0] += 100
    assert not np.array_equal(features(changed)[:, HALO, HALO], whole[:, HALO, HALO])
    assert np.array_equal(features(changed)[:, HALO, HALO + 1], whole[:, HALO, HALO + 1])


def test_scales_are_as_wide_as_stated(features):
    size = 2 * HALO + 1
    image = np.zeros((size, size))
    image[HALO, HALO] = 1
    offsets = np.arange(size) - HALO
    for scale in range(SCALES):
        spot = features(image)[channels(scale)[0]].astype(np.float64)
        assert spot.sum() == pytest.approx(1, abs=1e-5)
        assert (spot.sum(0) * offsets**2).sum() == pytest.approx((4 ** (scale + 1) - 1) / 3, rel=1e-3)


def test_a_flat_image_has_no_edges(features):
    found = features(np.full((20, 20), 1.5))
    for scale in range(SCALES):
        assert np.allclose(found[channels(scale)[0]], 1.5)
        assert np.allclose(found[channels(scale)[1:]], 0, atol=1e-6)


def test_a_slope_has_a_gradient_and_no_curvature(features):
    size = 2 * HALO + 9
    found = features(np.arange(size)[:, None] * np.full((1, size), 0.25))[:, HALO:-HALO, HALO:-HALO]
    for scale in range(SCALES):
        _, _, gradient, large, small, along, across = found[channels(scale)]
        step = 2**scale
        assert np.allclose(gradient, 0.25 * step, rtol=1e-3)
        assert np.allclose([large, small, across], 0, atol=1e-3)
        assert np.allclose(along, (0.25 * step) ** 2, rtol=1e-3)


def test_a_valley_has_one_curvature_whichever_way_it_runs(features):
    size = 2 * HALO + 9
    y, x = np.mgrid[:size, :size] - size // 2
    for across in (y, x, (y + x) / np.sqrt(2)):
        found = features(0.01 * across**2)[:, HALO:-HALO, HALO:-HALO]
        for scale in range(3):
            large, small = found[channels(scale)[3:5]]
            assert np.allclose(large, 0.02 * 4**scale, rtol=0.02)
            assert np.allclose(small, 0, atol=0.002 * 4**scale)


def test_they_do_not_depend_on_which_way_the_image_lies(features):
    image = np.random.default_rng(2).normal(size=(40, 40)).astype(np.float32)
    assert np.allclose(features(image.T), features(image).transpose(0, 2, 1), atol=1e-5)
    assert np.allclose(features(image[::-1]), features(image)[:, ::-1], atol=1e-5)
