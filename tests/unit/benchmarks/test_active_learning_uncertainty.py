"""What a model is uncertain of, on maps whose answer is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from benchmarks.active_learning.uncertainty import measure


@pytest.fixture
def truth():
    found = np.zeros((2, 40, 40), bool)
    found[:, 10:30, 10:30] = True
    return found


def test_a_model_that_is_sure_and_right_is_calibrated(truth):
    found = measure(truth.astype(np.float32), truth)
    assert found.errors == found.errors_at_rim == found.entropy_of_errors == 0
    assert found.calibration_error < 1e-5
    # Within two pixels of a square of 20 x 20.
    assert found.rim == (24 * 24 - 16 * 16) / 1600


def test_a_model_that_is_unsure_along_outlines_has_its_entropy_there(truth):
    probability = truth.astype(np.float32)
    probability[:, 10, 10:30] = 0.4
    found = measure(probability, truth)
    assert found.entropy_at_rim == pytest.approx(1, abs=0.01)
    assert found.errors_at_rim == 1
    assert found.errors == 20 / 1600
    assert found.entropy_of_errors == pytest.approx(1, abs=0.01)
    # Where it says 0.4 all is foreground.
    assert found.calibration_error == pytest.approx(0.6 * 20 / 1600, abs=1e-4)


def test_an_object_that_is_missed_surely_is_an_error_without_entropy(truth):
    found = measure(np.full(truth.shape, 0.05), truth)
    assert found.errors == 400 / 1600
    assert found.errors_at_rim == pytest.approx((400 - 256) / 400)
    assert found.entropy_of_errors == pytest.approx(400 / 1600)
    assert found.calibration_error == pytest.approx(400 / 1600 - 0.05)
    assert max(dataclasses.astuple(found)) <= 1
