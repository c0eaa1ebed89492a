"""Uncertainty strategies, from the probabilities of several passes to the order of windows, against baal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from biosegment_sampler.strategies import STRATEGIES, Passes
from biosegment_trainer.learning.measures import MEASURES, Evidence, pool
from biosegment_trainer.learning.passes import PassSum

from tests.unit.sampler.pool import candidates_of, order_of

BAAL = {
    "entropy": [0.525902, 0.735855, 0.504425, 0.610352, 0.673157, 0.463025, 0.645381, 0.874416],
    "mutual_information": [0.085413, 0.270293, 0.006265, 0.215664, 0.184744, 0.032556, 0.01963, 0.05531],
    "margin": [0.583142, 0.415535, 0.616476, 0.502015, 0.472848, 0.6424, 0.50505, 0.3164],
    "least_confidence": [0.768836, 0.666044, 0.787809, 0.724076, 0.701123, 0.802594, 0.719313, 0.593018],
}
"""What Entropy, BALD, Margin and Certainty (reduction="mean") of baal 2.1.0 say of `passes()`; of the last two less is
more uncertain."""
BAAL_ORDER = {
    "entropy": [7, 1, 4, 6, 3, 0, 2, 5],
    "bald": [1, 3, 4, 0, 7, 5, 6, 2],
    "margin": [7, 1, 4, 3, 6, 0, 2, 5],
    "least_confidence": [7, 1, 4, 6, 3, 0, 2, 5],
}


def passes() -> np.ndarray:
    """Probabilities (8 windows, 3 classes, 16, 16, 5 passes), of a generator whose numbers never change."""
    rng = np.random.RandomState(20)
    logits = rng.normal(0, 1, (8, 3, 16, 16, 1)) * rng.uniform(0.2, 4, (8, 1, 1, 1, 1))
    logits = logits + rng.normal(0, 1, (8, 3, 16, 16, 5)) * rng.uniform(0.1, 2, (8, 1, 1, 1, 1))
    p = np.exp(logits)
    return p / p.sum(1, keepdims=True)


def window_scores(measure: str) -> np.ndarray:
    """As the trainer computes and pools them: a window is a cell here."""
    total = PassSum(with_spread=True)
    for number in range(5):
        total.add(torch.from_numpy(passes()[..., number]).float())
    return pool(MEASURES[measure].compute(Evidence(**total.means()))).float().numpy().reshape(-1)


@pytest.mark.parametrize("name", ["entropy", "bald", "margin", "least_confidence"])
def test_windows_are_scored_and_ordered_as_by_baal(name: str) -> None:
    measure = STRATEGIES[name].measures[0]
    scores = window_scores(measure)
    theirs = np.array(BAAL[measure])
    expected = 1 - theirs if measure in ("margin", "least_confidence") else theirs
    assert scores == pytest.approx(expected, abs=1e-3)
    assert order_of(name, candidates_of({measure: scores})) == BAAL_ORDER[name]


@pytest.mark.parametrize("name", ["tta_disagreement", "slice_disagreement"])
def test_disagreement_is_ranked_highest_first(name: str) -> None:
    measure = STRATEGIES[name].measures[0]
    scores = [0.1, np.nan, 0.4, 0.2, 0.0]
    assert order_of(name, candidates_of({measure: scores})) == [2, 3, 0, 4]


def test_tta_disagreement_is_the_deviation_of_the_probabilities_over_the_passes() -> None:
    two_classes = passes()[:, :2]
    two_classes /= two_classes.sum(1, keepdims=True)
    total = PassSum(with_spread=True)
    for number in range(5):
        total.add(torch.from_numpy(two_classes[..., number]).float())
    scores = pool(MEASURES["disagreement"].compute(Evidence(**total.means()))).float().numpy().reshape(-1)
    expected = two_classes[:, 1].std(-1).mean((1, 2))
    assert scores == pytest.approx(expected, abs=1e-3)
    order = order_of("tta_disagreement", candidates_of({"disagreement": scores}))
    assert order == np.argsort(-expected).tolist()


def test_strategies_ask_for_the_passes_that_their_measures_compare() -> None:
    wanted = {name: strategy.passes for name, strategy in STRATEGIES.items() if strategy.passes}
    assert wanted == {
        "bald": Passes.DROPOUT,
        "power_bald": Passes.DROPOUT,
        "tta_disagreement": Passes.AUGMENTATION,
    }
    for strategy in STRATEGIES.values():
        for measure in strategy.measures:
            assert not MEASURES[measure].needs_passes or strategy.passes


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_every_strategy_names_its_paper(name: str) -> None:
    module = __import__(STRATEGIES[name].rank.__module__, fromlist=["rank"])
    for text in (str(module.__doc__), STRATEGIES[name].description):
        assert any(str(year) in text for year in range(1948, 2027)) or "arXiv" in text
    assert STRATEGIES[name].rank.__doc__
