"""What is connected, near, and replaced."""

from __future__ import annotations

import numpy as np
import pytest
from biosegment_trainer.learning.clicks.mask import dilated, flood, merged
from scipy import ndimage


@pytest.mark.parametrize("share", [0.3, 0.55, 0.62, 0.9])
def test_flood_finds_what_labelling_finds(share):
    rng = np.random.default_rng(int(share * 100))
    for _ in range(20):
        within = rng.random((37, 53)) < share
        seeds = rng.random(within.shape) < 0.002
        numbers, _ = ndimage.label(within)
        expected = within & np.isin(numbers, numbers[seeds & within])
        assert np.array_equal(flood(seeds, within), expected)


def test_flood_follows_a_spiral_and_finds_nothing_without_seeds():
    within = np.zeros((41, 41), bool)
    for turn in range(0, 20, 4):
        within[turn, turn : 41 - turn] = True
        within[turn : 41 - turn, 40 - turn] = True
        within[40 - turn, turn + 2 : 41 - turn] = True
        within[turn + 2 : 41 - turn, turn + 2] = True
        within[turn + 4, turn + 2 : turn + 5] = True
    seeds = np.zeros_like(within)
    seeds[0, 0] = True
    assert np.array_equal(flood(seeds, within), ndimage.label(within)[0] == 1)
    assert not flood(~within, within).any()
    assert not flood(seeds, np.zeros_like(within)).any()


def test_dilation_is_a_square():
    mask = np.zeros((20, 30), bool)
    mask[10, 12] = mask[0, 29] = True
    expected = ndimage.binary_dilation(mask, np.ones((7, 7)))
    assert np.array_equal(dilated(mask, 3), expected)
    assert np.array_equal(dilated(mask, 0), mask)


def test_only_the_object_that_was_meant_is_replaced():
    previous, answer, seeds = (np.zeros((30, 60), bool) for _ in range(3))
    previous[5:15, 5:15] = previous[5:15, 30:40] = True
    answer[7:18, 5:15] = answer[20:25, 50:55] = True  # one displaced, one gone, one new
    seeds[10, 10] = True
    mask, meant = merged(previous, answer, seeds)
    expected = previous.copy()
    expected[5:18, 5:15] = answer[5:18, 5:15]
    assert np.array_equal(mask, expected)
    assert np.array_equal(meant, (previous | answer) & (np.arange(60) < 20))
