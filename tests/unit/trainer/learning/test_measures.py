from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from biosegment_trainer.learning.measures import MEASURES, pool, require_measures
from biosegment_trainer.learning.metrics import Confusion
from biosegment_trainer.learning.network import LabelClass

from biosegment.errors import InvalidArgument


def of(*probabilities: float) -> dict[str, float]:
    p = torch.tensor(probabilities).view(1, -1, 1, 1)
    return {name: measure(p).item() for name, measure in MEASURES.items()}


def test_certainty_scores_zero_and_is_safe_for_the_logarithm():
    found = of(1.0, 0.0, 0.0)
    assert found == {"entropy": 0, "least_confidence": 0, "margin": 0, "class_probability": 0}


def test_ignorance_scores_highest():
    found = of(1 / 3, 1 / 3, 1 / 3)
    assert found["entropy"] == pytest.approx(math.log(3), rel=1e-5)
    assert found["least_confidence"] == pytest.approx(2 / 3)
    assert found["margin"] == pytest.approx(1)


def test_values_in_between_are_the_formulas():
    found = of(0.2, 0.7, 0.1)
    assert found["entropy"] == pytest.approx(-sum(q * math.log(q) for q in (0.2, 0.7, 0.1)), rel=1e-5)
    assert found["least_confidence"] == pytest.approx(0.3)
    assert found["margin"] == pytest.approx(0.5)
    assert found["class_probability"] == pytest.approx(0.8)


def test_an_unknown_measure_is_named_in_the_error():
    with pytest.raises(InvalidArgument, match="guesswork"):
        require_measures(["entropy", "guesswork"])


@pytest.mark.parametrize(("height", "width"), [(32, 48), (33, 47), (5, 16), (1, 1)])
def test_cells_are_means_over_the_pixels_that_exist(height, width):
    values = torch.rand(2, height, width, generator=torch.Generator().manual_seed(0))
    cells = pool(values)
    assert cells.dtype == torch.float16
    assert cells.shape == (2, -(-height // 16), -(-width // 16))
    for n, y, x in np.ndindex(*cells.shape):
        mean = values[n, 16 * y : 16 * y + 16, 16 * x : 16 * x + 16].mean().item()
        assert cells[n, y, x].item() == pytest.approx(mean, abs=1e-3)


def test_confusion_adds_up_block_by_block_and_ignores_what_is_not_annotated():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, (4, 20, 20)).astype(np.uint8)
    guess = rng.integers(1, 4, truth.shape).astype(np.uint8)
    classes = (LabelClass(2, "a"), LabelClass(3, "b"))
    whole, parts = Confusion(classes), Confusion(classes)
    whole.add(truth, guess)
    for block in range(4):
        parts.add(truth[block], guess[block])
    assert whole.summary() == parts.summary()
    known = truth > 0
    both, either = ((truth == 2) & (guess == 2)).sum(), ((truth == 2) | ((guess == 2) & known)).sum()
    assert whole.iou(2) == pytest.approx(both / either)
    assert whole.dice(2) == pytest.approx(2 * whole.iou(2) / (1 + whole.iou(2)))


def test_classes_out_of_scope_are_not_counted_and_absent_ones_have_no_number():
    confusion = Confusion((LabelClass(2, "a"), LabelClass(3, "b")))
    confusion.add(np.array([1, 2], np.uint8), np.array([3, 2], np.uint8), scope={2})
    assert confusion.summary() == {"iou/a": 1.0, "dice/a": 1.0}
    assert math.isnan(confusion.iou(3))
