"""Ways to choose that the platform does not have: what better knowledge of a model's mistakes would bring.

Two of them look at the truth of the pool, which nobody has before it is annotated: they bound what a better score of
the same kind can gain, and compete for nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from biosegment_sampler.domain.ranking import Ranking, by_score
from biosegment_sampler.strategies import Candidates, Strategy, find_strategy
from biosegment_trainer.learning.network import NetworkModel
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from benchmarks.active_learning.pixels import (
    Truth,
    Values,
    cell_means,
    entropy_of,
    probability_of,
    rim_of,
    truth_of,
)
from bundles.data import Stack


def entropy_off_outlines(probability: Values, _: Truth) -> Values:
    """Entropy that lies off the predicted outlines, where doubt is of where a structure ends and not of what it is."""
    return np.where(rim_of(probability > 0.5), 0.0, entropy_of(probability))


def calibrated_entropy(probability: Values, truth: Truth) -> Values:
    """Entropy at the temperature at which the pool's truth is likeliest (C. Guo et al., ICML 2017)."""
    return entropy_of(expit(logit(probability) / temperature(probability, truth)))


def known_errors(probability: Values, truth: Truth) -> Values:
    """How far the prediction is from the truth."""
    return np.abs(probability - truth)


def temperature(probability: Values, truth: Truth) -> float:
    """By which logits have to be divided for the truth to be likeliest; in 1/20 to 20."""
    logits, signs = logit(probability).ravel(), np.where(truth, -1.0, 1.0).ravel()

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0, signs * logits / np.exp(log_temperature)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-np.log(20), np.log(20)), method="bounded").x))


def score_map(name: str, model: NetworkModel, stack: Stack, factor: int, device: str) -> NDArray[np.float16]:
    """What a trial ranks by: means over score cells, (z, cells y, cells x)."""
    return cell_means(_MAPS[name](probability_of(model, stack, factor, device), truth_of(stack, factor)))


def find(name: str) -> Strategy:
    """A strategy of the platform, or a trial."""
    return TRIALS.get(name) or find_strategy(name)


def _trial(name: str, compute: Callable[[Values, Truth], Values]) -> Strategy:
    def rank(candidates: Candidates) -> Ranking:
        return by_score(candidates.scores[name], candidates.seed)

    return Strategy(name, (compute.__doc__ or "").strip(), rank, (name,))


_MAPS: Final[dict[str, Callable[[Values, Truth], Values]]] = {
    compute.__name__: compute for compute in (entropy_off_outlines, calibrated_entropy, known_errors)
}
TRIALS: Final = {name: _trial(name, compute) for name, compute in _MAPS.items()}
