from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from biosegment.errors import InvalidArgument
from biosegment.synthetic import generate

SHAPE = (24, 256, 256)


def intersection_over_union(guess, mask):
    return (guess & mask).sum() / (guess | mask).sum()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_threshold_and_no_band_of_grey_values_finds_the_mitochondria(seed):
    image, labels = generate(SHAPE, seed)
    inside = np.append(0, np.bincount(image[labels == 1], minlength=256).cumsum())
    everywhere = np.append(0, np.bincount(image.ravel(), minlength=256).cumsum())
    low, high = np.triu_indices(257, 1)  # every band [low, high) of grey values at once
    found, marked = inside[high] - inside[low], everywhere[high] - everywhere[low]
    best = (found / (marked + inside[-1] - found)).max()
    assert best < 0.3


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_four_to_eight_per_cent_are_mitochondria(seed):
    image, labels = generate(SHAPE, seed)
    assert image.shape == labels.shape == SHAPE
    assert image.dtype == labels.dtype == np.uint8
    assert set(np.unique(labels)) == {0, 1}
    assert 0.04 < labels.mean() < 0.08


def test_the_seed_decides_the_volume():
    first, again, other = (generate((8, 64, 64), seed) for seed in (3, 3, 4))
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


def test_neighbouring_slices_resemble_each_other_and_flicker():
    image, labels = generate(SHAPE, 0)
    near = np.mean([intersection_over_union(a == 1, b == 1) for a, b in pairwise(labels)])
    far = intersection_over_union(labels[0] == 1, labels[-1] == 1)
    assert near > 0.8 > 0.6 > far
    assert image.mean(axis=(1, 2)).std() > 2


def test_a_volume_that_is_too_small_is_refused():
    with pytest.raises(InvalidArgument) as error:
        generate((4, 64, 64))
    assert error.value.reason == "BAD_SHAPE"
