from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from biosegment_trainer.learning.measures import MEASURES, Evidence, pool, require_measures
from biosegment_trainer.learning.metrics import Confusion
from biosegment_trainer.learning.network import LabelClass, NetworkConfig
from biosegment_trainer.learning.passes import PassSum
from biosegment_trainer.learning.probe import Probe, Wanted

from biosegment.errors import InvalidArgument

ONE_PASS = ("entropy", "least_confidence", "margin", "class_probability")


def evidence(*passes: tuple[float, ...], **more: torch.Tensor) -> Evidence:
    """One pixel, as seen by some passes."""
    total = PassSum(with_spread=True)
    for p in passes:
        total.add(torch.tensor(p).view(1, -1, 1, 1))
    return Evidence(**total.means(), **more)


def of(*probabilities: float, measures: Sequence[str] = ONE_PASS) -> dict[str, float]:
    seen = evidence(probabilities)
    return {name: MEASURES[name].compute(seen).item() for name in measures}


def test_certainty_scores_zero_and_is_safe_for_the_logarithm():
    found = of(1.0, 0.0, 0.0)
    assert found == {"entropy": 0, "least_confidence": 0, "margin": 0, "class_probability": 0}


def test_ignorance_scores_highest():
    found = of(1 / 3, 1 / 3, 1 / 3)
    assert found["entropy"] == pytest.approx(math.log(3), rel=1e-5)
    assert found["least_confidence"] == pytest.approx(2 / 3)
    assert found["margin"] == pytest.approx(1)


@pytest.mark.parametrize("p", [(0.2, 0.7, 0.1), (0.4, 0.6), (0.1, 0.2, 0.3, 0.4)])
def test_values_in_between_are_the_formulas(p):
    found, ranked = of(*p), sorted(p)
    assert found["entropy"] == pytest.approx(-sum(q * math.log(q) for q in p), rel=1e-5)
    assert found["least_confidence"] == pytest.approx(1 - ranked[-1])
    assert found["margin"] == pytest.approx(1 - (ranked[-1] - ranked[-2]))
    assert found["class_probability"] == pytest.approx(1 - p[0])


def test_entropy_is_weighted_by_the_probability_of_each_class():
    p = (0.2, 0.7, 0.1)
    cells = MEASURES["class_entropy"].compute(evidence(p)).flatten().tolist()
    entropy = -sum(q * math.log(q) for q in p)
    assert cells == pytest.approx([entropy * 0.7, entropy * 0.1], rel=1e-5)
    assert MEASURES["class_entropy"].channels(2) == 2


def test_passes_that_agree_in_their_doubt_have_no_mutual_information_and_those_that_contradict_have_most():
    bald, spread = MEASURES["mutual_information"].compute, MEASURES["disagreement"].compute
    doubt = evidence((0.5, 0.5), (0.5, 0.5))
    assert bald(doubt).item() == pytest.approx(0, abs=1e-6)
    assert spread(doubt).item() == pytest.approx(0, abs=1e-3)
    contradiction = evidence((1.0, 0.0), (0.0, 1.0))
    assert bald(contradiction).item() == pytest.approx(math.log(2), rel=1e-5)
    assert spread(contradiction).item() == pytest.approx(0.5, rel=1e-5)


def test_measures_of_passes_are_the_formulas_over_all_of_them():
    rng = np.random.default_rng(2)
    p = rng.dirichlet((1, 1, 1), 5)
    seen = evidence(*(tuple(row) for row in p))
    mean = p.mean(0)
    bald = -(mean * np.log(mean)).sum() + (p * np.log(p)).sum(1).mean()
    assert MEASURES["mutual_information"].compute(seen).item() == pytest.approx(bald, rel=1e-4)
    spread = math.sqrt(p.var(0).sum() / 2)
    assert MEASURES["disagreement"].compute(seen).item() == pytest.approx(spread, rel=1e-4)
    np.testing.assert_allclose(seen.probabilities.flatten(), mean, rtol=1e-5)


@pytest.mark.parametrize("classes", [1, 2])
def test_disagreement_of_slices_is_the_mean_total_variation_to_both_neighbours(classes):
    rng = np.random.default_rng(3)
    p, before, after = rng.dirichlet([1] * (1 + classes), 3)
    as_map = [torch.tensor(q, dtype=torch.float32).view(1, -1, 1, 1) for q in (before, after)]
    seen = evidence(tuple(p), before=as_map[0], after=as_map[1])
    expected = (abs(p - before).sum() / 2 + abs(p - after).sum() / 2) / 2
    assert MEASURES["slice_disagreement"].compute(seen).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "network",
    [
        NetworkConfig.unet((4, 8), (2,), 1),
        NetworkConfig.unet((4, 8), (2,), 0),
        NetworkConfig("SegResNet", arguments={"init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]}),
        NetworkConfig("UNet", 3, arguments={"channels": [4, 8], "strides": [2], "num_res_units": 1}),
    ],
    ids=lambda network: f"{network.family}{network.spatial_dims}",
)
def test_the_gradient_embedding_is_the_gradient_that_autograd_finds(network, make_model):
    model = make_model(network, (LabelClass(2, "a"), LabelClass(3, "b")))
    images = torch.randn(1, 1, *[8] * network.spatial_dims, generator=torch.Generator().manual_seed(1))
    module = model.build()
    convolutions = [m for m in module.modules() if isinstance(m, torch.nn.modules.conv._ConvNd)]
    logits = module(images)
    at: Any = (0, slice(None), *[3] * network.spatial_dims)
    loss = F.cross_entropy(logits[at].unsqueeze(0), logits[at].argmax().unsqueeze(0))
    gradients = torch.autograd.grad(loss, [m.weight for m in convolutions], allow_unused=True)
    # The last layer: of UNet's that the one which makes as many channels as there are classes, and comes last.
    last = [g for m, g in zip(convolutions, gradients, strict=True) if m.out_channels == 3][-1]
    with torch.no_grad():
        found, reach = Probe(model.build(), network, Wanted(reach=True))(images)
    p = torch.softmax(found, 1).flatten(2)
    seen = Evidence(p.unsqueeze(-1), reach=reach.flatten(2)[:, 0].unsqueeze(-1))
    norm = MEASURES["gradient_embedding"].compute(seen).view(images.shape[2:])[at[2:]]
    assert norm.item() == pytest.approx(last.norm().item(), rel=1e-3)


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
