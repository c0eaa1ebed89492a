"""Figures of the experiment on choosing, against independent computations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from benchmarks.active_learning.statistic import area, holm, mean_curve, paired_difference, reached_at


def test_the_area_is_the_mean_height():
    curve = {20.0: 0.2, 40.0: 0.6, 100.0: 0.6}
    # A trapezoid of 20 x 0.4 and a rectangle of 60 x 0.6, over 80.
    assert area(curve, 20, 100) == pytest.approx((20 * 0.4 + 60 * 0.6) / 80)
    # From the middle of a piece: heights 0.4 at 30 and 0.6 at 40.
    assert area(curve, 30, 40) == pytest.approx(0.5)
    # What comes before the first point of interest does not count.
    assert area({0: 0.9, **curve}, 20, 100) == area(curve, 20, 100)


@pytest.mark.parametrize(("first", "last"), [(10, 100), (20, 120)])
def test_an_unfinished_curve_has_no_area(first, last):
    with pytest.raises(ValueError, match="points at"):
        area({20: 0.2, 100: 0.6}, first, last)


def test_a_height_is_reached_between_points():
    curve = {20: 0.4, 40: 0.6, 60: 0.5, 80: 0.7}
    assert reached_at(curve, 0.3) == 20
    assert reached_at(curve, 0.45) == pytest.approx(25)
    assert reached_at(curve, 0.65) == pytest.approx(75)
    assert reached_at(curve, 0.71) is None


def test_intervals_are_those_of_scipy():
    rng = np.random.default_rng(3)
    values, others = rng.normal(0.7, 0.02, 6), rng.normal(0.68, 0.02, 6)
    found = paired_difference(values, others)
    expected = stats.bootstrap(
        (values - others,), np.mean, n_resamples=50_000, method="percentile", rng=np.random.default_rng(5)
    )
    assert found.mean == pytest.approx(np.mean(values - others))
    assert found.low == pytest.approx(expected.confidence_interval.low, abs=5e-4)
    assert found.high == pytest.approx(expected.confidence_interval.high, abs=5e-4)
    exact = stats.permutation_test(
        (values - others,), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    assert found.p == pytest.approx(exact.pvalue)
    assert (found.better, found.count) == (int((values > others).sum()), 6)


def test_pairs_matter():
    seeds = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
    found = paired_difference(seeds + np.array([0.01, 0.02, 0.01, 0.02, 0.01]), seeds)
    assert 0.0099 < found.low < found.mean < found.high < 0.0201
    assert found.p == 1 / 16
    same = paired_difference(seeds, seeds)
    assert (same.mean, same.p, same.better) == (0.0, 1.0, 0)


def test_holm_is_that_of_statsmodels():
    # multipletests([0.01, 0.04, 0.03, 0.005], method="holm")
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    # multipletests([0.9, 0.02, 0.6], method="holm")
    assert holm([0.9, 0.02, 0.6]) == pytest.approx([1.0, 0.06, 1.0])
    assert holm([]) == []


def test_a_mean_curve_is_the_mean_of_each_point():
    assert mean_curve([{20: 0.2, 40: 0.4}, {20: 0.4, 40: 0.8}]) == pytest.approx({20: 0.3, 40: 0.6})
