"""What a model is uncertain of, on maps whose answer is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from benchmarks.active_learning.uncertainty import measure

PIXELS = 128**2


@pytest.fixture
def truth():
    found = np.zeros((2, 128, 128), bool)
    found[:, 32:96, 32:96] = True
    return found


def test_a_model_that_is_sure_and_right_is_calibrated(truth):
    found = measure(truth.astype(np.float32), truth)
    assert found.errors == found.errors_at_rim == found.entropy_of_errors == 0
    assert found.calibration_error < 1e-5
    # Within two pixels of a square of 64 x 64.
    assert found.rim == (68 * 68 - 60 * 60) / PIXELS


def test_a_model_that_is_unsure_along_outlines_has_its_entropy_there(truth):
    probability = truth.astype(np.float32)
    probability[:, 32, 32:96] = 0.4
    found = measure(probability, truth)
    assert found.entropy_at_rim == pytest.approx(1, abs=0.01)
    assert found.errors_at_rim == 1
    assert found.errors == 64 / PIXELS
    assert found.entropy_of_errors == pytest.approx(1, abs=0.01)
    # Where it says 0.4 all is foreground.
    assert found.calibration_error == pytest.approx(0.6 * 64 / PIXELS, abs=1e-4)
    assert found.errors_by_entropy == pytest.approx(1)


def test_an_object_that_is_missed_surely_is_an_error_without_entropy(truth):
    found = measure(np.full(truth.shape, 0.05), truth)
    assert found.errors == 0.25
    assert found.errors_at_rim == pytest.approx((4096 - 3600) / 4096)
    assert found.entropy_of_errors == pytest.approx(0.25)
    assert found.calibration_error == pytest.approx(0.25 - 0.05)
    assert found.errors_by_entropy == 0
    assert max(dataclasses.astuple(found)) <= 1


def test_doubt_far_from_what_is_wrong_has_a_negative_rank_correlation(truth):
    probability = truth.astype(np.float32)
    probability[:, :64] = 1 - probability[:, :64]  # sure, and wrong
    probability[:, 64:] += np.where(truth[:, 64:], -0.4, 0.4)
    assert measure(probability, truth).errors_by_entropy < -0.5
